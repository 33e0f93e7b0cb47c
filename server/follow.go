package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"flashsale"
)

const (
	rereadsMax    = 32                     // reads at once by all who wait, so that they cannot swamp the ledger
	rereadBusy    = 100 * time.Millisecond // until the next try when all are taken
	rereadSlowest = 16                     // times Config.RereadAfter
)

// findOrder reads an order of a user: from the ledger, or, if it has not arrived there, from
// what Redis says the user holds. Everybody else's order is [flashsale.ErrNotFound].
func (s *Server) findOrder(ctx context.Context, no flashsale.OrderNo, user string) (flashsale.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	order, err := s.config.Ledger.Order(ctx, no)
	switch {
	case err == nil && order.User == user:
		return order, nil
	case err == nil:
		return flashsale.Order{}, fmt.Errorf("order %d of another user: %w", no, flashsale.ErrNotFound)
	case !errors.Is(err, flashsale.ErrNotFound):
		return flashsale.Order{}, fmt.Errorf("read order %d: %w", no, err)
	}
	drawn := no.Time()
	if time.Until(drawn) > clockSlack {
		return flashsale.Order{}, fmt.Errorf("order %d of the future: %w", no, flashsale.ErrNotFound)
	}
	items, err := s.catalogue.sellingBetween(ctx, drawn.Add(-clockSlack), drawn.Add(clockSlack), pendingItemsMax)
	if err != nil {
		return flashsale.Order{}, err
	}
	held, err := s.config.Live.Orders(ctx, user, items)
	if err != nil {
		return flashsale.Order{}, fmt.Errorf("read pending orders: %w", err)
	}
	for _, order := range held {
		if order.OrderNo == no {
			return order, nil
		}
	}
	// It may have arrived in the ledger, and even have been released, between the two reads.
	if order, err = s.config.Ledger.Order(ctx, no); err == nil && order.User == user {
		return order, nil
	}
	if err == nil || errors.Is(err, flashsale.ErrNotFound) {
		return flashsale.Order{}, fmt.Errorf("order %d: %w", no, flashsale.ErrNotFound)
	}
	return flashsale.Order{}, fmt.Errorf("read order %d: %w", no, err)
}

// follower tracks the state of one order for whoever waits for it.
type follower struct {
	server *Server
	watch  *watch
	order  flashsale.Order // as last read
	status flashsale.Status
	reason string
	timer  *time.Timer // fires when the state is to be read without having heard anything
	after  time.Duration
}

func (s *Server) follow(order flashsale.Order) *follower {
	f := &follower{
		server: s, watch: s.hub.watch(order.OrderNo), order: order,
		status: order.Status, reason: order.Reason, after: s.config.RereadAfter,
	}
	f.timer = time.NewTimer(jitter(f.after))
	return f
}

func (f *follower) stop() {
	f.watch.stop()
	f.timer.Stop()
}

// hear takes an event of the watch in and reports whether the state moved on.
func (f *follower) hear(event flashsale.Result) bool {
	if event.Status == "" {
		return f.reread()
	}
	if event.User != f.order.User || !leadsTo(f.status, event.Status) {
		return false // said late: we know more
	}
	f.status, f.reason = event.Status, event.Reason
	return true
}

// tick reads the state because the timer fired, ever more rarely.
func (f *follower) tick() bool {
	f.after = min(2*f.after, rereadSlowest*f.server.config.RereadAfter)
	f.timer.Reset(jitter(f.after))
	return f.reread()
}

// reread reports whether the state moved on. A fault is no news: the timer tries again.
func (f *follower) reread() bool {
	select {
	case f.server.rereads <- struct{}{}:
		defer func() { <-f.server.rereads }()
	default:
		f.timer.Reset(jitter(rereadBusy))
		return false
	}
	order, err := f.server.findOrder(f.server.base, f.order.OrderNo, f.order.User)
	if err != nil {
		f.server.faults.log("read order again", "order", f.order.OrderNo, "error", err)
		return false
	}
	if !leadsTo(f.status, order.Status) {
		return false
	}
	f.order, f.status, f.reason = order, order.Status, order.Reason
	return true
}

// leadsTo reports whether an order in one state can come to be in another.
func leadsTo(from, to flashsale.Status) bool {
	next := from.Next()
	return slices.Contains(next, to) ||
		slices.ContainsFunc(next, func(s flashsale.Status) bool { return leadsTo(s, to) })
}

// jitter spreads those who began to wait together over a fifth of the time.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/5+1) }
