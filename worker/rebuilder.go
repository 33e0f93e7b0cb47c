package worker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"flashsale"
	"flashsale/engine"
)

const (
	// atOnce bounds what is rebuilt at the same time.
	atOnce = 8
	// waveMax is how many items share one reading of the stream.
	waveMax = 64
	// drainPage is how many entries one XRANGE of a rebuild reads.
	drainPage = 500
	// differsMax is how long an account may differ from the ledger in what the relay mends.
	differsMax = 3 * time.Second
	// rebuildLockPoll is how often a rebuild by hand asks for the lock.
	rebuildLockPoll = 250 * time.Millisecond
)

// ErrNotLoaded is returned for an item that was never loaded into Redis: there is nothing to
// rebuild, it is to be preheated.
var ErrNotLoaded = errors.New("never loaded into redis: preheat it")

// guardianLock is held by whoever fences items of a partition; it lies in the partition's slot.
func guardianLock(p int) string { return "guardian:{" + engine.Tag(p) + "}" }

// RebuildLedger is the ledger of record as a rebuild needs it.
type RebuildLedger interface {
	Persister
	// Rebuild calls fn with what the ledger holds of the item, in one transaction in which the
	// item's row is locked, so that no order of it is persisted or ended meanwhile, and in which
	// no relay is at work. If fn returns true the transaction raises the generation by one, sets
	// the sequence to 0 and deletes the item's outbox rows: their effects are part of what fn
	// was given. Otherwise it changes nothing. [flashsale.ErrNotFound] for an unknown item.
	Rebuild(ctx context.Context, id flashsale.ItemID,
		fn func(state flashsale.RebuildState) (rebuilt bool, err error)) error
	// ChangeLoaded is Rebuild of an item that is changed in the same transaction.
	ChangeLoaded(ctx context.Context, id flashsale.ItemID, change flashsale.ItemChange,
		fn func(state flashsale.RebuildState) (rebuilt bool, err error)) error
	// ChangeUnloaded changes an item of which Redis need not know, and reports whether it is one.
	ChangeUnloaded(ctx context.Context, id flashsale.ItemID, change flashsale.ItemChange) (done bool, err error)
	// Rebuildable returns what Rebuild would hand out, from one snapshot, and locks nothing.
	Rebuildable(ctx context.Context, id flashsale.ItemID) (flashsale.RebuildState, error)
}

// RebuildEngine is Redis' side of the engine as a rebuild needs it.
type RebuildEngine interface {
	Buyers(ctx context.Context, item flashsale.ItemID, fn func(user string, orders []flashsale.Order) error) error
	Fence(ctx context.Context, item flashsale.ItemID, token string) (*engine.Fence, error)
	Item(ctx context.Context, item flashsale.ItemID) (engine.Account, error)
	Partition(item flashsale.ItemID) int
	SetAside(ctx context.Context, item flashsale.ItemID) (moved []string, err error)
	Vouched(ctx context.Context, item flashsale.ItemID) (bool, error)
}

// rebuilder writes items of Redis anew from the ledger.
//
// # One rebuild
//
//  1. The fence takes the item off sale. From then on nothing changes it in Redis.
//  2. Every order that the stream still holds of the item is persisted, or refused, as always: by
//     the rebuild itself, so that it waits for nobody who has an entry in hand. Consumers find it
//     done. If the ledger is away this fails, and is done again, behind the fence.
//  3. What Redis holds is read.
//  4. The ledger locks the item, compares, and commits the next generation.
//  5. Redis is written as the ledger was at 4, and the item opens in that generation.
//
// # Why it never oversells and forgets no confirmed buyer
//
// Redis opens with the stock and the buyers of one transaction. A confirmed order is in that
// transaction, and so among the buyers, or it is persisted later. Later means: from an entry
// that a worker has in hand although Redis has lost it, for everything in the stream was
// persisted at 2. Such an entry is of an older generation than the one that 4 committed, so the
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
	client  redis.UniversalClient
	log     *slog.Logger
	metrics *metrics
}

func newRebuilder(engine RebuildEngine, ledger RebuildLedger, client redis.UniversalClient,
	log *slog.Logger, metrics *metrics,
) *rebuilder {
	return &rebuilder{engine: engine, ledger: ledger, client: client, log: log, metrics: metrics}
}

// suspect is an item that Redis may have wrong.
type suspect struct {
	item   flashsale.ItemID
	reason string
	// force gives the item a new generation even if it is found intact. Equal is not enough
	// when Redis may have lost writes: a worker may have in hand, and persist later, entries that
	// a Redis that was rolled back to just before them no longer knows of.
	force             bool
	unreadable        bool // a key of it may be of a wrong type
	opensAt, closesAt time.Time
	change            *flashsale.ItemChange // what else an operator wants; nil: nothing

	fence *engine.Fence
	err   error
}

// urgency orders items by what waits for them: open ones, then those that open next, then the past.
func urgency(now time.Time) func(a, b suspect) int {
	class := func(s suspect) int {
		switch {
		case now.Before(s.opensAt):
			return 2
		case now.Before(s.closesAt):
			return 1
		default:
			return 3
		}
	}
	return func(a, b suspect) int {
		return cmp.Or(cmp.Compare(class(a), class(b)), a.opensAt.Compare(b.opensAt))
	}
}

// rebuild takes the suspects off sale and puts each on sale again, the most urgent ones first, many
// at once. It begins no more when ctx ends; what has begun is completed while work lasts. One item's
// fault does not keep the others.
func (r *rebuilder) rebuild(ctx, work context.Context, suspects []suspect) (differences []Difference, err error) {
	slices.SortStableFunc(suspects, urgency(time.Now()))
	var faults []error
	for wave := range slices.Chunk(suspects, waveMax) {
		if err := cmp.Or(ctx.Err(), context.Cause(work)); err != nil {
			faults = append(faults, err)
			break
		}
		done, err := r.rebuildWave(work, wave)
		differences, faults = append(differences, done...), append(faults, err)
	}
	return differences, errors.Join(faults...)
}

// rebuildWave rebuilds items that share the readings of their streams.
func (r *rebuilder) rebuildWave(ctx context.Context, wave []suspect) (done []Difference, err error) {
	each := func(do func(s *suspect) error) {
		var all errgroup.Group
		all.SetLimit(atOnce)
		for i := range wave {
			if s := &wave[i]; s.err == nil {
				all.Go(func() error { s.err = do(s); return nil })
			}
		}
		_ = all.Wait() // each keeps its own error
	}
	each(func(s *suspect) error { return r.fence(ctx, s) })
	r.persistStreams(ctx, wave)
	differences := make([]Difference, len(wave))
	each(func(s *suspect) (err error) {
		n := slices.IndexFunc(wave, func(other suspect) bool { return other.item == s.item })
		differences[n], err = r.finish(ctx, *s)
		return err
	})
	var faults []error
	for n, s := range wave {
		if s.err != nil {
			faults = append(faults, fmt.Errorf("rebuild item %d: %w", s.item, s.err))
			continue
		}
		done = append(done, differences[n])
	}
	return done, errors.Join(faults...)
}

func (r *rebuilder) fence(ctx context.Context, s *suspect) (err error) {
	if s.unreadable {
		moved, err := r.engine.SetAside(ctx, s.item)
		r.alarm(moved)
		if err != nil {
			return err
		}
	}
	if s.fence, err = r.engine.Fence(ctx, s.item, rand.Text()); err != nil {
		return err
	}
	r.log.Info("item is off sale until it is compared with the ledger", "item", s.item, "reason", s.reason)
	return nil
}

// alarm tells of keys that were of a wrong type.
func (r *rebuilder) alarm(moved []string) {
	for _, key := range moved {
		r.metrics.misplaced.Inc()
		r.log.Error("a key of ours was of a wrong type and is moved aside: look who wrote it, then delete it", "key", key)
	}
}

// persistStreams persists what the streams hold of the fenced items, each partition's in one
// reading. It acknowledges nothing: the consumers find the orders in the ledger.
func (r *rebuilder) persistStreams(ctx context.Context, wave []suspect) {
	byPartition := make(map[int]map[flashsale.ItemID]*suspect)
	for i := range wave {
		if s := &wave[i]; s.err == nil {
			p := r.engine.Partition(s.item)
			if byPartition[p] == nil {
				byPartition[p] = make(map[flashsale.ItemID]*suspect)
			}
			byPartition[p][s.item] = s
		}
	}
	var reading errgroup.Group
	reading.SetLimit(atOnce)
	for p, items := range byPartition {
		reading.Go(func() error {
			if err := r.persistStream(ctx, p, items); err != nil {
				for _, s := range items {
					s.err = cmp.Or(s.err, err)
				}
			}
			return nil
		})
	}
	_ = reading.Wait() // each item keeps its own error
}

func (r *rebuilder) persistStream(ctx context.Context, partition int, items map[flashsale.ItemID]*suspect) error {
	key, last := engine.OrdersKey(partition), streamID{}
	for _, s := range items {
		last = last.later(parseStreamID(s.fence.LastID))
	}
	var page batch
	for after := "-"; ; after = "(" + page.last {
		reply, err := do(ctx, r.client, "xrange", key, after, last.String(), "count", drainPage)
		if err == nil {
			page.reset()
			err = page.readEntries(&reply, 0)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		if page.last == "" {
			return nil
		}
		orders := make(map[flashsale.ItemID][]flashsale.Order)
		for _, order := range page.orders {
			if s := items[order.ItemID]; s != nil && s.err == nil {
				orders[order.ItemID] = append(orders[order.ItemID], order)
			}
		}
		for item, batch := range orders {
			if err := r.persist(ctx, batch); err != nil {
				items[item].err = fmt.Errorf("persist what waits in the stream: %w", err)
			}
		}
	}
}

// persist leaves out what can never be stored: a consumer sets it aside.
func (r *rebuilder) persist(ctx context.Context, orders []flashsale.Order) error {
	for chunk := range slices.Chunk(orders, DefaultBatchSize) {
		for len(chunk) > 0 {
			_, err := r.ledger.Persist(ctx, chunk)
			bad, unstorable := errors.AsType[*flashsale.UnstorableError](err)
			if !unstorable {
				if err != nil {
					return err
				}
				break
			}
			chunk = slices.Clone(chunk)
			for _, order := range slices.Backward(bad.Orders) {
				chunk = slices.Delete(chunk, order.Index, order.Index+1)
			}
		}
	}
	return nil
}

// streamID is the id of a stream's entry.
type streamID struct{ ms, seq uint64 }

func parseStreamID(text string) (id streamID) {
	ms, seq, _ := strings.Cut(text, "-")
	id.ms, _ = strconv.ParseUint(ms, 10, 64) // Redis wrote it
	id.seq, _ = strconv.ParseUint(seq, 10, 64)
	return id
}

func (id streamID) String() string { return fmt.Sprintf("%d-%d", id.ms, id.seq) }

func (id streamID) later(other streamID) streamID {
	if cmp.Or(cmp.Compare(id.ms, other.ms), cmp.Compare(id.seq, other.seq)) < 0 {
		return other
	}
	return id
}

// finish compares an item whose orders are all in the ledger, and opens it.
func (r *rebuilder) finish(ctx context.Context, s suspect) (Difference, error) {
	redis, err := r.read(ctx, s.item)
	if err != nil {
		return Difference{}, err
	}
	var state flashsale.RebuildState
	var difference Difference
	renew := false
	look := func(ledger flashsale.RebuildState) (bool, error) {
		state, difference = ledger, compare(redis, ledger)
		renew = s.force || !difference.Intact()
		return renew, nil
	}
	if s.change == nil {
		err = r.ledger.Rebuild(ctx, s.item, look)
	} else if err = r.ledger.ChangeLoaded(ctx, s.item, *s.change, look); errors.Is(err, flashsale.ErrConflict) || errors.Is(err, flashsale.ErrUnacceptable) {
		s.change = nil // on sale as it was
		difference, failed := r.finish(ctx, s)
		return difference, errors.Join(err, failed)
	}
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
	if err := s.fence.Open(ctx, item, state.Orders, state.Restock); err != nil {
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
		core:  newRebuilder(config.Engine, config.Ledger, client, config.Logger, metrics),
		force: config.Force, client: client, locks: newLocker(client),
	}, nil
}

// Close closes the connections.
func (r *Rebuilder) Close() error { return r.client.Close() }

// Rebuild takes the item off sale, persists what the stream holds of it, writes the item anew if it
// differs from the ledger, and puts it on sale. It needs no worker, and waits for one that is
// rebuilding. After an error the item may stay off sale, until it is rebuilt again, by hand or by any
// worker.
//
// A dry run changes nothing and compares as well as that can be done while both stores move.
func (r *Rebuilder) Rebuild(ctx context.Context, id flashsale.ItemID, dryRun bool) (difference Difference, err error) {
	difference, err = r.core.peek(ctx, id)
	if err != nil || dryRun {
		return difference, wrapRebuild(id, err)
	}
	done, err := r.alone(ctx, suspect{
		item: id, reason: "asked for", force: r.force, unreadable: difference.Unreadable,
	})
	if err == nil {
		difference = done
	}
	return difference, wrapRebuild(id, err)
}

// Change changes an item in the ledger and in Redis, and returns when it stands in both. What Redis
// has to know of is a rebuild with other terms: for the moment that it takes the item is off sale,
// what waits in the stream is persisted first, and the equation of the stock holds whenever this dies.
// [flashsale.ErrConflict] and [flashsale.ErrUnacceptable] say why the item stays as it is.
func (r *Rebuilder) Change(ctx context.Context, id flashsale.ItemID, change flashsale.ItemChange) error {
	done, err := r.core.ledger.ChangeUnloaded(ctx, id, change)
	if err == nil && !done {
		_, err = r.alone(ctx, suspect{item: id, reason: "changed", change: &change})
	}
	if err != nil {
		return fmt.Errorf("change item %d: %w", id, err)
	}
	return nil
}

// alone rebuilds an item while no worker rebuilds any of its partition.
func (r *Rebuilder) alone(ctx context.Context, s suspect) (difference Difference, err error) {
	for {
		ran, err := r.locks.do(ctx, guardianLock(r.core.engine.Partition(s.item)), lockTTL, func(held context.Context) error {
			vouched, err := r.core.engine.Vouched(held, s.item)
			if err != nil {
				return err
			}
			s.force = s.force || !vouched
			done, err := r.core.rebuild(held, held, []suspect{s})
			if len(done) == 1 {
				difference = done[0]
			}
			return err
		})
		if ran || err != nil {
			return difference, err
		}
		if pause(ctx, rebuildLockPoll); ctx.Err() != nil {
			return difference, fmt.Errorf("a worker is rebuilding: %w", ctx.Err())
		}
	}
}

func wrapRebuild(id flashsale.ItemID, err error) error {
	if err != nil {
		return fmt.Errorf("rebuild item %d: %w", id, err)
	}
	return nil
}
