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

// orderRef names an order of a user as a request does.
type orderRef struct {
	no   flashsale.OrderNo
	item flashsale.ItemID // 0: the request does not say
	user string
}

func (r orderRef) names(order flashsale.Order) bool {
	return order.OrderNo == r.no && order.User == r.user && (r.item == 0 || order.ItemID == r.item)
}

func refOf(order flashsale.Order) orderRef { return orderRef{order.OrderNo, order.ItemID, order.User} }

// findOrder reads an order of a user: from the ledger, or, if it has not arrived there, from what
// Redis says the user holds of the item, or else of any item that may have orders on their way.
// Everybody else's order is [flashsale.ErrNotFound], after the same reads. A search that could
// not be finished is a fault: what was not found may be there.
func (s *Server) findOrder(ctx context.Context, ref orderRef) (flashsale.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	order, err := s.ledgerOrder(ctx, ref)
	if !errors.Is(err, flashsale.ErrNotFound) {
		return order, err
	}
	held, searched := s.heldOrders(ctx, ref.user, ref.item)
	if n := slices.IndexFunc(held, ref.names); n >= 0 {
		return held[n], nil
	}
	if searched != nil {
		return flashsale.Order{}, searched
	}
	// It may have arrived in the ledger, and even have been released, between the two reads.
	return s.ledgerOrder(ctx, ref)
}

func (s *Server) ledgerOrder(ctx context.Context, ref orderRef) (flashsale.Order, error) {
	order, err := s.config.Ledger.Order(ctx, ref.no)
	if err == nil && !ref.names(order) {
		err = flashsale.ErrNotFound
	}
	if err != nil {
		return flashsale.Order{}, fmt.Errorf("read order %d: %w", ref.no, err)
	}
	return order, nil
}

// heldOrders returns what a user holds of one item, or of all items (0) in which orders may be on
// their way to the ledger. With an error it returns what it could read.
func (s *Server) heldOrders(ctx context.Context, user string, item flashsale.ItemID) ([]flashsale.Order, error) {
	items := []flashsale.ItemID{item}
	if item == 0 {
		var err error
		// As of now: the item of an order just accepted must be among them.
		if items, err = s.liveItems.since(ctx, time.Now()); err != nil {
			return nil, fmt.Errorf("read live items: %w", err)
		}
	}
	if len(items) == 0 {
		return nil, nil
	}
	held, err := s.config.Live.Orders(ctx, user, items)
	if err != nil {
		return held, fmt.Errorf("read pending orders: %w", err)
	}
	return held, nil
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
	s.look(order.OrderNo, order.Status)
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
	f.server.look(f.order.OrderNo, f.status)
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
	order, err := f.server.findOrder(f.server.base, refOf(f.order))
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
