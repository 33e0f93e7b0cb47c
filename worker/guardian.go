package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"flashsale"
	"flashsale/engine"
)

// GuardLedger is the ledger of record as the guardian needs it.
type GuardLedger interface {
	RebuildLedger
	// Guarded returns the items that Redis must hold: those that were loaded and whose sale is
	// not long over, and those to which the outbox owes something.
	Guarded(ctx context.Context) ([]flashsale.GuardedItem, error)
}

// GuardEngine is Redis' side of the engine as the guardian needs it.
type GuardEngine interface {
	RebuildEngine
	// Look reads the accounts of items; what cannot be seen of one keeps nothing of the others.
	Look(ctx context.Context, items []flashsale.ItemID) map[flashsale.ItemID]engine.Look
	// SetAsideStreams moves streams and what belongs to them out of the way where they are of a
	// wrong type, and says of which partitions.
	SetAsideStreams(ctx context.Context) (moved []string, partitions map[int]bool, err error)
}

// guardian finds the items whose account Redis has lost, or has in an older state than the
// ledger has seen, or in a run that nobody has vouched for, and rebuilds them. After a restart or
// a failover, when nothing of that Redis is sold, these are all its items; each sells again as soon
// as it is rebuilt itself. What cannot be reached is left for the next look.
//
// A Redis that lost the last moment before a crash is told from one that did not only by what
// the ledger has seen of that moment. What it has not seen was pending, and nobody was promised
// it; but a worker may have it in hand. So a restart ends the generation of every item, whether
// it is intact or not, and what comes later of the old one is rejected (see [rebuilder]).
type guardian struct {
	config  Config
	engine  GuardEngine
	locks   *locker
	lockTTL time.Duration
	metrics *metrics
	rebuild *rebuilder
	wake    wake

	mu      sync.Mutex                         // guards what follows
	doubted map[flashsale.ItemID]string        // why an item must be rebuilt although its account looks right
	differs map[flashsale.ItemID]differingFrom // from the ledger, in what an effect on its way may mend
}

type differingFrom struct {
	how   string
	since time.Time
}

func newGuardian(config Config, client redis.UniversalClient, locks *locker, metrics *metrics, wake wake) *guardian {
	return &guardian{
		config: config, engine: config.Engine, locks: locks, lockTTL: lockTTL, metrics: metrics, wake: wake,
		rebuild: newRebuilder(config.Engine, config.Ledger, client, config.Logger, metrics),
		doubted: make(map[flashsale.ItemID]string), differs: make(map[flashsale.ItemID]differingFrom),
	}
}

// run guards until ctx ends. A rebuild that has started is completed while work lasts. Faults make
// it look no less often: what is away now is back in a moment, and must not wait then.
func (g *guardian) run(ctx, work context.Context) {
	for ctx.Err() == nil {
		if err := g.look(ctx, work); err != nil && ctx.Err() == nil {
			g.metrics.faults.WithLabelValues("guardian").Inc()
			g.config.Logger.Warn("guarding redis failed in part, looking again", "wait", g.config.GuardEvery, "error", err)
		}
		g.wake.wait(ctx, g.config.GuardEvery)
	}
}

// look inspects Redis and, where anything is wrong, repairs it, unless another worker is at it. The
// partitions are tended at once, each under a lock of its own, which lies beside what it is about.
func (g *guardian) look(ctx, work context.Context) error {
	moved, partitions, err := g.engine.SetAsideStreams(work)
	g.rebuild.alarm(moved)
	found, inspectErr := g.inspect(work, partitions, nil)
	err = errors.Join(err, inspectErr)
	g.metrics.suspects.Set(float64(len(found)))
	byPartition := make(map[int][]suspect)
	for _, s := range found {
		p := g.engine.Partition(s.item)
		byPartition[p] = append(byPartition[p], s)
	}
	var mu sync.Mutex // guards err
	var tending errgroup.Group
	tending.SetLimit(atOnce)
	for p, suspects := range byPartition {
		tending.Go(func() error {
			_, fault := g.locks.do(work, guardianLock(p), g.lockTTL, func(held context.Context) error {
				return g.tend(ctx, held, suspects)
			})
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, fault)
			return nil
		})
	}
	_ = tending.Wait() // their errors are joined above
	if err == nil {
		g.metrics.suspects.Set(0)
	}
	return err
}

// tend looks at the suspects again, since another worker may have been here, and rebuilds them.
func (g *guardian) tend(ctx, work context.Context, suspects []suspect) error {
	still := make(map[flashsale.ItemID]bool, len(suspects))
	for _, s := range suspects {
		still[s.item] = true
	}
	found, err := g.inspect(work, nil, still)
	done, rebuildErr := g.rebuild.rebuild(ctx, work, found)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range done {
		delete(g.doubted, d.ItemID)
		delete(g.differs, d.ItemID)
	}
	return errors.Join(err, rebuildErr)
}

// inspect reads the ledger before the accounts, so that a sequence in Redis that goes on is never
// behind. The items of lost partitions are suspect whatever they look like; only, if given, says
// which items to inspect. With an error some items could not be seen.
func (g *guardian) inspect(ctx context.Context, lost map[int]bool, only map[flashsale.ItemID]bool) (found []suspect, err error) {
	items, err := g.config.Ledger.Guarded(ctx)
	if err != nil {
		return nil, fmt.Errorf("guarded items: %w", err)
	}
	if only != nil {
		items = slices.DeleteFunc(items, func(item flashsale.GuardedItem) bool { return !only[item.ID] })
	}
	ids := make([]flashsale.ItemID, len(items))
	for n := range items {
		ids[n] = items[n].ID
	}
	looks := g.engine.Look(ctx, ids)
	away, example := 0, error(nil)
	for _, item := range items {
		if lost[g.engine.Partition(item.ID)] {
			g.doubt(item.ID, "its stream was of a wrong type: what it held is lost")
		}
		look := looks[item.ID]
		if look.Err != nil && !errors.Is(look.Err, flashsale.ErrNotFound) && !errors.Is(look.Err, engine.ErrUnreadable) {
			away, example = away+1, look.Err
			continue
		}
		if s, wrong := g.judge(item, look); wrong {
			found = append(found, s)
		}
	}
	if away > 0 {
		err = fmt.Errorf("%d items cannot be seen in redis, such as: %w", away, example)
	}
	return found, err
}

func (g *guardian) doubt(item flashsale.ItemID, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.doubted[item] = reason
}

// judge tells what is wrong with an item, if anything is.
func (g *guardian) judge(item flashsale.GuardedItem, look engine.Look) (s suspect, wrong bool) {
	account := look.Account
	s = suspect{item: item.ID, force: true, opensAt: item.OpensAt, closesAt: item.ClosesAt}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case errors.Is(look.Err, flashsale.ErrNotFound):
		s.reason = "redis has no account"
	case look.Err != nil:
		s.reason, s.unreadable = "account or buyers are unreadable", true
	case account.Generation != item.Generation:
		s.reason = fmt.Sprintf("redis holds generation %d, the ledger %d", account.Generation, item.Generation)
	case account.Sequence < item.Sequence:
		s.reason = fmt.Sprintf("redis is at order %d, the ledger has seen %d", account.Sequence, item.Sequence)
	case item.RolledBack:
		s.reason = "redis has given one sequence to two orders: it was rolled back"
	case !look.Vouched:
		s.reason = "redis has restarted or failed over"
	case g.doubted[item.ID] != "":
		s.reason = g.doubted[item.ID]
	case account.State == engine.StateRebuilding:
		s.reason, s.force = "a rebuild was not completed", false
	default:
		s.reason, s.force = g.lasting(item, account), false
	}
	return s, s.reason != ""
}

// lasting tells in what an account differs from the ledger that an effect on its way would have
// mended by now. Call with mu held.
func (g *guardian) lasting(item flashsale.GuardedItem, account engine.Account) string {
	var how string
	switch {
	case account.Limit != item.Limit:
		how = fmt.Sprintf("redis has a limit of %d, the ledger of %d", account.Limit, item.Limit)
	case !sameMoment(account.OpensAt, item.OpensAt) || !sameMoment(account.ClosesAt, item.ClosesAt):
		how = "redis has another window than the ledger"
	case (account.State == engine.StatePaused) != item.Paused:
		how = fmt.Sprintf("redis has it %s, the ledger does not", account.State)
	default:
		delete(g.differs, item.ID)
		return ""
	}
	if seen := g.differs[item.ID]; seen.how != how {
		g.differs[item.ID] = differingFrom{how, time.Now()}
		return ""
	}
	if time.Since(g.differs[item.ID].since) < differsMax {
		return ""
	}
	return how
}

func sameMoment(a, b time.Time) bool { return a.UnixMilli() == b.UnixMilli() }

// dialWake wakes the guardian for every new connection: after a restart of Redis there is one
// at once, long before the next look. (A client of a cluster does not tell: there the next look
// finds it.)
type dialWake struct{ wake wake }

var _ redis.Hook = dialWake{}

func (d dialWake) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err == nil {
			d.wake.set()
		}
		return conn, err
	}
}

func (d dialWake) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (d dialWake) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
