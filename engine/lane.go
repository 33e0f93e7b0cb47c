package engine

import (
	"context"
	"slices"
	"sync"

	"flashsale"
)

// lane is one partition's requests, drained by group commit: while up to InFlight runners each
// carry a run in one script call, those who arrive gather in the next one. No timer holds anybody
// up: in an idle lane a run of one leaves at once.
//
// Items take turns. Each has a queue with a bound of its own, and whoever has put a group into a run
// stands behind the others until his next: a hot item neither starves nor overloads its neighbours.
type lane struct {
	engine *Engine
	keys   []string // of the partition: those that every run starts with
	away   away

	partition int

	mu      sync.Mutex   // guards what follows, and the groups of the queues; never held across a call
	turns   []*itemQueue // with requests that wait, in the order of their turns
	waiting int          // requests in them
	runners int
}

// reserve queues the request and waits for its decision. When ctx ends first the decision is
// unknown: the script may already have accepted it.
func (l *lane) reserve(ctx context.Context, q *itemQueue, req Request) (Reply, error) {
	l.mu.Lock()
	if q.waiting >= l.engine.config.QueueMax {
		l.mu.Unlock()
		l.engine.metrics.outcomes[flashsale.Overloaded].Inc()
		return Reply{Outcome: flashsale.Overloaded}, nil
	}
	g := l.gathering(q)
	place := g.join(req)
	q.waiting++
	l.waiting++
	lead := l.runners < l.engine.config.InFlight
	if lead {
		l.runners++
	}
	l.mu.Unlock()
	q.usedAt.Store(l.engine.clock())

	cancelled := ctx.Done()
	if lead {
		if cancelled == nil {
			l.run(1) // the caller leads: no hand-over when the lane is idle
		} else {
			l.start() // a caller who may leave cannot lead
		}
	}
	if cancelled == nil {
		<-g.done
	} else {
		select {
		case <-g.done:
		case <-cancelled:
			return Reply{}, unknownError("reserve", q.item, context.Cause(ctx))
		}
	}
	return g.read(place, l.engine.recycle)
}

// gathering returns the group that takes the item's next request. The caller holds the mutex.
func (l *lane) gathering(q *itemQueue) *group {
	n := len(q.groups)
	if n > 0 && len(q.groups[n-1].requests) < min(groupMax, l.engine.config.BatchMax) {
		return q.groups[n-1]
	}
	g := l.engine.groups.Get().(*group)
	q.groups = append(q.groups, g)
	if n == 0 {
		l.turns = append(l.turns, q)
	}
	return g
}

// run drains the lane, for at most the given number of runs (0: until nothing waits). A caller
// carries one, mostly with his own request in it, and leaves the rest to a goroutine.
func (l *lane) run(runs int) {
	for n := 1; ; n++ {
		r := l.take()
		if r == nil {
			return
		}
		l.engine.decide(l, r)
		r.finish()
		l.engine.runs.Put(r)
		if n == runs {
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

// take fills a run with the groups whose turn it is; when nobody waits it ends the runner.
func (l *lane) take() *run {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == 0 {
		l.runners--
		return nil
	}
	r := l.engine.runs.Get().(*run)
	taken := 0
	for len(l.turns) > 0 {
		q := l.turns[0]
		g := q.groups[0]
		if !r.fits(q, g, l.engine.config.BatchMax) {
			break
		}
		r.add(q, g)
		q.groups = slices.Delete(q.groups, 0, 1)
		q.waiting -= len(g.requests)
		taken += len(g.requests)
		l.turns = slices.Delete(l.turns, 0, 1)
		if len(q.groups) > 0 {
			l.turns = append(l.turns, q)
		}
	}
	l.waiting -= taken
	for _, s := range r.sections {
		s.queue.section = 0
	}
	return r
}

// depth is how many of an item's requests wait.
func (l *lane) depth(q *itemQueue) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return q.waiting
}

// idle reports whether none of an item's requests waits and none came since the moment given.
func (l *lane) idle(q *itemQueue, since int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return q.waiting == 0 && q.usedAt.Load() < since
}
