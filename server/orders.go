package server

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
	"flashsale/engine"
)

const (
	pageDefault = 20
	pageMax     = 100
	// replayTimeout bounds the look into the ledger for what has become of a replayed order.
	replayTimeout = time.Second
)

var (
	itemsPrefix  = []byte("/v1/items/")
	ordersSuffix = []byte("/orders")
)

// orderItem returns the item's part of the path /v1/items/{item}/orders, undecoded as the
// router sees it. It is matched by hand because the router copies each parameter.
func orderItem(path []byte) ([]byte, bool) {
	rest, ok := bytes.CutPrefix(path, itemsPrefix)
	if !ok {
		return nil, false
	}
	item, ok := bytes.CutSuffix(rest, ordersSuffix)
	return item, ok && len(item) > 0 && bytes.IndexByte(item, '/') < 0
}

// createOrder is the hot path: everything that loses or wins comes through here.
func (s *Server) createOrder(ctx *fasthttp.RequestCtx, user flashsale.User) {
	text, _ := orderItem(ctx.Request.URI().PathOriginal())
	item, err := flashsale.ParseID[flashsale.ItemID](unsafeString(text))
	if err != nil {
		refuseID(ctx, err, problemItemID, problemItemNotFound)
		return
	}
	body, p := jsonBody(ctx)
	if p != nil {
		refuse(ctx, p)
		return
	}
	quantity, p := decodeQuantity(body)
	if p != nil {
		refuse(ctx, p)
		return
	}
	key, p := idempotencyKey(&ctx.Request.Header)
	if p != nil {
		refuse(ctx, p)
		return
	}
	if !s.catalogue.known(s.base, item) && !s.mayExist(ctx, item, user) {
		return
	}
	// No deadline of our own: the engine bounds the call, and a request without one costs it
	// no hand-over between goroutines.
	reply, err := s.config.Reserver.Reserve(context.Background(),
		engine.Request{Item: item, User: user.ID, Quantity: quantity, IdempotencyKey: key})
	if err != nil {
		s.refuseFault(ctx, err)
		return
	}
	switch reply.Outcome {
	case flashsale.Accepted:
		acceptOrder(ctx, item, reply.OrderNo, flashsale.Pending)
	case flashsale.Replayed:
		s.replayOrder(ctx, orderRef{reply.OrderNo, item, user.ID})
	case flashsale.DuplicateOrder, flashsale.LimitReached, flashsale.KeyReused:
		refuseOrder(ctx, outcomeProblems[reply.Outcome], reply.OrderNo)
	case flashsale.NotStarted:
		refuseUntil(ctx, problemNotStarted, reply.OpensAt)
	case flashsale.NotReady:
		s.refuseNotReady(ctx, item)
	default:
		if int(reply.Outcome) >= len(outcomeProblems) || outcomeProblems[reply.Outcome] == nil {
			s.faults.of(ctx, "create order", "item", item, "outcome", reply.Outcome)
			refuse(ctx, problemInternal)
			return
		}
		refuse(ctx, outcomeProblems[reply.Outcome])
	}
}

// mayExist looks for an item that the listing does not hold, and answers if nobody holds it: what a
// client makes up costs the engine nothing, and its user only so many looks. While the ledger
// cannot say, the item may exist.
func (s *Server) mayExist(ctx *fasthttp.RequestCtx, id flashsale.ItemID, user flashsale.User) bool {
	if s.catalogue.remembers(id) {
		return true
	}
	if !s.rates.unknowns.byUser(ctx, user.ID) {
		return false
	}
	_, err := s.catalogue.item(s.base, id)
	if errors.Is(err, flashsale.ErrNotFound) {
		refuse(ctx, problemItemNotFound)
		return false
	}
	return true
}

// acceptOrder names the order, and in Location where it can be read without a search.
func acceptOrder(ctx *fasthttp.RequestCtx, item flashsale.ItemID, no flashsale.OrderNo, status flashsale.Status) {
	header := &ctx.Response.Header
	header.SetStatusCode(fasthttp.StatusAccepted)
	header.SetContentType(typeJSON)
	var buf [96]byte
	location := strconv.AppendInt(append(buf[:0], "/v1/orders/"...), int64(no), 10)
	location = strconv.AppendInt(append(location, "?item="...), int64(item), 10)
	header.SetCanonical(headerLocation, location)
	ctx.Response.SetBody(appendState(buf[:0], no, status, ""))
}

// replayOrder answers a key that was accepted before: the same order, as it stands now. While the
// ledger does not know it, or cannot say, it is what Redis says: on its way there.
func (s *Server) replayOrder(ctx *fasthttp.RequestCtx, ref orderRef) {
	call, cancel := context.WithTimeout(s.base, replayTimeout)
	defer cancel()
	order, err := s.ledgerOrder(call, ref)
	if err != nil {
		order.Status = flashsale.Pending
		if !errors.Is(err, flashsale.ErrNotFound) {
			s.faults.of(ctx, "read replayed order", "error", err)
		}
	}
	ctx.Response.Header.SetCanonical(headerReplayed, valueTrue)
	acceptOrder(ctx, ref.item, ref.no, order.Status)
}

func (s *Server) refuseFault(ctx *fasthttp.RequestCtx, err error) {
	if errors.Is(err, engine.ErrUnknown) {
		s.faults.of(ctx, "create order", "error", err)
		refuse(ctx, problemOutcomeUnknown)
		return
	}
	s.fault(ctx, "create order", err)
}

// refuseNotReady tells an item that Redis does not hold from one that does not exist, has not
// opened or is over.
func (s *Server) refuseNotReady(ctx *fasthttp.RequestCtx, id flashsale.ItemID) {
	item, err := s.catalogue.item(s.base, id)
	if errors.Is(err, flashsale.ErrNotFound) {
		refuse(ctx, problemItemNotFound)
		return
	}
	if err != nil {
		s.faults.of(ctx, "look up item", "item", id, "error", err)
		refuse(ctx, problemNotReady)
		return
	}
	switch now := s.catalogue.now(s.base); {
	case now.Before(item.OpensAt):
		refuseUntil(ctx, problemNotStarted, item.OpensAt)
	case !now.Before(item.ClosesAt):
		refuse(ctx, problemEnded)
	default:
		refuse(ctx, problemNotReady)
	}
}

// requestedOrder reads which order a request is about, and answers if it is none.
func requestedOrder(ctx *fasthttp.RequestCtx, user flashsale.User) (ref orderRef, ok bool) {
	ref.user = user.ID
	ref.no, ok = pathID[flashsale.OrderNo](ctx, "order_no", problemOrderNo, problemOrderNotFound)
	if !ok {
		return ref, false
	}
	if text, given := queryText(ctx, "item"); given {
		var err error
		if ref.item, err = flashsale.ParseID[flashsale.ItemID](text); err != nil {
			refuseID(ctx, err, problemItemID, problemOrderNotFound)
			return ref, false
		}
	}
	return ref, true
}

// getOrder answers the order, and with ?wait only once its state is another than the one given by
// ?status, or than now.
func (s *Server) getOrder(ctx *fasthttp.RequestCtx, user flashsale.User) {
	ref, ok := requestedOrder(ctx, user)
	if !ok {
		return
	}
	wait, ok := queryWait(ctx, 0)
	if !ok {
		return
	}
	known, given := queryText(ctx, "status")
	if given && !flashsale.Status(known).Valid() {
		refuse(ctx, problemStatus)
		return
	}
	order, err := s.findOrder(s.base, ref)
	if err != nil {
		s.refuseOrderFault(ctx, "get order", err)
		return
	}
	if wait > 0 && !order.Status.Final() && (!given || string(order.Status) == known) {
		if !s.waiting.take(user.ID) {
			refuse(ctx, problemTooManyWaiters)
			return
		}
		defer s.waiting.give(user.ID)
		if order, ok = s.await(order, wait); !ok {
			refuse(ctx, problemOverloaded)
			return
		}
	}
	s.answerOrder(ctx, order)
}

// answerOrder sends an order with what it is of.
func (s *Server) answerOrder(ctx *fasthttp.RequestCtx, order flashsale.Order) {
	titles := s.titles(order)
	answer(ctx, fasthttp.StatusOK, appendOrder(make([]byte, 0, 512), order, titles[order.ItemID]))
}

// titles returns what is known of the items of orders.
func (s *Server) titles(orders ...flashsale.Order) map[flashsale.ItemID]flashsale.Title {
	ctx, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	ids := make([]flashsale.ItemID, len(orders))
	for n, order := range orders {
		ids[n] = order.ItemID
	}
	return s.catalogue.titles(ctx, ids)
}

// await returns when the order has changed, the time is over or the server shuts down; and at
// once, with false, when too many wait.
func (s *Server) await(order flashsale.Order, wait time.Duration) (flashsale.Order, bool) {
	select {
	case s.waiters <- struct{}{}:
		defer func() { <-s.waiters }()
	default:
		return order, false
	}
	f := s.follow(order)
	defer f.stop()
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	events := f.watch.events
	for moved := false; !moved; {
		select {
		case event, ok := <-events:
			if !ok {
				events = nil // cannot happen to one who reads; the timer remains
				continue
			}
			moved = f.hear(event)
		case <-f.timer.C:
			moved = f.tick()
		case <-deadline.C:
			return f.order, true
		case <-s.draining:
			return f.order, true
		}
	}
	if f.order.Status == f.status {
		return f.order, true
	}
	if current, err := s.findOrder(s.base, refOf(order)); err == nil {
		return current, true // with its amount and deadline, which a result does not carry
	}
	f.order.Status, f.order.Reason = f.status, f.reason
	return f.order, true
}

// listOrders answers one page of the user's orders, newest first. Pending ones stand where
// they will stand when the ledger has them.
func (s *Server) listOrders(ctx *fasthttp.RequestCtx, user flashsale.User) {
	before, limit, ok := queryPage[flashsale.OrderNo](ctx)
	if !ok {
		return
	}
	orders, more, err := s.page(user.ID, before, limit)
	if err != nil {
		s.fault(ctx, "list orders", err)
		return
	}
	titles := s.titles(orders...)
	body := append(make([]byte, 0, 64+512*len(orders)), `{"orders":[`...)
	for n, order := range orders {
		if n > 0 {
			body = append(body, ',')
		}
		body = appendOrder(body, order, titles[order.ItemID])
	}
	body = append(body, ']')
	if more {
		body = appendID(append(body, `,"next_cursor":`...), orders[len(orders)-1].OrderNo)
	}
	answer(ctx, fasthttp.StatusOK, append(body, '}'))
}

// page merges what the ledger holds with what is pending in Redis. Redis also names orders
// that the ledger holds; those of other pages are told apart by the range of this one.
func (s *Server) page(user string, before flashsale.OrderNo, limit int) ([]flashsale.Order, bool, error) {
	ctx, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	// Redis first: an order that reaches the ledger between the two reads is then seen in both.
	held, err := s.heldOrders(ctx, user, 0)
	if err != nil {
		return nil, false, err
	}
	orders, err := s.config.Ledger.Orders(ctx, user, before, limit)
	if err != nil {
		return nil, false, err
	}
	more := len(orders) >= limit
	known := make(map[flashsale.OrderNo]bool, len(orders))
	var last flashsale.OrderNo // orders below it belong to later pages
	for _, order := range orders {
		known[order.OrderNo] = true
		if more {
			last = order.OrderNo
		}
	}
	for _, order := range held {
		if !known[order.OrderNo] && order.OrderNo > last && (before == 0 || order.OrderNo < before) {
			orders = append(orders, order)
		}
	}
	slices.SortFunc(orders, func(a, b flashsale.Order) int { return cmp.Compare(b.OrderNo, a.OrderNo) })
	if len(orders) > limit {
		orders, more = orders[:limit], true
	}
	return orders, more, nil
}

func (s *Server) cancelOrder(ctx *fasthttp.RequestCtx, user flashsale.User) {
	ref, ok := requestedOrder(ctx, user)
	if !ok {
		return
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	order, err := s.config.Ledger.Cancel(call, ref.no, user.ID)
	switch {
	case err == nil:
		// The shopper who buys again a moment later must not meet the order he gave up.
		if err := s.config.Effects.Release(call, order); err != nil {
			s.faults.of(ctx, "units of a cancelled order are still owed", "order_no", order.OrderNo, "error", err)
		}
		s.answerOrder(ctx, order)
	case errors.Is(err, flashsale.ErrNotFound):
		s.refuseUnknown(ctx, ref, "cancel order")
	case errors.Is(err, flashsale.ErrConflict):
		refuse(ctx, problemNotCancellable.with("order_status", string(order.Status)))
	default:
		s.changeFault(ctx, "cancel order", err)
	}
}

// refuseUnknown answers a request to change an order that the ledger does not hold: there is no
// such order, or it has not arrived there yet and cannot be changed before.
func (s *Server) refuseUnknown(ctx *fasthttp.RequestCtx, ref orderRef, operation string) {
	order, err := s.findOrder(s.base, ref)
	if err != nil {
		s.refuseOrderFault(ctx, operation, err)
		return
	}
	refuse(ctx, problemOrderPending.with("order_status", string(order.Status)))
}

func (s *Server) refuseOrderFault(ctx *fasthttp.RequestCtx, operation string, err error) {
	if errors.Is(err, flashsale.ErrNotFound) {
		refuse(ctx, problemOrderNotFound)
		return
	}
	s.fault(ctx, operation, err)
}
