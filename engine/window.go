package engine

import (
	"sync/atomic"
	"time"

	"flashsale"
)

// window is what the node knows of an item's opening hours, and how far Redis' clock is ahead
// of the engine's. It only spares calls that the script would refuse anyway.
type window struct {
	opensMS, closesMS atomic.Int64
	aheadMS           atomic.Int64 // Redis time - engine clock
	until             atomic.Int64 // engine clock, up to which all this is trusted
}

// windowTTL is how long a node answers from what it learned before it asks Redis again.
const windowTTL = time.Second

// windowMargin keeps the local answer away from the edges, where only Redis' clock counts. It
// covers the round trip in the estimate of the difference: from a slower one nothing is learned.
const windowMargin = 200 * time.Millisecond

// learn takes in a reply that arrived at clock, after the time it took.
func (w *window) learn(nowMS, opensMS, closesMS, clock int64, took time.Duration) {
	if took > windowMargin {
		return
	}
	w.aheadMS.Store(nowMS - clock/int64(time.Millisecond))
	w.opensMS.Store(opensMS)
	w.closesMS.Store(closesMS)
	w.until.Store(clock + int64(windowTTL))
}

// answer tells whether the item is surely not open, with the outcome.
func (w *window) answer(clock int64) (Reply, bool) {
	if clock > w.until.Load() {
		return Reply{}, false
	}
	redisMS := clock/int64(time.Millisecond) + w.aheadMS.Load()
	opensMS, closesMS := w.opensMS.Load(), w.closesMS.Load()
	if redisMS < opensMS-windowMargin.Milliseconds() {
		return Reply{Outcome: flashsale.NotStarted, OpensAt: fromMS(opensMS)}, true
	}
	if redisMS > closesMS+windowMargin.Milliseconds() {
		return Reply{Outcome: flashsale.Ended}, true
	}
	return Reply{}, false
}
