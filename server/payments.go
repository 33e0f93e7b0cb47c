package server

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// payTimeout bounds what a request to pay or to refund asks of the stores and of Alipay.
const payTimeout = 12 * time.Second

// orderNoPlace stands for the order's number in Config.OrderPage.
const orderNoPlace = "{order_no}"

// createPayment starts to pay an order. The body says how, and never how much.
func (s *Server) createPayment(ctx *fasthttp.RequestCtx, user flashsale.User) {
	ref, ok := requestedOrder(ctx, user)
	if !ok {
		return
	}
	var request struct {
		Method flashsale.Method `json:"method"`
	}
	if p := decodeStrict(ctx, &request); p != nil {
		refuse(ctx, p)
		return
	}
	if request.Method != flashsale.Alipay && request.Method != flashsale.Points {
		refuse(ctx, problemInvalidField.at("method", []string{"method"}, ""))
		return
	}
	if s.config.Payments == nil {
		refuse(ctx, problemMethodMissing)
		return
	}
	call, cancel := s.changing(ctx, payTimeout)
	defer cancel()
	settlement, err := s.config.Payments.Start(call, ref.no, user.ID, request.Method)
	s.answerSettlement(ctx, ref, "pay order", settlement, err)
}

// createRefund gives the money of an order back. The body, which may be left out, says why.
func (s *Server) createRefund(ctx *fasthttp.RequestCtx, user flashsale.User) {
	ref, ok := requestedOrder(ctx, user)
	if !ok {
		return
	}
	var request struct {
		Reason string `json:"reason"`
	}
	if len(ctx.Request.Body()) > 0 {
		if p := decodeStrict(ctx, &request); p != nil {
			refuse(ctx, p)
			return
		}
	}
	request.Reason = foldLines.Replace(request.Reason)
	if !validReason(request.Reason) {
		refuse(ctx, problemInvalidField.at("reason", []string{"reason"}, ""))
		return
	}
	if s.config.Payments == nil {
		refuse(ctx, problemNotRefundable)
		return
	}
	call, cancel := s.changing(ctx, payTimeout)
	defer cancel()
	settlement, err := s.config.Payments.Refund(call, ref.no, user.ID, request.Reason)
	s.answerSettlement(ctx, ref, "refund order", settlement, err)
}

// foldLines makes one line of what a person wrote on several.
var foldLines = strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ", "\t", " ",
	"\v", " ", "\f", " ", "\u0085", " ", "\u2028", " ", "\u2029", " ")

// validReason accepts what a person can read: no control characters, and of a bounded length.
func validReason(reason string) bool {
	return utf8.RuneCountInString(reason) <= flashsale.RefundReasonLenMax && utf8.ValidString(reason) &&
		!strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (s *Server) answerSettlement(ctx *fasthttp.RequestCtx, ref orderRef,
	operation string, settlement flashsale.Settlement, err error,
) {
	no := ref.no
	if errors.Is(err, flashsale.ErrNotFound) {
		s.refuseUnknown(ctx, ref, operation)
		return
	}
	if err != nil {
		s.faults.of(ctx, operation, "order_no", no, "error", err)
		refuse(ctx, problemPaymentUnknown)
		return
	}
	status := fasthttp.StatusOK
	switch settlement.Outcome {
	case flashsale.PayStarted, flashsale.PayDone, flashsale.RefundComplete:
	case flashsale.RefundStarted:
		status = fasthttp.StatusAccepted
	default:
		if int(settlement.Outcome) >= len(paymentProblems) || paymentProblems[settlement.Outcome] == nil {
			s.faults.of(ctx, operation, "order_no", no, "outcome", settlement.Outcome)
			refuse(ctx, problemInternal)
			return
		}
		refuse(ctx, paymentProblems[settlement.Outcome].with("order_status", string(settlement.Order.Status)))
		return
	}
	body := appendID(append(make([]byte, 0, 512), `{"order_no":`...), no)
	body = appendString(append(body, `,"status":`...), string(settlement.Order.Status))
	if settlement.PayURL != "" {
		body = appendString(append(body, `,"pay_url":`...), settlement.PayURL)
	}
	answer(ctx, status, append(body, '}'))
}

// What Alipay wants to hear: the one word, or anything else to send the notice again.
const (
	acknowledged    = "success"
	notAcknowledged = "fail"
)

// looksMax bounds the questions about payments that those who wait cause at the same time.
const looksMax = 64

// look makes Payments ask what became of an order's payment, while somebody waits for it. Whatever
// it learns he hears like everybody else.
func (s *Server) look(no flashsale.OrderNo, status flashsale.Status) {
	if status != flashsale.Unpaid || s.config.Payments == nil {
		return
	}
	select {
	case s.looks <- struct{}{}:
	default:
		return // the notice tells
	}
	s.looking.Go(func() {
		defer func() { <-s.looks }()
		call, cancel := context.WithTimeout(s.base, payTimeout)
		defer cancel()
		if err := s.config.Payments.Look(call, no); err != nil {
			s.faults.log("look for a payment", "error", err)
		}
	})
}

// alipayNotify takes a notice from the open internet: it is bounded in size and time, and Payments
// bounds the rest and believes nothing that is not signed.
func (s *Server) alipayNotify(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.SetContentType("text/plain")
	if s.config.Payments == nil {
		ctx.Response.SetBodyString(notAcknowledged)
		return
	}
	body := append([]byte(nil), ctx.Request.Body()...) // outlives the handler should the call do so
	call, cancel := context.WithTimeout(s.base, payTimeout)
	defer cancel()
	if err := s.config.Payments.Notify(call, clientAddr(ctx), body); err != nil {
		s.faults.of(ctx, "notice not acknowledged", "error", err)
		ctx.Response.SetBodyString(notAcknowledged)
		return
	}
	ctx.Response.SetBodyString(acknowledged)
}

// alipayReturn takes the shopper's browser back. It proves which order that is about, and says
// nothing about money.
func (s *Server) alipayReturn(ctx *fasthttp.RequestCtx) {
	if s.config.Payments == nil {
		refuse(ctx, problemNotFound)
		return
	}
	query := append([]byte(nil), ctx.URI().QueryString()...)
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	order, err := s.config.Payments.Return(call, clientAddr(ctx), query)
	if errors.Is(err, errors.ErrUnsupported) {
		refuse(ctx, problemNotFound)
		return
	}
	if err != nil {
		s.refuseOrderFault(ctx, "return from alipay", err)
		return
	}
	if s.config.OrderPage != "" {
		ctx.Response.Header.SetStatusCode(fasthttp.StatusFound)
		ctx.Response.Header.SetCanonical(headerLocation,
			[]byte(strings.ReplaceAll(s.config.OrderPage, orderNoPlace, order.OrderNo.String())))
		return
	}
	answer(ctx, fasthttp.StatusOK, appendState(nil, order.OrderNo, order.Status, order.Reason))
}

// getPoints answers what the user has, with one page of entries.
func (s *Server) getPoints(ctx *fasthttp.RequestCtx, user flashsale.User) {
	before, limit, ok := queryPage[int64](ctx)
	if !ok {
		return
	}
	if s.config.Payments == nil {
		refuse(ctx, problemMethodMissing)
		return
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	statement, err := s.config.Payments.Points(call, user.ID, before, limit)
	if errors.Is(err, errors.ErrUnsupported) {
		refuse(ctx, problemMethodMissing)
		return
	}
	if err != nil {
		s.fault(ctx, "read points", err)
		return
	}
	body := append(make([]byte, 0, 128+160*len(statement.Entries)), `{"balance":`...)
	body = strconv.AppendInt(body, statement.Balance, 10)
	body = appendInt(body, "frozen", statement.Frozen)
	body = append(body, `,"entries":[`...)
	for n, entry := range statement.Entries {
		if n > 0 {
			body = append(body, ',')
		}
		body = appendPointsEntry(body, entry)
	}
	body = append(body, ']')
	if len(statement.Entries) == limit && statement.Entries[limit-1].Sequence > 1 {
		body = appendString(append(body, `,"next_cursor":`...), strconv.FormatInt(statement.Entries[limit-1].Sequence, 10))
	}
	answer(ctx, fasthttp.StatusOK, append(body, '}'))
}

func appendPointsEntry(dst []byte, e flashsale.PointsEntry) []byte {
	dst = appendString(append(dst, `{"type":`...), e.Type)
	dst = appendInt(dst, "points", e.Points)
	dst = appendInt(dst, "balance", e.Balance)
	if e.OrderNo != 0 {
		dst = appendID(append(dst, `,"order_no":`...), e.OrderNo)
	}
	if e.Ref != "" {
		dst = appendString(append(dst, `,"ref":`...), e.Ref)
	}
	return append(appendMillis(dst, "at_ms", e.At), '}')
}
