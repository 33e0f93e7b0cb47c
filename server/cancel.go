package server

import (
	"context"
	"errors"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// Why orders are ended when an operator does not say.
const (
	reasonSaleCancelled  = "the sale was cancelled"
	reasonOrderCancelled = "cancelled by the shop"
)

// cancellationJSON is how far the cancellation of a sale has come.
type cancellationJSON struct {
	Sale        flashsale.SaleID `json:"sale"`
	State       string           `json:"state"` // running, done
	Reason      string           `json:"reason"`
	StartedAtMS int64            `json:"started_at_ms"`
	Unpaid      int              `json:"unpaid"`    // still to be cancelled
	Paid        int              `json:"paid"`      // still to be refunded
	Refunding   int              `json:"refunding"` // with the refused ones
	Refused     int              `json:"refused"`
	Refunded    int              `json:"refunded"`
	Cancelled   int              `json:"cancelled"`
}

// cancelSale begins to cancel a whole sale. Asking again answers how far it has come.
func (s *Server) cancelSale(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.SaleID](ctx, "sale", problemSaleID, problemSaleNotFound)
	if !ok {
		return
	}
	reason, ok := s.operatorsReason(ctx, reasonSaleCancelled)
	if !ok {
		return
	}
	call, cancel := s.changing(ctx, callTimeout)
	defer cancel()
	_, err := s.config.Payments.CancelSale(call, id, reason)
	if errors.Is(err, flashsale.ErrNotFound) {
		refuse(ctx, problemSaleNotFound)
		return
	}
	if err != nil {
		s.changeFault(ctx, "cancel sale", err)
		return
	}
	s.catalogueChanged()
	s.answerCancellation(ctx, fasthttp.StatusAccepted, id)
}

func (s *Server) getSaleCancellation(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.SaleID](ctx, "sale", problemSaleID, problemSaleNotFound)
	if !ok {
		return
	}
	if s.config.Payments == nil {
		refuse(ctx, problemNotFound)
		return
	}
	s.answerCancellation(ctx, fasthttp.StatusOK, id)
}

func (s *Server) answerCancellation(ctx *fasthttp.RequestCtx, status int, id flashsale.SaleID) {
	call, cancel := context.WithTimeout(s.base, preheatTimeout)
	defer cancel()
	c, err := s.config.Payments.SaleCancellation(call, id)
	if errors.Is(err, flashsale.ErrNotFound) {
		refuse(ctx, problemNotCancelling)
		return
	}
	if err != nil {
		s.fault(ctx, "read cancellation of sale", err)
		return
	}
	state := "running"
	if c.Done() {
		state = "done"
	}
	s.answerValue(ctx, status, cancellationJSON{
		Sale: c.SaleID, State: state, Reason: c.Reason, StartedAtMS: c.StartedAt.UnixMilli(), Unpaid: c.Unpaid, Paid: c.Paid,
		Refunding: c.Refunding, Refused: c.Refused, Refunded: c.Refunded, Cancelled: c.Cancelled,
	})
}

// cancelAnyOrder ends an order of any shopper: unpaid it is cancelled, paid it is refunded.
func (s *Server) cancelAnyOrder(ctx *fasthttp.RequestCtx) {
	no, ok := pathID[flashsale.OrderNo](ctx, "order_no", problemOrderNo, problemOrderNotFound)
	if !ok {
		return
	}
	reason, ok := s.operatorsReason(ctx, reasonOrderCancelled)
	if !ok {
		return
	}
	call, cancel := s.changing(ctx, payTimeout)
	defer cancel()
	settlement, err := s.config.Payments.CancelOrder(call, no, reason)
	status := fasthttp.StatusOK
	switch {
	case errors.Is(err, flashsale.ErrNotFound):
		refuse(ctx, problemOrderNotFound)
		return
	case err != nil:
		s.changeFault(ctx, "cancel order", err)
		return
	case settlement.Outcome == flashsale.NotRefundable:
		refuse(ctx, problemNotCancellable.with("order_status", string(settlement.Order.Status)))
		return
	case settlement.Outcome == flashsale.RefundStarted:
		status = fasthttp.StatusAccepted
	}
	s.answerValue(ctx, status, map[string]any{"order_no": no, "status": settlement.Order.Status})
}

// operatorsReason reads the optional body {"reason":"…"}, and answers what is wrong with it.
func (s *Server) operatorsReason(ctx *fasthttp.RequestCtx, otherwise string) (reason string, ok bool) {
	var request struct {
		Reason string `json:"reason"`
	}
	if len(ctx.Request.Body()) > 0 {
		if p := decodeStrict(ctx, &request); p != nil {
			refuse(ctx, p)
			return "", false
		}
	}
	switch {
	case !validReason(request.Reason):
		refuse(ctx, problemInvalidField.with("field", "reason"))
		return "", false
	case s.config.Payments == nil:
		refuse(ctx, problemNotFound)
		return "", false
	case request.Reason == "":
		return otherwise, true
	}
	return request.Reason, true
}
