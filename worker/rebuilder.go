package worker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
)

const (
	// guardianLock is held by whoever fences items.
	guardianLock = "guardian"
	// drainPoll is how often the stream is looked at behind a fence.
	drainPoll = 25 * time.Millisecond
	// rebuildLockPoll is how often a rebuild by hand asks for the lock.
	rebuildLockPoll = 250 * time.Millisecond
)

// ErrNotLoaded is returned for an item that was never loaded into Redis: there is nothing to
// rebuild, it is to be preheated.
var ErrNotLoaded = errors.New("never loaded into redis: preheat it")

// RebuildLedger is the ledger of record as a rebuild needs it.
type RebuildLedger interface {
	// Rebuild calls fn with what the ledger holds of the item, in one transaction in which the
	// item's row is locked, so that no order of it is persisted or ended meanwhile, and in which
	// no relay is at work. If fn returns true the transaction raises the generation by one, sets
	// the sequence to 0 and deletes the item's outbox rows: their effects are part of what fn
	// was given. Otherwise it changes nothing. [flashsale.ErrNotFound] for an unknown item.
	Rebuild(ctx context.Context, id flashsale.ItemID,
		fn func(state flashsale.RebuildState) (rebuilt bool, err error)) error
	// Rebuildable returns what Rebuild would hand out, from one snapshot, and locks nothing.
	Rebuildable(ctx context.Context, id flashsale.ItemID) (flashsale.RebuildState, error)
}

// RebuildEngine is Redis' side of the engine as a rebuild needs it.
type RebuildEngine interface {
	Buyers(ctx context.Context, item flashsale.ItemID, fn func(user string, orders []flashsale.Order) error) error
	Fence(ctx context.Context, item flashsale.ItemID, token string) (*engine.Fence, error)
	Item(ctx context.Context, item flashsale.ItemID) (engine.Account, error)
	Vouched(ctx context.Context, item flashsale.ItemID) (bool, error)
}

// rebuilder writes items of Redis anew from the ledger.
//
// # One rebuild
//
//  1. The fence takes the item off sale. From then on nothing changes it in Redis.
//  2. The stream is drained: every entry that Redis still holds of the item is persisted by the
//     consumers, or refused, as always. If the ledger is away this waits, behind the fence.
//  3. What Redis holds is read.
//  4. The ledger locks the item, compares, and commits the next generation.
//  5. Redis is written as the ledger was at 4, and the item opens in that generation.
//
// # Why it never oversells and forgets no confirmed buyer
//
// Redis opens with the stock and the buyers of one transaction. A confirmed order is in that
// transaction, and so among the buyers, or it is persisted later. Later means: from an entry
// that a worker has in hand although Redis has lost it, for everything in the stream was
// drained at 2. Such an entry is of an older generation than the one that 4 committed, so the
// ledger rejects it with the reason "rebuilt" and its units, which Redis does not count, are
// nobody's. That is why the generation is committed before Redis sells in it, and why it is
// never used twice. What was pending in a Redis that lost it is gone: it was never confirmed.
//
// What ends or adds units after 4 owes it to Redis by an outbox row of its own; the relay waits
// for the item to open, and finds there the order to release and a restock number below its
// own. Rows from before 4 are included in the stock and are deleted with the commit; no relay
// has them in hand, since none was at work.
//
// Above all this stands the ledger's own guard: it cannot take more units than there are.
//
// # Death at any point
//
// Until 5 is complete the item stays behind the fence. Whoever looks next takes the fence over
// and starts at 1; the dead one, should it be alive after all, finds its token gone and changes
// nothing more in Redis. Died after 4, the item gets another generation. A generation without
// an opening does no harm.
type rebuilder struct {
	engine  RebuildEngine
	ledger  RebuildLedger
	log     *slog.Logger
	metrics *metrics
}

// suspect is an item that Redis may have wrong.
type suspect struct {
	item   flashsale.ItemID
	reason string
	// force gives the item a new generation even if it is found intact. Equal is not enough
	// when Redis may have lost writes: a worker may have in hand, and persist later, entries that
	// a Redis that was rolled back to just before them no longer knows of.
	force bool

	fence *engine.Fence
}

// rebuild takes the suspects off sale, all of them first, and puts each on sale again once its
// stream is drained. It waits until ctx ends; a rebuild that has started is completed while
// work lasts. One item's fault does not keep the others.
func (r *rebuilder) rebuild(ctx, work context.Context, suspects []suspect) (differences []Difference, err error) {
	var faults []error
	var waiting []suspect
	for _, s := range suspects {
		if s.fence, err = r.engine.Fence(work, s.item, rand.Text()); err != nil {
			faults = append(faults, err)
			continue
		}
		r.log.Info("item is off sale until it is compared with the ledger", "item", s.item, "reason", s.reason)
		waiting = append(waiting, s)
	}
	for len(waiting) > 0 {
		still := waiting[:0]
		for _, s := range waiting {
			drained, err := s.fence.Drained(work)
			if err == nil && !drained {
				still = append(still, s)
				continue
			}
			if err == nil {
				var d Difference
				if d, err = r.finish(work, s); err == nil {
					differences = append(differences, d)
				}
			}
			if err != nil {
				faults = append(faults, fmt.Errorf("rebuild item %d: %w", s.item, err))
			}
		}
		if waiting = still; len(waiting) == 0 {
			break
		}
		pause(ctx, drainPoll)
		if err := cmp.Or(ctx.Err(), context.Cause(work)); err != nil {
			faults = append(faults, fmt.Errorf("%d items wait for entries to be persisted: %w", len(waiting), err))
			break
		}
	}
	return differences, errors.Join(faults...)
}

// finish compares a drained item and opens it.
func (r *rebuilder) finish(ctx context.Context, s suspect) (Difference, error) {
	redis, err := r.read(ctx, s.item)
	if err != nil {
		return Difference{}, err
	}
	var state flashsale.RebuildState
	var difference Difference
	renew := false
	err = r.ledger.Rebuild(ctx, s.item, func(ledger flashsale.RebuildState) (bool, error) {
		state, difference = ledger, compare(redis, ledger)
		renew = s.force || !difference.Intact()
		return renew, nil
	})
	if err != nil {
		return Difference{}, err
	}
	difference.Fenced = true
	if !renew {
		r.log.Info("item is intact and on sale again", "item", s.item, "generation", difference.Generation)
		return difference, s.fence.Lift(ctx, state.Item)
	}
	item := state.Item
	item.Generation++
	orders := slices.DeleteFunc(state.Orders, func(o flashsale.Order) bool { return !o.Status.Live() })
	if err := s.fence.Open(ctx, item, orders, state.Restock); err != nil {
		return Difference{}, err
	}
	difference.Rebuilt = item.Generation
	r.metrics.rebuilt.Inc()
	level := slog.LevelWarn
	if difference.Intact() {
		level = slog.LevelInfo // rebuilt to be safe; nothing was lost
	}
	r.log.Log(ctx, level, "item is rebuilt and on sale again", "item", s.item, "difference", difference.String())
	return difference, nil
}

// read takes what Redis holds of an item. Nothing, or nothing of ours, is an answer too.
func (r *rebuilder) read(ctx context.Context, id flashsale.ItemID) (item redisItem, err error) {
	item.orders = make(map[flashsale.OrderNo]flashsale.Order)
	item.account, err = r.engine.Item(ctx, id)
	if err == nil || errors.Is(err, flashsale.ErrNotFound) {
		err = r.engine.Buyers(ctx, id, func(_ string, orders []flashsale.Order) error {
			for _, order := range orders {
				item.orders[order.OrderNo] = order
			}
			return nil
		})
	}
	if errors.Is(err, engine.ErrUnreadable) {
		return redisItem{unreadable: true}, nil
	}
	return item, err
}

// peek compares an item without a fence and without a lock.
func (r *rebuilder) peek(ctx context.Context, id flashsale.ItemID) (difference Difference, err error) {
	redis, err := r.read(ctx, id)
	if err != nil {
		return difference, err
	}
	ledger, err := r.ledger.Rebuildable(ctx, id)
	switch {
	case err != nil:
		return difference, err
	case ledger.Item.Generation == 0:
		return difference, ErrNotLoaded
	}
	return compare(redis, ledger), nil
}

// RebuilderConfig configures a [Rebuilder].
type RebuilderConfig struct {
	// Engine is Redis' side. Required.
	Engine RebuildEngine
	// Force writes an item anew even if it is intact.
	Force bool
	// Ledger is the ledger of record. Required.
	Ledger RebuildLedger
	// Logger receives what an operator should know. Default: discarded.
	Logger *slog.Logger
	// RedisURL is that of the worker. Required.
	RedisURL string
}

// Rebuilder rebuilds items by hand. Close it afterwards.
type Rebuilder struct {
	core   *rebuilder
	force  bool
	client redis.UniversalClient
	locks  *locker
}

// NewRebuilder checks the configuration. It connects to nothing.
func NewRebuilder(config RebuilderConfig) (*Rebuilder, error) {
	switch {
	case config.RedisURL == "":
		return nil, errors.New("rebuilder: RedisURL is required")
	case config.Engine == nil || config.Ledger == nil:
		return nil, errors.New("rebuilder: Engine and Ledger are required")
	case config.Logger == nil:
		config.Logger = slog.New(slog.DiscardHandler)
	}
	client, err := newClient(config.RedisURL, poolSpare)
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(nil)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &Rebuilder{
		core:  &rebuilder{engine: config.Engine, ledger: config.Ledger, log: config.Logger, metrics: metrics},
		force: config.Force, client: client, locks: newLocker(client),
	}, nil
}

// Close closes the connections.
func (r *Rebuilder) Close() error { return r.client.Close() }

// Rebuild takes the item off sale, waits until the workers have persisted what the stream
// holds, writes the item anew if it differs from the ledger, and puts it on sale. Without a
// worker that persists it waits until ctx ends; the item then stays off sale, until it is
// rebuilt again, by hand or by any worker. It also waits for a worker that is rebuilding.
//
// A dry run changes nothing and compares as well as that can be done while both stores move.
func (r *Rebuilder) Rebuild(ctx context.Context, id flashsale.ItemID, dryRun bool) (difference Difference, err error) {
	difference, err = r.core.peek(ctx, id)
	if err != nil || dryRun {
		return difference, wrapRebuild(id, err)
	}
	for {
		ran, err := r.locks.do(ctx, guardianLock, lockTTL, func(held context.Context) error {
			vouched, err := r.core.engine.Vouched(held, id)
			if err != nil {
				return err
			}
			done, err := r.core.rebuild(held, held, []suspect{{item: id, reason: "asked for", force: r.force || !vouched}})
			if len(done) == 1 {
				difference = done[0]
			}
			return err
		})
		if ran || err != nil {
			return difference, wrapRebuild(id, err)
		}
		if pause(ctx, rebuildLockPoll); ctx.Err() != nil {
			return difference, wrapRebuild(id, fmt.Errorf("a worker holds the lock %s%s: %w", lockPrefix, guardianLock, ctx.Err()))
		}
	}
}

func wrapRebuild(id flashsale.ItemID, err error) error {
	if err != nil {
		return fmt.Errorf("rebuild item %d: %w", id, err)
	}
	return nil
}
