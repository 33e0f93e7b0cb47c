package engine

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"flashsale"
)

// lane is one item's queue, drained by group commit: up to InFlight runners each carry all
// that has gathered in one script call, and stop when nothing waits.
//
// A lane that the sweep has taken out of the engine's map still works for the requests that
// hold it; it only hears no clears any more, which its flag's TTL covers.
type lane struct {
	engine *Engine
	item   flashsale.ItemID
	text   string // the item's id as the scripts take it
	keys   []string
	flag   soldOutFlag
	window window
	usedAt atomic.Int64 // engine clock, when a request last entered the queue

	mu      sync.Mutex // guards what follows; never held across a call
	waiting []*ticket
	runners int
}

// ticket is one request on its way through a lane.
type ticket struct {
	user  string
	key   string
	qty   int
	order flashsale.OrderNo
	reply Reply
	err   error
	done  chan struct{} // capacity 1: whoever decides never blocks on one who left
}

var tickets = sync.Pool{New: func() any { return &ticket{done: make(chan struct{}, 1)} }}

// reserve queues the request and waits for its decision. When ctx ends first the decision is
// unknown: the script may already have accepted it.
func (l *lane) reserve(ctx context.Context, req Request) (Reply, error) {
	t := tickets.Get().(*ticket)
	t.user, t.key, t.qty = req.User, req.IdempotencyKey, req.Quantity

	l.mu.Lock()
	if len(l.waiting) >= l.engine.config.QueueMax {
		l.mu.Unlock()
		tickets.Put(t)
		return Reply{Outcome: flashsale.Overloaded}, nil
	}
	l.waiting = append(l.waiting, t)
	lead := l.runners < l.engine.config.InFlight
	if lead {
		l.runners++
	}
	l.mu.Unlock()
	l.usedAt.Store(l.engine.clock())

	cancelled := ctx.Done()
	if lead {
		if cancelled == nil {
			l.run(1) // the caller leads: no hand-over when the lane is idle
		} else {
			l.start() // a caller who may leave cannot lead
		}
	}
	if cancelled == nil {
		<-t.done
	} else {
		select {
		case <-t.done:
		case <-cancelled:
			// The ticket stays with the lane and is not reused.
			return Reply{}, unknownError("reserve", l.item, context.Cause(ctx))
		}
	}
	reply, err := t.reply, t.err
	*t = ticket{done: t.done}
	tickets.Put(t)
	return reply, err
}

// run drains the lane, for at most the given number of batches (0: until nothing waits). A
// caller runs one batch, its own among it, and leaves the rest to a goroutine.
func (l *lane) run(batches int) {
	b := l.engine.batches.Get().(*batch)
	defer l.engine.batches.Put(b)
	for n := 1; ; n++ {
		if !l.take(b) {
			return
		}
		l.engine.decide(l, b)
		b.finish()
		if n == batches {
			break
		}
	}
	l.mu.Lock()
	more := len(l.waiting) > 0
	if !more {
		l.runners--
	}
	l.mu.Unlock()
	if more {
		l.start()
	}
}

// start runs the lane in a goroutine that the engine's Close waits for.
func (l *lane) start() { l.engine.running.Go(func() { l.run(0) }) }

// take moves what waits into the batch; with nothing waiting it ends the runner.
func (l *lane) take(b *batch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.waiting), l.engine.config.BatchMax)
	if n == 0 {
		l.runners--
		return false
	}
	b.tickets = append(b.tickets[:0], l.waiting[:n]...)
	rest := copy(l.waiting, l.waiting[n:])
	clear(l.waiting[rest:])
	l.waiting = l.waiting[:rest]
	return true
}

// depth is how many requests wait.
func (l *lane) depth() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// idle reports whether nothing waits or runs and no request came since the moment given.
func (l *lane) idle(since int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) == 0 && l.runners == 0 && l.usedAt.Load() < since
}

// batch is the requests of one script call. Its buffers are used again.
type batch struct {
	tickets []*ticket
	args    []string
	digits  []byte
	ends    []int
}

// fill builds the script's arguments: item, stream_max, then four of each request.
func (b *batch) fill(item string, streamMax string, next func() flashsale.OrderNo) []string {
	// All order numbers share one string: one allocation a batch. It is not reused, because
	// rueidis may still write it out after a deadline has passed.
	b.digits, b.ends = b.digits[:0], b.ends[:0]
	for _, t := range b.tickets {
		t.order = next()
		b.digits = strconv.AppendInt(b.digits, int64(t.order), 10)
		b.ends = append(b.ends, len(b.digits))
	}
	digits := string(b.digits)
	b.args = append(b.args[:0], item, streamMax)
	start := 0
	for n, t := range b.tickets {
		b.args = append(b.args, digits[start:b.ends[n]], t.user, strconv.Itoa(t.qty), t.key)
		start = b.ends[n]
	}
	return b.args
}

// fail answers every request of the batch alike.
func (b *batch) fail(reply Reply, err error) {
	for _, t := range b.tickets {
		t.reply, t.err = reply, err
	}
}

// finish hands the answers out.
func (b *batch) finish() {
	for n, t := range b.tickets {
		b.tickets[n] = nil
		t.done <- struct{}{}
	}
}

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
