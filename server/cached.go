package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"flashsale"
)

// cached holds a value that is loaded on demand, at most once in a ttl and by one caller at a
// time; meanwhile the others get the old one. So a crowd costs the store one call a ttl.
//
// A load that fails is tried again after a ttl, and the old value goes on being served: what
// shoppers look at should not go away with the store. Only without an old value is the fault
// returned. What the store says does not exist, though, is gone at once.
type cached[T any] struct {
	ttl  time.Duration
	slow func(T) time.Duration // the ttl of a value that is dear to load; nil: none is
	load func(context.Context) (T, error)

	current atomic.Pointer[loaded[T]]
	loading sync.Mutex
}

// loaded never changes; a refresh replaces it.
type loaded[T any] struct {
	value T
	err   error // there is no value
	began time.Time
	at    time.Time
	ttl   time.Duration
}

func newCached[T any](ttl time.Duration, load func(context.Context) (T, error)) *cached[T] {
	return &cached[T]{ttl: ttl, load: load}
}

func (c *cached[T]) get(ctx context.Context) (T, error) {
	l := c.current.Load()
	if l.fresh() {
		return l.value, l.err
	}
	if l == nil || l.err != nil {
		c.loading.Lock() // nothing to show: wait for whoever is loading
	} else if !c.loading.TryLock() {
		return l.value, nil
	}
	defer c.loading.Unlock()
	if l = c.current.Load(); l.fresh() {
		return l.value, l.err
	}
	next := c.loadNow(ctx)
	if next.err != nil && l != nil && l.err == nil && !errors.Is(next.err, flashsale.ErrNotFound) {
		next.value, next.err = l.value, nil
	}
	c.current.Store(next)
	return next.value, next.err
}

// since returns a value that was not older than a moment when it was loaded; callers of the same
// moment share one load. Unlike get it returns no old value in the place of a fault.
func (c *cached[T]) since(ctx context.Context, moment time.Time) (T, error) {
	c.loading.Lock()
	defer c.loading.Unlock()
	if l := c.current.Load(); l != nil && l.err == nil && l.began.After(moment) {
		return l.value, nil
	}
	next := c.loadNow(ctx)
	if next.err == nil {
		c.current.Store(next)
	}
	return next.value, next.err
}

func (c *cached[T]) loadNow(ctx context.Context) *loaded[T] {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	l := &loaded[T]{began: time.Now()}
	l.value, l.err = c.load(ctx)
	l.at, l.ttl = time.Now(), c.ttl
	if l.err == nil && c.slow != nil {
		l.ttl = max(l.ttl, c.slow(l.value))
	}
	return l
}

// forget makes the next call load. It waits for a load in progress, which may have read what
// is out of date.
func (c *cached[T]) forget() {
	c.loading.Lock()
	defer c.loading.Unlock()
	c.current.Store(nil)
}

func (l *loaded[T]) fresh() bool { return l != nil && time.Since(l.at) < l.ttl }
