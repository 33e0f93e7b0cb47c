package engine

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"flashsale"
)

// lane is one item's queue, drained by group commit: while up to InFlight runners each carry a
// batch in one script call, those who arrive gather in the next one. No timer holds anybody up:
// in an idle lane a batch of one leaves at once.
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
	queue   []*batch   // oldest first; only the newest may have room
	waiting int        // requests in the queue
	runners int
}

// reserve queues the request and waits for its decision. When ctx ends first the decision is
// unknown: the script may already have accepted it.
func (l *lane) reserve(ctx context.Context, req Request) (Reply, error) {
	l.mu.Lock()
	if l.waiting >= l.engine.config.QueueMax {
		l.mu.Unlock()
		return Reply{Outcome: flashsale.Overloaded}, nil
	}
	b := l.gathering()
	place := b.join(req)
	l.waiting++
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
		<-b.done
	} else {
		select {
		case <-b.done:
		case <-cancelled:
			return Reply{}, unknownError("reserve", l.item, context.Cause(ctx))
		}
	}
	return b.read(place, l.engine.recycle)
}

// gathering returns the batch that takes the next request. The caller holds the mutex.
func (l *lane) gathering() *batch {
	if n := len(l.queue); n > 0 && len(l.queue[n-1].requests) < l.engine.config.BatchMax {
		return l.queue[n-1]
	}
	b := l.engine.batches.Get().(*batch)
	l.queue = append(l.queue, b)
	return b
}

// run drains the lane, for at most the given number of batches (0: until nothing waits). A
// caller runs one batch, mostly its own, and leaves the rest to a goroutine.
func (l *lane) run(batches int) {
	for n := 1; ; n++ {
		b := l.take()
		if b == nil {
			return
		}
		l.engine.decide(l, b)
		b.finish()
		if n == batches {
			break
		}
	}
	l.mu.Lock()
	more := l.waiting > 0
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

// take takes the oldest batch off the queue; with none there it ends the runner.
func (l *lane) take() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.runners--
		return nil
	}
	b := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	l.waiting -= len(b.requests)
	return b
}

// depth is how many requests wait.
func (l *lane) depth() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// idle reports whether nothing waits or runs and no request came since the moment given.
func (l *lane) idle(since int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting == 0 && l.runners == 0 && l.usedAt.Load() < since
}
