package server

import (
	"context"
	"errors"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// historyJSON is an order's money as operators read it.
type historyJSON struct {
	OrderNo      flashsale.OrderNo `json:"order_no"`
	User         string            `json:"user"`
	Status       flashsale.Status  `json:"status"`
	AmountFen    int64             `json:"amount_fen"`
	AmountPoints int64             `json:"amount_points"`
	Charge       string            `json:"charge,omitempty"` // open, paid, closed
	Intent       *intentJSON       `json:"points_intent,omitempty"`
	Payments     []paymentJSON     `json:"payments"`
	Refunds      []refundJSON      `json:"refunds"`
}

type intentJSON struct {
	State    flashsale.IntentState `json:"state"`
	Points   int64                 `json:"points"`
	TradeNo  int64                 `json:"trade_no,string"`
	Attempts int                   `json:"attempts"`
}

type paymentJSON struct {
	Method   flashsale.Method `json:"method"`
	TradeNo  string           `json:"trade_no"`
	Amount   int64            `json:"amount"`
	Surplus  bool             `json:"surplus"`
	PaidAtMS int64            `json:"paid_at_ms"`
}

type refundJSON struct {
	RefundNo string                `json:"refund_no"`
	Method   flashsale.Method      `json:"method"`
	TradeNo  string                `json:"trade_no"`
	Amount   int64                 `json:"amount"`
	Surplus  bool                  `json:"surplus"`
	State    flashsale.RefundState `json:"state"`
	Reason   string                `json:"reason"`
	Fault    string                `json:"fault,omitempty"`
	Attempts int                   `json:"attempts"`
}

// getPayments shows everything that is known of an order's money.
func (s *Server) getPayments(ctx *fasthttp.RequestCtx) {
	no, ok := pathID[flashsale.OrderNo](ctx, "order_no", problemOrderNo, problemOrderNotFound)
	if !ok {
		return
	}
	if s.config.Payments == nil {
		refuse(ctx, problemNotFound)
		return
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	history, err := s.config.Payments.History(call, no)
	if err != nil {
		s.refuseOrderFault(ctx, "read payments", err)
		return
	}
	s.answerValue(ctx, fasthttp.StatusOK, newHistoryJSON(history))
}

// grantPoints gives points to a user. The ref makes it happen once, however often it is asked.
func (s *Server) grantPoints(ctx *fasthttp.RequestCtx) {
	var request struct {
		User   string `json:"user"`
		Points int64  `json:"points"`
		Ref    string `json:"ref"`
	}
	if p := decodeStrict(ctx, &request); p != nil {
		refuse(ctx, p)
		return
	}
	const pointsMax = 1_000_000_000_000 // of one grant, as the points ledger takes it
	switch {
	case !flashsale.ValidUser(request.User):
		refuse(ctx, problemInvalidField.with("field", "user"))
		return
	case request.Points < 1 || request.Points > pointsMax:
		refuse(ctx, problemInvalidField.with("field", "points"))
		return
	case !flashsale.ValidIdempotencyKey(request.Ref):
		refuse(ctx, problemInvalidField.with("field", "ref"))
		return
	case s.config.Payments == nil:
		refuse(ctx, problemMethodMissing)
		return
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	granted, err := s.config.Payments.Grant(call, request.User, request.Points, request.Ref)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		refuse(ctx, problemMethodMissing)
		return
	case errors.Is(err, flashsale.ErrConflict):
		refuse(ctx, problemRefTaken)
		return
	case err != nil:
		s.changeFault(ctx, "grant points", err)
		return
	case !granted:
		refuse(ctx, problemPointsLimit)
		return
	}
	statement, err := s.config.Payments.Points(call, request.User, 0, 1)
	if err != nil {
		s.changeFault(ctx, "read points", err)
		return
	}
	s.answerValue(ctx, fasthttp.StatusOK, map[string]any{
		"user": request.User, "balance": statement.Balance, "frozen": statement.Frozen,
	})
}

func newHistoryJSON(h flashsale.PaymentHistory) historyJSON {
	j := historyJSON{
		OrderNo: h.Order.OrderNo, User: h.Order.User, Status: h.Order.Status,
		AmountFen: h.Order.AmountFen, AmountPoints: h.Order.AmountPoints, Charge: h.Charge,
		Payments: make([]paymentJSON, 0, len(h.Payments)), Refunds: make([]refundJSON, 0, len(h.Refunds)),
	}
	if h.Intent.State != "" {
		j.Intent = &intentJSON{h.Intent.State, h.Intent.Points, h.Intent.TradeNo, h.Intent.Attempts}
	}
	for _, p := range h.Payments {
		j.Payments = append(j.Payments, paymentJSON{p.Method, p.TradeNo, p.Amount, p.Surplus, p.PaidAt.UnixMilli()})
	}
	for _, r := range h.Refunds {
		j.Refunds = append(j.Refunds, refundJSON{
			r.RefundNo, r.Method, r.TradeNo, r.Amount, r.Surplus, r.State, r.Reason, r.Fault, r.Attempts,
		})
	}
	return j
}
