package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

const (
	lockPrefix = "fs:lock:" // one lock a job: owner token, with TTL

	// lockTTL is how long a job of a worker that died stays locked. It is also how long Redis
	// may be away without a job losing its lock.
	lockTTL = 10 * time.Second
	// watchdogShare is how often within its TTL a lock is extended: two attempts may fail.
	watchdogShare = 4
	unlockTimeout = time.Second
)

// errLockLost is the cause with which the context of a job ends whose lock is no longer ours.
var errLockLost = errors.New("lock lost")

// locker makes sure that of all workers one does a job. The lock is a key with a token of its
// owner, taken in one step with its time to live, and given back by its owner only. While the
// job runs a watchdog extends it; the watchdog dies with the process, and then the time to live
// lets another worker in.
//
// No lock that expires keeps two workers apart for sure: one that was paused for longer than
// the time to live goes on, for an instant, beside the next owner. So the lock saves work and
// keeps the log quiet; what is right is decided by row locks, by scripts and by fence tokens.
type locker struct{ redsync *redsync.Redsync }

func newLocker(client redis.UniversalClient) *locker {
	return &locker{redsync: redsync.New(goredis.NewPool(client))}
}

// do runs the job if nobody else does it at this moment. The context of the job ends with ctx,
// and as soon as the lock cannot be relied on any more: when Redis refuses to extend it or was
// not reached before its end. The error is the job's own, with [errLockLost] if that happened.
func (l *locker) do(ctx context.Context, name string, ttl time.Duration,
	job func(context.Context) error,
) (ran bool, err error) {
	mutex := l.redsync.NewMutex(lockPrefix+name, redsync.WithExpiry(ttl), redsync.WithTries(1),
		redsync.WithTimeoutFactor(1.0/watchdogShare))
	if err := mutex.TryLockContext(ctx); err != nil {
		var taken *redsync.ErrTaken
		if errors.As(err, &taken) {
			return false, nil
		}
		return false, fmt.Errorf("lock %s: %w", name, err)
	}
	held, lose := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch(held, mutex, ttl, func() { lose(errLockLost) })
	}()
	err = job(held)
	lost := errors.Is(context.Cause(held), errLockLost)
	lose(nil)
	<-watched

	// What is not given back, because Redis is away, ends by itself; of another owner's lock
	// Redis keeps us off.
	unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
	defer cancel()
	_, _ = mutex.UnlockContext(unlock)
	if lost {
		return true, fmt.Errorf("job %s: %w", name, errors.Join(errLockLost, err))
	}
	return true, err
}

// watch extends the lock until ctx ends. The lock is lost when its time is over, even if an
// answer to the extension is still awaited.
func watch(ctx context.Context, mutex *redsync.Mutex, ttl time.Duration, lose func()) {
	end := time.AfterFunc(time.Until(mutex.Until()), lose)
	defer end.Stop()
	ticker := time.NewTicker(ttl / watchdogShare)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch extended, err := extend(ctx, mutex, ttl); {
		case extended:
			end.Reset(time.Until(mutex.Until()))
		case refused(err):
			lose()
			return
		} // else Redis was not reached: again, until the time is over
	}
}

func extend(ctx context.Context, mutex *redsync.Mutex, ttl time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, ttl/watchdogShare)
	defer cancel()
	return mutex.ExtendContext(ctx)
}

// refused reports whether Redis has answered that the lock is not ours.
func refused(err error) bool {
	var taken *redsync.ErrTaken
	return errors.As(err, &taken)
}
