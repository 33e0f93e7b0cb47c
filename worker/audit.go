package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
)

// Defaults of AuditorConfig.
const (
	DefaultSettle = 2 * time.Second

	auditPage      = 1000   // entries a call of XRANGE
	auditKnownPage = 10_000 // order numbers a question to the ledger
	auditPauseMin  = 25 * time.Millisecond
	auditPauseMax  = 500 * time.Millisecond
)

// AuditLedger is the ledger of record as the auditor needs it.
type AuditLedger interface {
	// Figures returns the figures of all items in one snapshot.
	Figures(ctx context.Context) (flashsale.Figures, error)
	// Known returns those of the orders that the ledger holds, with their states.
	Known(ctx context.Context, orders []flashsale.OrderNo) (map[flashsale.OrderNo]flashsale.Status, error)
}

// AuditEngine reads the accounts in Redis.
type AuditEngine interface {
	Item(ctx context.Context, item flashsale.ItemID) (engine.Account, error)
}

// Money adds up what was paid and given back, in all databases that hold some.
type Money interface {
	// Money reports contradictions a line each. What is under way may look like one: it counts
	// when two reports in a row have it.
	Money(ctx context.Context) (flashsale.MoneyReport, error)
}

// AuditorConfig configures an [Auditor].
type AuditorConfig struct {
	// Engine reads the accounts. Required.
	Engine AuditEngine
	// Ledger is the ledger of record. Required.
	Ledger AuditLedger
	// Money adds up what was paid. nil: invariant 5 is left out.
	Money Money
	// Partitions is how many streams there are. Default 1.
	Partitions int
	// RedisURL is that of the worker. Required.
	RedisURL string
	// Settle is how long an audit waits for what is on its way before it calls it stuck, and
	// looks again before it calls anything broken. Default 2 s.
	Settle time.Duration
}

func (c AuditorConfig) withDefaults() AuditorConfig {
	c.Partitions = cmp.Or(c.Partitions, 1)
	c.Settle = cmp.Or(c.Settle, DefaultSettle)
	return c
}

// Auditor proves the invariants 1, 2, 3, 5 and 6 of the design.
//
// # How two stores are read at one instant
//
// They cannot be. Invariant 3 adds up units that move all the time: a reservation moves them
// from the stock in Redis to the stream in one step; a commit makes them count in the ledger
// rather than in the stream; a cancellation makes the ledger owe them; a release moves them
// back to the stock, and a moment later the ledger strikes them off what it owes. So the
// auditor reads in an order from which the sum follows, up to bounds that it knows:
//
//  1. the accounts in Redis, 2. the stream, 3. which of its orders the ledger knows,
//  4. the ledger's figures in one snapshot, 5. again which orders it knows,
//  6. again the accounts.
//
// The ledger never forgets an order. What it did not know at 5 is not in the figures; what it
// knew at 3 is; and what was accepted before 1 but is not in the stream was committed before
// 2 and is in the figures. If the accounts of 1 and 6 are the same, and so are the answers of
// 3 and 5, nothing moved and the sum is exact as of 4. If not, the true sum lies between
//
//	the lower stock + units unknown at 5 + live + owed   and
//	the higher stock + units unknown at 3 + live + owed,
//
// since at 4 the stock was between the two, each unit that had left it for the stream after 2
// counts in the higher stock, and each commit between 3 and 5 in the units unknown at 3. Units
// given back between 1 and 6 could have been taken again in between, so then both bounds
// widen by as many as can have come back. Last, a release may stand although its outbox row
// is not struck off yet, so that its units count twice: the lower bound is reduced by what is
// owed. With an empty outbox and nothing moving both bounds are the sum.
//
// A total outside of the bounds is a gap. It is reported when it is seen in two samples in a
// row, so that what this argument overlooks does not wake an operator. During a sale the
// bounds are wide; at rest they are exact, and any gap is found then at the latest.
type Auditor struct {
	config AuditorConfig
	client redis.UniversalClient
}

// NewAuditor returns an auditor of its own, for use without a worker. Close it afterwards.
func NewAuditor(config AuditorConfig) (*Auditor, error) {
	config = config.withDefaults()
	switch {
	case config.RedisURL == "":
		return nil, errors.New("auditor: RedisURL is required")
	case config.Ledger == nil || config.Engine == nil:
		return nil, errors.New("auditor: Ledger and Engine are required")
	case config.Partitions < 1 || config.Settle < 0:
		return nil, fmt.Errorf("auditor: Partitions and Settle must be positive, not %d and %s",
			config.Partitions, config.Settle)
	}
	client, err := newClient(config.RedisURL, poolSpare)
	if err != nil {
		return nil, err
	}
	return newAuditor(config, client), nil
}

func newAuditor(config AuditorConfig, client redis.UniversalClient) *Auditor {
	return &Auditor{config: config, client: client}
}

// Close closes the connections.
func (a *Auditor) Close() error { return a.client.Close() }

// Audit takes samples until every invariant holds and all is at rest, or Settle is over, and
// at least two before it calls anything broken. The error tells that the audit could not be made; a broken invariant is
// in the report.
func (a *Auditor) Audit(ctx context.Context) (Report, error) {
	deadline := time.Now().Add(a.config.Settle)
	first, err := a.sample(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("audit: %w", err)
	}
	report := first.judge(nil, nil)
	previous, wait := first, auditPauseMin
	for !report.OK || report.Moving {
		if previous != first && time.Now().After(deadline) {
			break
		}
		pause(ctx, wait)
		wait = min(2*wait, auditPauseMax)
		next, err := a.sample(ctx)
		if err != nil {
			return Report{}, fmt.Errorf("audit: %w", err)
		}
		report = next.judge(previous, first)
		previous = next
	}
	return report, nil
}

// sample is one look at everything, in the order that the argument above needs.
type sample struct {
	before, after map[flashsale.ItemID]engine.Account // those that Redis has
	figures       flashsale.Figures
	unknownBefore map[flashsale.ItemID]int64 // units in the stream that the ledger did not know
	unknownAfter  map[flashsale.ItemID]int64
	stream        streamSample
	money         *flashsale.MoneyReport // nil: not looked at
}

// streamSample is what the streams of all partitions hold.
type streamSample struct {
	units      []streamUnits
	unreadable int    // entries that are no orders
	oldest     string // ids of the oldest entry of each partition
	pending    int64
	dead       int64
}

// streamUnits is an entry as the sum needs it.
type streamUnits struct {
	order flashsale.OrderNo
	item  flashsale.ItemID
	units int64
}

func (a *Auditor) sample(ctx context.Context) (*sample, error) {
	items, err := a.config.Ledger.Figures(ctx) // only for which items there are
	if err != nil {
		return nil, err
	}
	s := &sample{}
	if s.before, err = a.accounts(ctx, items.Items); err != nil {
		return nil, err
	}
	if s.stream, err = a.readStreams(ctx); err != nil {
		return nil, err
	}
	if s.unknownBefore, err = a.unknown(ctx, s.stream.units); err != nil {
		return nil, err
	}
	if s.figures, err = a.config.Ledger.Figures(ctx); err != nil {
		return nil, err
	}
	if s.unknownAfter, err = a.unknown(ctx, s.stream.units); err != nil {
		return nil, err
	}
	if s.after, err = a.accounts(ctx, items.Items); err != nil {
		return nil, err
	}
	if a.config.Money != nil {
		money, err := a.config.Money.Money(ctx)
		if err != nil {
			return nil, err
		}
		s.money = &money
	}
	return s, nil
}

func (a *Auditor) accounts(ctx context.Context, items []flashsale.ItemFigures) (map[flashsale.ItemID]engine.Account, error) {
	accounts := make(map[flashsale.ItemID]engine.Account, len(items))
	for _, item := range items {
		account, err := a.config.Engine.Item(ctx, item.ID)
		switch {
		case err == nil:
			accounts[item.ID] = account
		case !errors.Is(err, flashsale.ErrNotFound):
			return nil, err
		}
	}
	return accounts, nil
}

func (a *Auditor) readStreams(ctx context.Context) (s streamSample, err error) {
	for p := range a.config.Partitions {
		if err := a.readStream(ctx, p, &s); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (a *Auditor) readStream(ctx context.Context, partition int, s *streamSample) error {
	key := engine.OrdersKey(partition)
	var page batch
	for after := "-"; ; {
		r, err := do(ctx, a.client, "xrange", key, after, "+", "count", auditPage)
		if err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		page.reset()
		if err := page.readEntries(&r); err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		if page.last == "" {
			break
		}
		if after == "-" {
			s.oldest += page.first + " "
		}
		for _, order := range page.orders {
			s.units = append(s.units, streamUnits{order.OrderNo, order.ItemID, int64(order.Quantity)})
		}
		s.unreadable += len(page.bad)
		after = "(" + page.last
	}
	pending, err := a.client.XPending(ctx, key, engine.Group).Result()
	switch {
	case err == nil:
		s.pending += pending.Count
	case !isNoGroup(err): // without a group nothing is pending
		return fmt.Errorf("pending entries of %s: %w", key, err)
	}
	dead, err := a.client.XLen(ctx, engine.DeadKey(partition)).Result()
	if err != nil {
		return fmt.Errorf("length of %s: %w", engine.DeadKey(partition), err)
	}
	s.dead += dead
	return nil
}

// unknown adds up by item the units of the orders that the ledger does not know.
func (a *Auditor) unknown(ctx context.Context, entries []streamUnits) (map[flashsale.ItemID]int64, error) {
	units := make(map[flashsale.ItemID]int64)
	for page := range slices.Chunk(entries, auditKnownPage) {
		orders := make([]flashsale.OrderNo, len(page))
		for i, e := range page {
			orders[i] = e.order
		}
		known, err := a.config.Ledger.Known(ctx, orders)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if _, ok := known[e.order]; !ok {
				units[e.item] += e.units
			}
		}
	}
	return units, nil
}
