package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flashsale"
)

// Defaults and bounds of Config.
const (
	DefaultBatchMax      = 512
	DefaultFlagTTL       = 500 * time.Millisecond
	DefaultIdleAfter     = 10 * time.Second
	DefaultInFlight      = 2
	DefaultLanesMax      = 100_000
	DefaultLeaseTTL      = 6 * time.Hour
	DefaultQueueMax      = 16_384
	DefaultScriptTimeout = 2 * time.Second
	DefaultSessionTTL    = 10 * time.Minute
	DefaultSessionsMax   = 1_000_000
	DefaultStreamMax     = 5_000_000

	BatchLimit      = 1000 // what lua/reserve.lua promises to take
	PartitionsLimit = 1024
	SessionKeyMin   = 16
	// SessionTTLUntracked is how long a session is served from memory where Redis may not tell of its
	// end.
	SessionTTLUntracked = 10 * time.Second
	ScriptTimeoutMin    = 10 * time.Millisecond
)

// Config configures an [Engine]. The zero value of each field but RedisURL means its default.
type Config struct {
	// BatchMax is how many requests one script call carries at most. Default 512, at most
	// 1,000. 1 turns group commit off; only a benchmark wants that.
	BatchMax int
	// FlagTTL is how long a sold-out flag answers before one request probes, less up to a
	// fifth of jitter. It bounds how late a node sells again when pub/sub is lost. Default
	// 500 ms.
	FlagTTL time.Duration
	// IdleAfter is how long a lane stays without a request. Default 10 s.
	IdleAfter time.Duration
	// InFlight is how many script calls of one lane run at once. Default 2: one is decided by
	// Redis while the replies of the other are handed out. More makes batches smaller.
	InFlight int
	// Items lists the items that there are, such as those whose sales are not long over: requests
	// for others are answered ItemNotFound, without Redis. It is asked when an id comes that is not
	// known, 20 times a second at most; while it fails every id may be an item. Default: any id may.
	Items func(context.Context) ([]flashsale.ItemID, error)
	// LanesMax is how many items may have a queue at once; requests for more are answered
	// Overloaded. It bounds memory where Items cannot tell. Default 100,000.
	LanesMax int
	// LeaseTTL is how long a node goes on numbering orders while the Registry is away, and how
	// long at most its id stays taken after its process has died. A node that has just started
	// holds its id for 10 min, and ten times as long as it has run from then on. Default 6 h.
	LeaseTTL time.Duration
	// Logger receives what an operator should know. Default: discarded.
	Logger *slog.Logger
	// Partitions is over how many hash tags the items are spread. Stored in the Registry by
	// the first node; another number is refused. Default: what is stored, else 1 on a single
	// Redis and 64 on a cluster.
	Partitions int
	// Passive is for tools that look and repair: no node id is leased, so no order can be
	// accepted ([Engine.Reserve] answers NotReady) and no number made.
	Passive bool
	// QueueMax is how many requests wait in a lane; more are answered Overloaded.
	// Default 16,384.
	QueueMax int
	// RedisURL is read by package redisurl. Required.
	RedisURL string
	// Registerer receives the metrics. Default: none.
	Registerer prometheus.Registerer
	// Registry remembers what must not be forgotten with Redis: node ids and the number of
	// partitions. All processes share one. Required.
	Registry Registry
	// ScriptTimeout bounds each call to Redis; after it the outcome is unknown. Default 2 s.
	ScriptTimeout time.Duration
	// SessionKey, if there is one, makes every token carry a checksum under it, so that made-up ones
	// are refused without asking Redis: a token is then "<random>.<checksum>", the checksum being the
	// first 16 bytes of HMAC-SHA256 of the random part, in hex. "": tokens are what they like.
	SessionKey string
	// SessionTTL bounds how long a session is served from memory although Redis invalidates
	// it at once when it changes. Default 10 min.
	SessionTTL time.Duration
	// SessionsMax is how many sessions are kept in memory. Default 1,000,000 (about 200 MB
	// when full).
	SessionsMax int
	// StreamMax is how many entries may wait in a partition's stream for the worker before
	// requests are answered Overloaded. Default 5,000,000 (about 500 MB of Redis memory).
	StreamMax int64
}

func (c Config) withDefaults() Config {
	c.BatchMax = cmp.Or(c.BatchMax, DefaultBatchMax)
	c.FlagTTL = cmp.Or(c.FlagTTL, DefaultFlagTTL)
	c.IdleAfter = cmp.Or(c.IdleAfter, DefaultIdleAfter)
	c.InFlight = cmp.Or(c.InFlight, DefaultInFlight)
	c.LanesMax = cmp.Or(c.LanesMax, DefaultLanesMax)
	c.LeaseTTL = cmp.Or(c.LeaseTTL, DefaultLeaseTTL)
	c.QueueMax = cmp.Or(c.QueueMax, DefaultQueueMax)
	c.ScriptTimeout = cmp.Or(c.ScriptTimeout, DefaultScriptTimeout)
	c.SessionTTL = cmp.Or(c.SessionTTL, DefaultSessionTTL)
	c.SessionsMax = cmp.Or(c.SessionsMax, DefaultSessionsMax)
	c.StreamMax = cmp.Or(c.StreamMax, int64(DefaultStreamMax))
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.RedisURL == "":
		return errors.New("engine: RedisURL is required, such as redis://127.0.0.1:6379")
	case c.Registry == nil:
		return errors.New("engine: Registry is required: a ledger of package postgres, or NewMemoryRegistry for a single process")
	case c.BatchMax < 1 || c.BatchMax > BatchLimit:
		return fmt.Errorf("engine: BatchMax must be from 1 to %d, not %d", BatchLimit, c.BatchMax)
	case c.FlagTTL < 0:
		return fmt.Errorf("engine: FlagTTL must not be negative, but is %s", c.FlagTTL)
	case c.IdleAfter < 0:
		return fmt.Errorf("engine: IdleAfter must not be negative, but is %s", c.IdleAfter)
	case c.InFlight < 1:
		return fmt.Errorf("engine: InFlight must be at least 1, not %d", c.InFlight)
	case c.LanesMax < 1:
		return fmt.Errorf("engine: LanesMax must be at least 1, not %d", c.LanesMax)
	case c.LeaseTTL < time.Second:
		return fmt.Errorf("engine: LeaseTTL must be at least 1s, not %s", c.LeaseTTL)
	case c.Partitions < 0 || c.Partitions > PartitionsLimit:
		return fmt.Errorf("engine: Partitions must be from 0 to %d, not %d", PartitionsLimit, c.Partitions)
	case c.QueueMax < c.BatchMax:
		return fmt.Errorf("engine: QueueMax must be at least BatchMax %d, not %d", c.BatchMax, c.QueueMax)
	case c.ScriptTimeout < ScriptTimeoutMin:
		return fmt.Errorf("engine: ScriptTimeout must be at least %s, not %s", ScriptTimeoutMin, c.ScriptTimeout)
	case c.SessionTTL < 0 || c.SessionsMax < 1:
		return fmt.Errorf("engine: SessionTTL and SessionsMax must be positive, not %s and %d", c.SessionTTL, c.SessionsMax)
	case c.SessionKey != "" && len(c.SessionKey) < SessionKeyMin:
		return fmt.Errorf("engine: SessionKey must have at least %d characters", SessionKeyMin)
	case c.StreamMax < 1:
		return fmt.Errorf("engine: StreamMax must be at least 1, not %d", c.StreamMax)
	}
	return nil
}
