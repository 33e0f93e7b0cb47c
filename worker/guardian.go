package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

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
	// Partition returns where an item lives.
	Partition(item flashsale.ItemID) int
	// RunID names the run of the Redis that holds a partition.
	RunID(ctx context.Context, partition int) (string, error)
}

// guardian finds the items whose account Redis has lost, or has in an older state than the
// ledger has seen, and rebuilds them. After a restart of Redis, or a failover, when nothing is sold,
// it compares and rebuilds each of them, which vouches for it, so that it sells again.
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
}

func newGuardian(config Config, locks *locker, metrics *metrics, wake wake) *guardian {
	return &guardian{
		config: config, engine: config.Engine, locks: locks, lockTTL: lockTTL, metrics: metrics, wake: wake,
		rebuild: &rebuilder{engine: config.Engine, ledger: config.Ledger, log: config.Logger, metrics: metrics},
	}
}

// run guards until ctx ends. What waits for the stream then stays off sale for another worker;
// a rebuild that has started is completed while work lasts.
func (g *guardian) run(ctx, work context.Context) {
	var faults backoff
	for ctx.Err() == nil {
		wait := g.config.GuardEvery
		if err := g.look(ctx, work); err == nil {
			faults.reset()
		} else if ctx.Err() == nil {
			wait = faults.next()
			g.metrics.faults.WithLabelValues("guardian").Inc()
			g.config.Logger.Warn("guarding redis failed, trying again", "wait", wait, "error", err)
		}
		g.wake.wait(ctx, wait)
	}
}

// look inspects Redis and, if anything is wrong, repairs it, unless another worker is at it.
func (g *guardian) look(ctx, work context.Context) error {
	found, err := g.inspect(work)
	if err != nil {
		return err
	}
	g.metrics.suspects.Set(float64(len(found)))
	if len(found) == 0 {
		return nil
	}
	_, err = g.locks.do(work, guardianLock, g.lockTTL, func(held context.Context) error {
		return g.tend(ctx, held)
	})
	return err
}

// tend looks again, since another worker may have been here, and rebuilds.
func (g *guardian) tend(ctx, work context.Context) error {
	found, err := g.inspect(work)
	if err != nil {
		return err
	}
	if _, err := g.rebuild.rebuild(ctx, work, found); err != nil {
		return err
	}
	g.metrics.suspects.Set(0)
	return nil
}

// inspect reads the ledger before the accounts, so that a sequence in Redis that goes on is never
// behind.
func (g *guardian) inspect(ctx context.Context) (found []suspect, err error) {
	items, err := g.config.Ledger.Guarded(ctx)
	if err != nil {
		return found, fmt.Errorf("guarded items: %w", err)
	}
	runs := make(map[int]string) // by partition
	for _, item := range items {
		p := g.engine.Partition(item.ID)
		if runs[p] == "" {
			if runs[p], err = g.engine.RunID(ctx, p); err != nil {
				return found, err
			}
		}
		account, err := g.engine.Item(ctx, item.ID)
		s := suspect{item: item.ID, force: true}
		switch {
		case errors.Is(err, flashsale.ErrNotFound):
			s.reason = "redis has no account"
		case errors.Is(err, engine.ErrUnreadable):
			s.reason = "account is unreadable"
		case err != nil:
			return found, err
		case account.Generation != item.Generation:
			s.reason = fmt.Sprintf("redis holds generation %d, the ledger %d", account.Generation, item.Generation)
		case account.Sequence < item.Sequence:
			s.reason = fmt.Sprintf("redis is at order %d, the ledger has seen %d", account.Sequence, item.Sequence)
		case item.RolledBack:
			s.reason = "redis has given one sequence to two orders: it was rolled back"
		case account.Run != runs[p]:
			s.reason = "redis has restarted or failed over"
		case account.State == engine.StateRebuilding:
			s.reason, s.force = "a rebuild was not completed", false
		default:
			continue
		}
		found = append(found, s)
	}
	return found, nil
}

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
