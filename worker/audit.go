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

	auditItems = 64 // items that one look takes together
	auditLooks = 3  // at an item whose figures are wrong
	// auditMoneyOf is how far back an audit that is not full looks at the money: past the longest
	// pay timeout, so that whatever may still be paid is in it.
	auditMoneyOf = flashsale.PayTimeoutMax + flashsale.KeptAfterClose

	auditPauseMin = 25 * time.Millisecond
	auditPauseMax = 500 * time.Millisecond
)

// AuditLedger is the ledger of record as the auditor needs it.
type AuditLedger interface {
	// AuditItems returns a page of the items after an id, ascending: those that have not left
	// Redis for good, or all.
	AuditItems(ctx context.Context, after flashsale.ItemID, limit int, all bool) ([]flashsale.Item, error)
	// Examine reads an item and its orders in one snapshot. visit is called with an empty page as
	// soon as the snapshot stands, then with the orders in the order of their generations and
	// sequences. books.Unknown are those of the orders in asked that are not the item's.
	Examine(ctx context.Context, item flashsale.ItemID, asked []flashsale.OrderNo,
		visit func(books *flashsale.ItemBooks, page []flashsale.Order) error) (flashsale.ItemBooks, error)
	// LookUp returns those of the orders that the ledger holds.
	LookUp(ctx context.Context, orders []flashsale.OrderNo) (map[flashsale.OrderNo]flashsale.OwedOrder, error)
	// Owed returns how many effects on Redis are not carried out.
	Owed(ctx context.Context) (int64, error)
}

// AuditEngine reads what Redis holds of the items.
type AuditEngine interface {
	Item(ctx context.Context, item flashsale.ItemID) (engine.Account, error)
	// Buyers calls fn for every user who holds the item; whoever does throughout is seen.
	Buyers(ctx context.Context, item flashsale.ItemID, fn func(user string, orders []flashsale.Order) error) error
	// RaisedFlags returns which sold-out flags each node holds up.
	RaisedFlags(ctx context.Context) (map[string]engine.RaisedFlags, error)
	// Orders returns what a user holds of the items.
	Orders(ctx context.Context, user string, items []flashsale.ItemID) ([]flashsale.Order, error)
}

// Money adds up what was paid and given back, in all databases that hold some.
type Money interface {
	// Money reports contradictions a line each. What is under way may look like one: it counts
	// when two reports in a row have it. It looks at orders from a number on; 0: at all.
	Money(ctx context.Context, since flashsale.OrderNo) (flashsale.MoneyReport, error)
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
	// Settle is how long an audit waits for what is on its way before it calls it stuck.
	// Default 2 s.
	Settle time.Duration
}

func (c AuditorConfig) withDefaults() AuditorConfig {
	c.Partitions = cmp.Or(c.Partitions, 1)
	c.Settle = cmp.Or(c.Settle, DefaultSettle)
	return c
}

// AuditScope is what an audit looks at, and who hears how far it is.
type AuditScope struct {
	// Full takes the items too that have left Redis for good. Default: live items only.
	Full bool
	// Progress hears how far the audit is, after every page of orders. Default: nobody.
	Progress func(AuditProgress)
}

// AuditProgress is how far an audit is.
type AuditProgress struct {
	Items  int   `json:"items"`  // proved
	Orders int64 `json:"orders"` // of the ledger, read
}

// Auditor proves the invariants of the design.
//
// # How two stores are read at one instant
//
// They cannot be. The auditor reads in an order from which the proof follows:
//
//  1. the accounts in Redis, 2. the streams and the dead letters, 3. each item's orders and
//     what is owed, in one snapshot of the ledger, and with its first page 4. the item's account
//     again, 5. the item's buyers in Redis.
//
// # Conservation
//
// Invariant 3 adds up units that move all the time: a reservation moves them from the stock in
// Redis to the stream in one step; a commit makes them count in the ledger rather than in the
// stream; a cancellation makes the ledger owe them; a release moves them back to the stock, and
// a moment later the ledger strikes them off what it owes.
//
// What was accepted before 1 but is not in the stream at 2 was committed before, and is in the
// snapshot. Which of the orders of 2 are not, the snapshot itself tells. If the accounts of 1
// and 4 are the same nothing moved and the sum is exact as of 3. If not, the true sum lies
// between
//
//	the lower stock + units of the stream not in the snapshot + live   and
//	the higher stock + units of the stream not in the snapshot + live + owed,
//
// since at 3 the stock was between the two, and each unit that had left it for the stream after
// 2 counts in the higher stock. Units given back between 1 and 4 could have been taken again in
// between, so then both bounds widen by as many as can have come back. Last, a release may stand
// although its outbox row is not struck off yet, so that its units count twice: that is why the
// lower bound has nothing of what is owed but restocks, of which Redis tells the last.
//
// # Nothing confirmed is lost
//
// Each accepted order has a sequence in its generation, so those of the ledger, of the stream and
// of the dead letters are 1 to the sequence of 1, each once. An order that is in none of them
// was lost, or removed by somebody. For generations that are over there is a [flashsale.Seal].
//
// An order that is live in the ledger is among the buyers, and a buyer's order is in the ledger,
// in the stream or among the dead letters. That this moves needs no bounds: an order leaves the
// buyers only after it has ended in the ledger, and comes there before it is in the stream. So
// what 5 lacks of 3 is asked of the ledger once more, and is missing if it is still live; and
// what 5 has beyond 3 is looked for where it can have gone.
//
// A fault is reported when two looks in a row see it, so that what this argument overlooks does
// not wake an operator.
//
// # Cost
//
// The ledger reads each order of an item once, by the index on items, in statements of 10,000
// orders; Redis scans the item's buyers once; the auditor keeps 24 bytes for each live order of
// the item that it is looking at. An item that seems wrong is looked at again.
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

// Audit waits, for at most Settle, until nothing is on its way, and proves every invariant. The
// error tells that the audit could not be made; a broken invariant is in the report.
func (a *Auditor) Audit(ctx context.Context, scope AuditScope) (Report, error) {
	report, err := a.audit(ctx, scope)
	if err != nil {
		return Report{}, fmt.Errorf("audit: %w", err)
	}
	return report, nil
}

func (a *Auditor) audit(ctx context.Context, scope AuditScope) (Report, error) {
	r := newReporter()
	first, err := a.settle(ctx)
	if err != nil {
		return Report{}, err
	}
	progress := progress{tell: scope.Progress}
	for after := flashsale.ItemID(0); ; {
		items, err := a.config.Ledger.AuditItems(ctx, after, auditItems, scope.Full)
		if err != nil {
			return Report{}, err
		}
		if len(items) == 0 {
			break
		}
		after = items[len(items)-1].ID
		if err := a.prove(ctx, items, &progress, r.item); err != nil {
			return Report{}, err
		}
	}
	if err := a.proveMoney(ctx, scope.Full, r); err != nil {
		return Report{}, err
	}
	last, err := a.measure(ctx)
	if err == nil {
		err = a.count(ctx, &last)
	}
	if err != nil {
		return Report{}, err
	}
	later, err := a.measure(ctx)
	if err != nil {
		return Report{}, err
	}
	r.rest(first, last, later)
	flags, err := a.proveFlags(ctx)
	if err != nil {
		return Report{}, err
	}
	for _, line := range flags {
		r.byNumber[atRest].add(line)
	}
	return r.report(), nil
}

// settle waits until nothing is on its way, and returns what it saw first.
func (a *Auditor) settle(ctx context.Context) (first motion, err error) {
	deadline := time.Now().Add(a.config.Settle)
	for wait := auditPauseMin; ; wait = min(2*wait, auditPauseMax) {
		now, err := a.measure(ctx)
		if err != nil {
			return first, err
		}
		if first.partitions == nil {
			first = now
		}
		if now.left() == 0 || time.Now().After(deadline) {
			return first, nil
		}
		if pause(ctx, wait); ctx.Err() != nil {
			return first, ctx.Err()
		}
	}
}

// prove looks at the items until each is right, or wrong in the same way twice in a row, and then
// calls done with the last look and what is wrong.
func (a *Auditor) prove(ctx context.Context, items []flashsale.Item, progress *progress,
	done func(*examination, findings),
) error {
	var before map[flashsale.ItemID]findings
	for look := 1; len(items) > 0; look++ {
		seen, err := a.look(ctx, items, progress)
		if err != nil {
			return err
		}
		suspect := make(map[flashsale.ItemID]findings)
		again := items[:0:0]
		for n, e := range seen {
			confirmed := e.findings.confirmedBy(before[e.item.ID])
			if len(e.findings) > 0 && len(confirmed) == 0 && look < auditLooks {
				suspect[e.item.ID] = e.findings
				again = append(again, items[n])
				continue
			}
			done(e, confirmed)
			progress.item()
		}
		items, before = again, suspect
		if len(items) > 0 {
			pause(ctx, auditPauseMin)
		}
	}
	return nil
}

// look examines items one after another.
func (a *Auditor) look(ctx context.Context, items []flashsale.Item, progress *progress) ([]*examination, error) {
	seen := make([]*examination, len(items))
	var partitions []int
	for n, item := range items {
		account, err := a.account(ctx, item.ID)
		if err != nil {
			return nil, err
		}
		seen[n] = &examination{item: item, before: account}
		partitions = append(partitions, engine.Partition(item.ID, a.config.Partitions))
	}
	slices.Sort(partitions)
	waiting, err := a.readWaiting(ctx, slices.Compact(partitions))
	if err != nil {
		return nil, err
	}
	for _, e := range seen {
		e.stream, e.dead = waiting.stream[e.item.ID], waiting.dead[e.item.ID]
		if err := a.examine(ctx, e, progress); err != nil {
			return nil, fmt.Errorf("item %d: %w", e.item.ID, err)
		}
	}
	return seen, nil
}

// proveMoney is invariant 5. A contradiction that only one of two looks shows was a payment
// under way.
func (a *Auditor) proveMoney(ctx context.Context, full bool, r *reporter) error {
	if a.config.Money == nil {
		return nil
	}
	since := flashsale.FirstOrderNo(time.Now().Add(-auditMoneyOf))
	if full {
		since = 0
	}
	money, err := a.config.Money.Money(ctx, since)
	if err != nil {
		return err
	}
	if len(money.Broken) > 0 {
		pause(ctx, auditPauseMin)
		again, err := a.config.Money.Money(ctx, since)
		if err != nil {
			return err
		}
		again.Broken = slices.DeleteFunc(again.Broken, func(line string) bool {
			return !slices.Contains(money.Broken, line)
		})
		money = again
	}
	r.money(money)
	return nil
}

// seenAccount is an item's account, or why there is none.
type seenAccount struct {
	engine.Account
	there bool
	fault error // it is there, but cannot be read
}

func (a *Auditor) account(ctx context.Context, id flashsale.ItemID) (seen seenAccount, err error) {
	seen.Account, err = a.config.Engine.Item(ctx, id)
	switch {
	case err == nil:
		seen.there = true
	case errors.Is(err, engine.ErrUnreadable):
		return seenAccount{there: true, fault: err}, nil
	case !errors.Is(err, flashsale.ErrNotFound):
		return seen, err
	}
	return seen, nil
}

// progress tells how far an audit is.
type progress struct {
	AuditProgress
	tell func(AuditProgress)
}

func (p *progress) item()        { p.Items++; p.say() }
func (p *progress) orders(n int) { p.Orders += int64(n); p.say() }

func (p *progress) say() {
	if p.tell != nil {
		p.tell(p.AuditProgress)
	}
}
