package server

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"

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
	Foreign      []foreignJSON     `json:"foreign_refunds"` // made by others, as in the provider's console
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

type foreignJSON struct {
	RefundNo     string           `json:"refund_no"`
	ProviderNo   string           `json:"provider_no,omitempty"`
	Method       flashsale.Method `json:"method"`
	TradeNo      string           `json:"trade_no"`
	Amount       int64            `json:"amount"`
	RefundedAtMS int64            `json:"refunded_at_ms"`
	SettledAtMS  int64            `json:"settled_at_ms,omitempty"` // missing: an operator has to see to it
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

// openMoneyMax bounds one answer: whoever has seen to some of it asks again.
const openMoneyMax = 500

type openMoneyJSON struct {
	Kind        string            `json:"kind"`
	RefundNo    string            `json:"refund_no"`
	OrderNo     flashsale.OrderNo `json:"order_no"`
	OrderStatus flashsale.Status  `json:"order_status"`
	Method      flashsale.Method  `json:"method"`
	TradeNo     string            `json:"trade_no"`
	Amount      int64             `json:"amount"`
	Detail      string            `json:"detail,omitempty"`
	SinceMS     int64             `json:"since_ms"`
	Attempts    int               `json:"attempts"`
}

// getOpenMoney lists the money that waits for a hand.
func (s *Server) getOpenMoney(ctx *fasthttp.RequestCtx) {
	if s.config.Payments == nil {
		refuse(ctx, problemNotFound)
		return
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	open, err := s.config.Payments.OpenMoney(call, openMoneyMax+1)
	if err != nil {
		s.fault(ctx, "list open money", err)
		return
	}
	more := len(open) > openMoneyMax
	list := make([]openMoneyJSON, 0, len(open))
	for _, m := range open[:min(len(open), openMoneyMax)] {
		list = append(list, openMoneyJSON{
			m.Kind, m.Number, m.OrderNo, m.Status, m.Method, m.TradeNo, m.Amount, m.Detail, m.Since.UnixMilli(), m.Attempts,
		})
	}
	s.answerValue(ctx, fasthttp.StatusOK, map[string]any{"open": list, "more": more})
}

// settleRefund notes that an operator has seen to a refund; retryRefund asks for it again.
func (s *Server) settleRefund(ctx *fasthttp.RequestCtx) {
	s.changeRefund(ctx, "settle refund", func(call context.Context, number string) (any, error) {
		order, err := s.config.Payments.SettleRefund(call, number)
		return map[string]any{"refund_no": number, "order_no": order.OrderNo, "order_status": order.Status}, err
	})
}

func (s *Server) retryRefund(ctx *fasthttp.RequestCtx) {
	s.changeRefund(ctx, "retry refund", func(call context.Context, number string) (any, error) {
		err := s.config.Payments.RetryRefund(call, number)
		return map[string]any{"refund_no": number, "state": flashsale.RefundDue}, err
	})
}

func (s *Server) changeRefund(
	ctx *fasthttp.RequestCtx, operation string, change func(call context.Context, number string) (any, error),
) {
	number, _ := ctx.UserValue("refund_no").(string)
	number, err := url.PathUnescape(number) // of others' numbers nobody knows what is in them
	if err != nil || !utf8.ValidString(number) || strings.ContainsRune(number, 0) || s.config.Payments == nil {
		refuse(ctx, problemRefundNotFound)
		return
	}
	call, cancel := s.changing(ctx, callTimeout)
	defer cancel()
	value, err := change(call, number)
	switch {
	case errors.Is(err, flashsale.ErrNotFound):
		refuse(ctx, problemRefundNotFound)
	case errors.Is(err, flashsale.ErrConflict):
		refuse(ctx, problemRefundState)
	case err != nil:
		s.changeFault(ctx, operation, err)
	default:
		s.answerValue(ctx, fasthttp.StatusOK, value)
	}
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
		refuse(ctx, problemInvalidField.at("user", []string{"user"}, ""))
		return
	case request.Points < 1 || request.Points > pointsMax:
		refuse(ctx, problemInvalidField.at("points", []string{"points"}, ""))
		return
	case !flashsale.ValidIdempotencyKey(request.Ref):
		refuse(ctx, problemInvalidField.at("ref", []string{"ref"}, ""))
		return
	case s.config.Payments == nil:
		refuse(ctx, problemMethodMissing)
		return
	}
	call, cancel := s.changing(ctx, callTimeout)
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
		Foreign: make([]foreignJSON, 0, len(h.Foreign)),
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
	for _, f := range h.Foreign {
		foreign := foreignJSON{f.RefundNo, f.ProviderNo, f.Method, f.TradeNo, f.Amount, f.At.UnixMilli(), 0}
		if !f.SettledAt.IsZero() {
			foreign.SettledAtMS = f.SettledAt.UnixMilli()
		}
		j.Foreign = append(j.Foreign, foreign)
	}
	return j
}
