package baseline

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

const (
	lockTTL               = 2 * time.Second                         // how long the others wait for a node that died
	lockWait              = 5 * time.Second                         // then a request is answered overloaded
	pauseLeast, pauseMost = time.Millisecond, 32 * time.Millisecond // between two tries
)

var (
	errLockBusy = errors.New("the lock is held by others")
	errLockLost = errors.New("the lock was lost")

	extendLock = rueidis.NewLuaScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0`)
	releaseLock = rueidis.NewLuaScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0`)
)

// lock holds a lock in Redis, which all nodes share, while it reads the stock, checks it and
// writes it back with the order.
//
// It is the usual cure for the mutex on two nodes. The lock is the careful kind: a random token
// says whose it is, a TTL frees it when its holder dies, a watchdog extends it while the holder
// lives, and only the holder's token releases it. Waiters ask again after a growing, jittered
// pause.
//
// All of a hot item's requests still pass one by one, now with round trips to two stores and
// the waiters' pauses in between; those who wait load Redis by asking; a dead holder stops the
// sale for the TTL. And a holder that is paused for longer than the TTL comes back and writes:
// the database knows no fencing token, so then it oversells.
type lock struct {
	table

	mutex redisLock
}

func openLock(s Stores) (Strategy, error) {
	key := "baseline:lock:" + strconv.FormatInt(s.Item, 10)
	return &lock{table: newTable(s), mutex: redisLock{redis: s.Redis, key: key, ttl: lockTTL, wait: lockWait}}, nil
}

// Buy implements [Strategy].
func (l *lock) Buy(ctx context.Context, user string, number int64) (outcome Outcome, err error) {
	err = l.mutex.hold(ctx, func(ctx context.Context) (err error) {
		outcome, err = l.readThenWrite(ctx, user, number)
		return err
	})
	if errors.Is(err, errLockBusy) {
		return Overloaded, nil
	}
	return outcome, err
}

// redisLock is a lock that processes share.
type redisLock struct {
	redis rueidis.Client
	key   string
	ttl   time.Duration
	wait  time.Duration
}

// hold calls a function while it holds the lock. The function's context ends when the lock is
// lost.
func (l *redisLock) hold(ctx context.Context, do func(context.Context) error) error {
	token, err := l.acquire(ctx)
	if err != nil {
		return err
	}
	ctx, lost := context.WithCancelCause(ctx)
	done := make(chan struct{})
	var watchdog sync.WaitGroup
	watchdog.Go(func() { l.extend(ctx, token, done, lost) })
	err = do(ctx)
	close(done)
	watchdog.Wait()
	if err != nil && errors.Is(context.Cause(ctx), errLockLost) {
		err = errors.Join(errLockLost, err)
	}
	lost(nil)
	// A lock that is not released runs out; what was done under it is done.
	_ = l.release(context.WithoutCancel(ctx), token)
	return err
}

// acquire asks until the lock is free, and returns the token that says it is ours.
func (l *redisLock) acquire(ctx context.Context) (string, error) {
	token := rand.Text()
	deadline := time.Now().Add(l.wait)
	for pause := pauseLeast; ; pause = min(2*pause, pauseMost) {
		set := l.redis.B().Set().Key(l.key).Value(token).Nx().PxMilliseconds(l.ttl.Milliseconds()).Build()
		switch err := l.redis.Do(ctx, set).Error(); {
		case err == nil:
			return token, nil
		case !rueidis.IsRedisNil(err):
			return "", fmt.Errorf("acquire %s: %w", l.key, err)
		case time.Now().After(deadline):
			return "", errLockBusy
		}
		timer := time.NewTimer(pause/2 + mathrand.N(pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return "", ctx.Err()
		case <-timer.C:
		}
	}
}

// extend keeps the lock from running out until it is done with, and tells when it has.
func (l *redisLock) extend(ctx context.Context, token string, done <-chan struct{}, lost context.CancelCauseFunc) {
	ticker := time.NewTicker(l.ttl / 3)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		held, err := extendLock.Exec(ctx, l.redis, []string{l.key},
			[]string{token, strconv.FormatInt(l.ttl.Milliseconds(), 10)}).AsInt64()
		if err == nil && held == 0 {
			lost(errLockLost)
			return
		}
	}
}

// release frees the lock if it is still ours.
func (l *redisLock) release(ctx context.Context, token string) error {
	if err := releaseLock.Exec(ctx, l.redis, []string{l.key}, []string{token}).Error(); err != nil {
		return fmt.Errorf("release %s: %w", l.key, err)
	}
	return nil
}
