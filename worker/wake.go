package worker

import (
	"context"
	"math/rand/v2"
	"time"
)

// Bounds of the waits after faults.
const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
)

// wake is a signal that is kept until it is heard, however often it was set.
type wake chan struct{}

func newWake() wake { return make(wake, 1) }

func (w wake) set() {
	select {
	case w <- struct{}{}:
	default: // already set
	}
}

// wait returns when the signal is set, the time is over or ctx has ended.
func (w wake) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-w:
	case <-timer.C:
	}
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) { wake(nil).wait(ctx, d) }

// backoff counts the faults in a row.
type backoff int

// next returns the wait after one more fault: doubling from 100 ms to 5 s, of which a random
// part of up to a half is taken off, so that workers do not return in step.
func (b *backoff) next() time.Duration {
	d := min(backoffMin<<min(int(*b), 10), backoffMax)
	*b++
	return d - rand.N(d/2)
}

func (b *backoff) reset() { *b = 0 }
