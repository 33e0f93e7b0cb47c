package engine

import (
	"sync/atomic"
	"time"

	"flashsale"
)

// window is what the node knows of an item's opening, and how far Redis' clock is ahead of the
// engine's. It only spares calls that the script would refuse anyway. After the close the flag
// answers: who holds an order is owed it then, too.
type window struct {
	opensMS atomic.Int64
	aheadMS atomic.Int64 // Redis time - engine clock
	until   atomic.Int64 // engine clock, up to which all this is trusted
}

// windowTTL is how long a node answers from what it learned before it asks Redis again.
const windowTTL = time.Second

// windowMargin keeps the local answer away from the edge, where only Redis' clock counts. It
// covers the round trip in the estimate of the difference: from a slower one nothing is learned.
const windowMargin = 200 * time.Millisecond

// learn takes in a reply that arrived at clock, after the time it took. Where somebody has bought
// already, in a window that was moved, everybody is asked about in Redis.
func (w *window) learn(nowMS, opensMS int64, bought bool, clock int64, took time.Duration) {
	if took > windowMargin {
		return
	}
	if bought {
		w.until.Store(0)
		return
	}
	w.aheadMS.Store(nowMS - clock/int64(time.Millisecond))
	w.opensMS.Store(opensMS)
	w.until.Store(clock + int64(windowTTL))
}

// answer tells whether the item has surely not opened, with the outcome.
func (w *window) answer(clock int64) (Reply, bool) {
	if clock > w.until.Load() {
		return Reply{}, false
	}
	redisMS := clock/int64(time.Millisecond) + w.aheadMS.Load()
	opensMS := w.opensMS.Load()
	if redisMS < opensMS-windowMargin.Milliseconds() {
		return Reply{Outcome: flashsale.NotStarted, OpensAt: fromMS(opensMS)}, true
	}
	return Reply{}, false
}
