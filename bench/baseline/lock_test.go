package baseline

import (
	"context"
	"errors"
	"testing"
	"time"

	"flashsale/bench/target"
)

func newLock(t *testing.T, wait time.Duration) *redisLock {
	t.Helper()
	stores := setup(t)
	strategy, err := openLock(stores)
	if err != nil {
		t.Fatal(err)
	}
	l := &strategy.(*lock).mutex
	l.ttl, l.wait = 300*time.Millisecond, wait
	return l
}

func (l *redisLock) holder(t *testing.T) string {
	t.Helper()
	token, err := l.redis.Do(t.Context(), l.redis.B().Get().Key(l.key).Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A holder whose lock ran out must not release that of the next one, or a third would enter:
// the usual mistake with such locks.
func TestLock_IsNotReleasedByAStranger(t *testing.T) {
	t.Parallel()
	l := newLock(t, time.Minute)
	err := l.hold(t.Context(), func(ctx context.Context) error {
		// It runs out, and another one takes it. The watchdog must tell.
		set := l.redis.B().Set().Key(l.key).Value("another").Build()
		if err := l.redis.Do(ctx, set).Error(); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, errLockLost) {
		t.Errorf("the holder was told %v, want that the lock is lost", err)
	}
	if got := l.holder(t); got != "another" {
		t.Errorf("the lock is held by %q after a stranger's release", got)
	}
}

// A slow holder must not lose the lock to its TTL while it lives.
func TestLock_IsExtended(t *testing.T) {
	t.Parallel()
	l := newLock(t, time.Minute)
	const long = time.Hour
	err := l.hold(t.Context(), func(ctx context.Context) error {
		expire := l.redis.B().Pexpire().Key(l.key).Milliseconds(long.Milliseconds()).Build()
		if err := l.redis.Do(ctx, expire).Error(); err != nil {
			return err
		}
		return target.Await(ctx, time.Minute, "the watchdog", func() (bool, error) {
			left, err := l.redis.Do(ctx, l.redis.B().Pttl().Key(l.key).Build()).AsInt64()
			return left <= l.ttl.Milliseconds(), err // set anew
		})
	})
	if err != nil {
		t.Error(err)
	}
	if exists, err := l.redis.Do(t.Context(), l.redis.B().Exists().Key(l.key).Build()).AsBool(); err != nil || exists {
		t.Errorf("the lock stands after its release: %v; %v", exists, err)
	}
}

// Waiters are bounded in time: who does not get the lock is told so, and sells nothing.
func TestLock_Busy(t *testing.T) {
	t.Parallel()
	l := newLock(t, time.Millisecond)
	err := l.hold(t.Context(), func(ctx context.Context) error {
		err := l.hold(ctx, func(context.Context) error {
			t.Error("two hold one lock")
			return nil
		})
		if !errors.Is(err, errLockBusy) {
			t.Errorf("the second was told %v, want that the lock is busy", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
