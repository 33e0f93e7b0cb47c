package engine

import (
	"context"
	"fmt"
	"time"

	"flashsale"
)

// Request asks for units of an item for a user.
type Request struct {
	Item           flashsale.ItemID
	User           string // see [flashsale.ValidUser]
	Quantity       int    // at least 1
	IdempotencyKey string // "" or see [flashsale.ValidIdempotencyKey]
}

// Reply is the decision on a [Request].
type Reply struct {
	Outcome flashsale.Outcome
	OrderNo flashsale.OrderNo // of the order that the user holds: Accepted, Replayed, DuplicateOrder, sometimes LimitReached
	OpensAt time.Time         // NotStarted only
}

// Reserve decides the request: takes units for the user, or says why not. It returns when
// decided, at the latest after the script timeout and the calls queued before it.
//
// The strings of req must not be changed afterwards, not even when ctx has ended: they may
// still be on their way to Redis.
func (e *Engine) Reserve(ctx context.Context, req Request) (Reply, error) {
	if req.Quantity < 1 || req.Quantity > flashsale.LimitMax || req.Item < 1 ||
		!flashsale.ValidUser(req.User) ||
		(req.IdempotencyKey != "" && !flashsale.ValidIdempotencyKey(req.IdempotencyKey)) {
		return Reply{}, fmt.Errorf("reserve item %d: %w", req.Item, ErrInvalid)
	}
	q := e.queues.get(req.Item)
	if q == nil {
		if refused := e.known.admits(req.Item); refused != 0 {
			e.metrics.outcomes[refused].Inc()
			return Reply{Outcome: refused}, nil
		}
		q = e.queue(req.Item)
	}
	if q == nil {
		e.metrics.outcomes[flashsale.Overloaded].Inc()
		return Reply{Outcome: flashsale.Overloaded}, nil
	}
	clock := e.clock()
	if reply, ok := q.window.answer(clock); ok {
		e.metrics.outcomes[reply.Outcome].Inc()
		return reply, nil
	}
	if lost := q.flag.answer(req.User, clock); lost != 0 {
		e.metrics.local.Inc()
		return Reply{Outcome: lost}, nil
	}
	if q.lane.away.is() {
		e.metrics.faults.Inc()
		return Reply{}, faultError("reserve", req.Item, errAway)
	}
	return q.lane.reserve(ctx, q, req)
}

// queue returns the item's queue, and nil when there are too many.
func (e *Engine) queue(item flashsale.ItemID) *itemQueue {
	if q := e.queues.get(item); q != nil {
		return q
	}
	return e.queues.add(item, e.config.LanesMax, func() *itemQueue {
		p := e.Partition(item)
		q := &itemQueue{
			item: item, text: item.String(), keys: [2]string{ItemKey(p, item), BuyersKey(p, item)}, lane: e.lanes[p],
		}
		q.usedAt.Store(e.clock())
		return q
	})
}

// recycle makes a group that everybody has read available again.
func (e *Engine) recycle(g *group) {
	g.reset()
	e.groups.Put(g)
}

// sweep lets the queues of idle items go.
func (e *Engine) sweep(ctx context.Context) {
	ticker := time.NewTicker(max(e.config.IdleAfter/2, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		since := e.clock() - int64(e.config.IdleAfter)
		e.queues.sweep(func(q *itemQueue) bool { return q.lane.idle(q, since) })
	}
}
