package worker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flashsale"
)

// Defaults and bounds of Config.
const (
	DefaultAuditEvery      = time.Minute
	DefaultBatchSize       = 1000
	DefaultBlock           = 250 * time.Millisecond
	DefaultCancelEvery     = time.Second
	DefaultClaimEvery      = 5 * time.Second
	DefaultClaimMinIdle    = time.Minute
	DefaultConsumerIdleMax = 24 * time.Hour
	DefaultFlushTimeout    = 10 * time.Second
	DefaultGuardEvery      = time.Second
	DefaultLinger          = 5 * time.Millisecond
	DefaultPersistTimeout  = 30 * time.Second
	DefaultPreheatBefore   = 5 * time.Minute
	DefaultRelayEvery      = 250 * time.Millisecond
	DefaultRetireEvery     = time.Minute

	BatchSizeMax     = 5000 // what lua/ack.lua promises to take
	BlockMax         = time.Second
	PreheatBeforeMin = 5 * time.Second
)

// Config configures a [Worker]. The zero value of each field means its default, but Engine,
// Ledger and RedisURL are required.
type Config struct {
	// AuditEvery is how often the conservation metrics are computed; negative: never.
	// Default 1 min.
	AuditEvery time.Duration
	// BatchSize is how many orders one transaction carries at most. Default 1,000, at most
	// 5,000.
	BatchSize int
	// Block is how long one read waits in Redis for entries, and so how long a stop may take
	// to be noticed. Default 250 ms, at most 1 s.
	Block time.Duration
	// CancelEvery is the longest time between two looks for unpaid orders. Default 1 s, which
	// is the shortest pay timeout: so no deadline passes unseen, whichever worker persisted it.
	CancelEvery time.Duration
	// ClaimEvery is how often entries of dead consumers are looked for. Default 5 s.
	ClaimEvery time.Duration
	// ClaimMinIdle is how long an entry must have been in the hands of a consumer before
	// another takes it. It must exceed PersistTimeout, or slow batches are done twice.
	// Default 1 min.
	ClaimMinIdle time.Duration
	// Consumer names this worker among the consumers. It should stay the same over restarts,
	// so that a worker finds what it left behind, and be unique. Default: the host's name.
	Consumer string
	// ConsumerIdleMax is how long a consumer with nothing pending may be unheard of before it
	// is deleted. Default 24 h.
	ConsumerIdleMax time.Duration
	// Engine carries out on Redis what the ledger owes it. Required.
	Engine Engine
	// FlushTimeout bounds how long a stop may take to persist what is in hand. What cannot be
	// persisted in time stays pending in Redis. Default 10 s.
	FlushTimeout time.Duration
	// GuardEvery is how often the items in Redis are compared with what the ledger has seen of
	// them, to find a Redis that lost its memory; a new connection makes the guardian look at
	// once. Negative: never, and then nobody vouches for a Redis that has restarted. Default 1 s.
	GuardEvery time.Duration
	// Ledger is the ledger of record. Required.
	Ledger Ledger
	// Linger is how long a batch that is not full waits for more entries, counted from its
	// first; negative: not at all. Default 5 ms.
	Linger time.Duration
	// Logger receives what an operator should know. Default: discarded.
	Logger *slog.Logger
	// Money adds up what was paid, for the audit of the money. nil: it is left out.
	Money Money
	// OnResults hears of every result after its commit, in the goroutine of the consumer: it
	// must return at once and must not keep the slice. Default: nobody.
	OnResults func([]flashsale.Result)
	// Partitions is how many streams there are: [engine.Engine.Partitions]. Default 1.
	Partitions int
	// PauseOnOversell pauses an item that the audit finds oversold, or with more units on sale
	// than there are, until an operator resumes it. Default true; new(false) only raises the
	// alarm.
	PauseOnOversell *bool
	// PersistTimeout bounds one transaction. Default 30 s.
	PersistTimeout time.Duration
	// PreheatBefore is how long before its opening a sale is loaded into Redis; negative: never,
	// sales are loaded by hand. Default 5 min, at least 5 s.
	PreheatBefore time.Duration
	// RedisURL is read by package redisurl. Required.
	RedisURL string
	// Registerer receives the metrics. Default: none.
	Registerer prometheus.Registerer
	// RelayEvery is how often the outbox is read when nothing wakes the relay. Default 250 ms.
	RelayEvery time.Duration
	// RetireEvery is how often items that closed a day ago are looked for, to take them out of
	// Redis; negative: never. Default 1 min.
	RetireEvery time.Duration
	// Trades ends payments under way before their orders are cancelled. nil: there are none.
	Trades Trades
}

func (c Config) withDefaults() Config {
	c.AuditEvery = cmp.Or(c.AuditEvery, DefaultAuditEvery)
	c.BatchSize = cmp.Or(c.BatchSize, DefaultBatchSize)
	c.Block = cmp.Or(c.Block, DefaultBlock)
	c.CancelEvery = cmp.Or(c.CancelEvery, DefaultCancelEvery)
	c.ClaimEvery = cmp.Or(c.ClaimEvery, DefaultClaimEvery)
	c.ClaimMinIdle = cmp.Or(c.ClaimMinIdle, DefaultClaimMinIdle)
	c.ConsumerIdleMax = cmp.Or(c.ConsumerIdleMax, DefaultConsumerIdleMax)
	c.FlushTimeout = cmp.Or(c.FlushTimeout, DefaultFlushTimeout)
	c.GuardEvery = cmp.Or(c.GuardEvery, DefaultGuardEvery)
	c.Linger = cmp.Or(c.Linger, DefaultLinger)
	c.Partitions = cmp.Or(c.Partitions, 1)
	c.PauseOnOversell = cmp.Or(c.PauseOnOversell, new(true))
	c.PersistTimeout = cmp.Or(c.PersistTimeout, DefaultPersistTimeout)
	c.PreheatBefore = cmp.Or(c.PreheatBefore, DefaultPreheatBefore)
	c.RelayEvery = cmp.Or(c.RelayEvery, DefaultRelayEvery)
	c.RetireEvery = cmp.Or(c.RetireEvery, DefaultRetireEvery)
	if c.Consumer == "" {
		c.Consumer, _ = os.Hostname() // an empty name is refused below
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnResults == nil {
		c.OnResults = func([]flashsale.Result) {}
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.RedisURL == "":
		return errors.New("worker: RedisURL is required, such as redis://127.0.0.1:6379")
	case c.Ledger == nil:
		return errors.New("worker: Ledger is required")
	case c.Engine == nil:
		return errors.New("worker: Engine is required")
	case c.Consumer == "":
		return errors.New("worker: Consumer is required where the host has no name")
	case c.BatchSize < 1 || c.BatchSize > BatchSizeMax:
		return fmt.Errorf("worker: BatchSize must be from 1 to %d, not %d", BatchSizeMax, c.BatchSize)
	case c.Block < time.Millisecond || c.Block > BlockMax:
		return fmt.Errorf("worker: Block must be from 1ms to %s, not %s", BlockMax, c.Block)
	case c.CancelEvery < 0 || c.ClaimEvery < 0 || c.RelayEvery < 0:
		return fmt.Errorf("worker: CancelEvery, ClaimEvery and RelayEvery must be positive, not %s, %s and %s",
			c.CancelEvery, c.ClaimEvery, c.RelayEvery)
	case c.PersistTimeout < 0 || c.FlushTimeout < 0 || c.ConsumerIdleMax < 0:
		return fmt.Errorf("worker: PersistTimeout, FlushTimeout and ConsumerIdleMax must be positive, not %s, %s and %s",
			c.PersistTimeout, c.FlushTimeout, c.ConsumerIdleMax)
	case c.ClaimMinIdle <= c.PersistTimeout:
		return fmt.Errorf("worker: ClaimMinIdle %s must exceed PersistTimeout %s", c.ClaimMinIdle, c.PersistTimeout)
	case c.PreheatBefore >= 0 && c.PreheatBefore < PreheatBeforeMin:
		return fmt.Errorf("worker: PreheatBefore must be at least %s, or negative for never, not %s",
			PreheatBeforeMin, c.PreheatBefore)
	case c.Partitions < 1:
		return fmt.Errorf("worker: Partitions must be at least 1, not %d", c.Partitions)
	}
	return nil
}
