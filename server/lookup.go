package server

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// orderRecord is an order as operators read it: with whose it is and where it comes from.
type orderRecord struct {
	OrderNo        flashsale.OrderNo `json:"order_no"`
	ItemID         flashsale.ItemID  `json:"item_id"`
	User           string            `json:"user"`
	Quantity       int               `json:"quantity"`
	Status         flashsale.Status  `json:"status"`
	Reason         string            `json:"reason,omitempty"`
	AmountFen      int64             `json:"amount_fen"`
	AmountPoints   int64             `json:"amount_points"`
	IdempotencyKey string            `json:"idempotency_key,omitempty"`
	Generation     int64             `json:"generation"`
	Sequence       int64             `json:"sequence"`
	ReservedAtMS   int64             `json:"reserved_at_ms"`
	UpdatedAtMS    int64             `json:"updated_at_ms,omitempty"`
	PayDeadlineMS  int64             `json:"pay_deadline_ms,omitempty"`
}

// eventRecord is something that happened to an order.
type eventRecord struct {
	AtMS   int64  `json:"at_ms"`
	Event  string `json:"event"`
	Detail string `json:"detail,omitempty"`
}

// lookUp finds the orders of a user, pending ones too, or those of a trade.
func (s *Server) lookUp(ctx *fasthttp.RequestCtx) {
	user, byUser := queryText(ctx, "user")
	trade, byTrade := queryText(ctx, "trade")
	before, limit, ok := queryPage[flashsale.OrderNo](ctx)
	switch {
	case !ok:
		return
	case byUser == byTrade || byUser && !flashsale.ValidUser(user) || byTrade && !plainText(trade):
		refuse(ctx, problemLookUp)
		return
	}
	orders, more, err := s.ordersOf(user, trade, before, limit)
	if err != nil {
		s.fault(ctx, "look up orders", err)
		return
	}
	answer := struct {
		Orders     []orderRecord     `json:"orders"`
		NextCursor flashsale.OrderNo `json:"next_cursor,omitzero"`
	}{Orders: make([]orderRecord, len(orders))}
	for n, order := range orders {
		answer.Orders[n] = newOrderRecord(order)
	}
	if more {
		answer.NextCursor = orders[len(orders)-1].OrderNo
	}
	s.answerValue(ctx, fasthttp.StatusOK, answer)
}

func (s *Server) ordersOf(user, trade string, before flashsale.OrderNo, limit int) (
	orders []flashsale.Order, more bool, err error,
) {
	if user != "" {
		return s.page(user, before, limit)
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	numbers, err := s.config.Ledger.OfTrade(call, trade)
	for _, no := range numbers {
		order, err := s.config.Ledger.Order(call, no)
		if err != nil {
			return nil, false, err
		}
		orders = append(orders, order)
	}
	return orders, false, err
}

// lookAt answers an order with all that happened to it.
func (s *Server) lookAt(ctx *fasthttp.RequestCtx) {
	no, ok := pathID[flashsale.OrderNo](ctx, "order_no", problemOrderNo, problemOrderNotFound)
	if !ok {
		return
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	order, err := s.config.Ledger.Order(call, no)
	var events []flashsale.OrderEvent
	if err == nil {
		events, err = s.config.Ledger.Events(call, no)
	}
	if err != nil {
		s.refuseOrderFault(ctx, "look at order", err)
		return
	}
	answer := struct {
		Order  orderRecord   `json:"order"`
		Events []eventRecord `json:"events"`
	}{newOrderRecord(order), make([]eventRecord, len(events))}
	for n, event := range events {
		answer.Events[n] = eventRecord{event.At.UnixMilli(), event.Event, event.Detail}
	}
	s.answerValue(ctx, fasthttp.StatusOK, answer)
}

func newOrderRecord(o flashsale.Order) orderRecord {
	record := orderRecord{
		OrderNo: o.OrderNo, ItemID: o.ItemID, User: o.User, Quantity: o.Quantity, Status: o.Status,
		Reason: o.Reason, AmountFen: o.AmountFen, AmountPoints: o.AmountPoints,
		IdempotencyKey: o.IdempotencyKey, Generation: o.Generation, Sequence: o.Sequence,
		ReservedAtMS: o.ReservedAt.UnixMilli(),
	}
	if !o.UpdatedAt.IsZero() { // it is in the ledger
		record.UpdatedAtMS, record.PayDeadlineMS = o.UpdatedAt.UnixMilli(), o.PayDeadline.UnixMilli()
	}
	return record
}

// plainText accepts what a provider's number may be: no control characters, no broken UTF-8.
func plainText(text string) bool {
	return text != "" && len(text) <= 200 && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}
