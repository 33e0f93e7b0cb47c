package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// fakePayments answers as it is told and remembers what it was asked.
type fakePayments struct {
	mu         sync.Mutex
	asked      []string
	settlement flashsale.Settlement
	order      flashsale.Order
	statement  flashsale.PointsStatement
	history    flashsale.PaymentHistory
	refused    bool // a grant beyond the limit
	err        error
	onNotify   func()
	onLook     func()

	cancellation flashsale.SaleCancellation
	open         []flashsale.OpenMoney
}

func (f *fakePayments) notef(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
}

func (f *fakePayments) Start(_ context.Context, no flashsale.OrderNo, user string, method flashsale.Method) (flashsale.Settlement, error) {
	f.notef("start %s %s %s", no, user, method)
	return f.settlement, f.err
}

func (f *fakePayments) Refund(_ context.Context, no flashsale.OrderNo, user, reason string) (flashsale.Settlement, error) {
	f.notef("refund %s %s %q", no, user, reason)
	return f.settlement, f.err
}

func (f *fakePayments) Notify(_ context.Context, _ netip.Prefix, body []byte) error {
	f.notef("notify %s", body)
	if f.onNotify != nil {
		f.onNotify()
	}
	return f.err
}

func (f *fakePayments) Look(_ context.Context, no flashsale.OrderNo) error {
	f.notef("look %s", no)
	if f.onLook != nil {
		f.onLook()
	}
	return f.err
}

func (f *fakePayments) Return(_ context.Context, _ netip.Prefix, rawQuery []byte) (flashsale.Order, error) {
	f.notef("return %s", rawQuery)
	return f.order, f.err
}

func (f *fakePayments) History(_ context.Context, no flashsale.OrderNo) (flashsale.PaymentHistory, error) {
	f.notef("history %s", no)
	return f.history, f.err
}

func (f *fakePayments) OpenMoney(_ context.Context, limit int) ([]flashsale.OpenMoney, error) {
	f.notef("open money %d", limit)
	return f.open, f.err
}

func (f *fakePayments) SettleRefund(_ context.Context, number string) (flashsale.Order, error) {
	f.notef("settle %s", number)
	return f.order, f.err
}

func (f *fakePayments) RetryRefund(_ context.Context, number string) error {
	f.notef("retry %s", number)
	return f.err
}

func (f *fakePayments) CancelSale(_ context.Context, sale flashsale.SaleID, reason string) (bool, error) {
	f.notef("cancel sale %s %q", sale, reason)
	return true, f.err
}

func (f *fakePayments) SaleCancellation(_ context.Context, sale flashsale.SaleID) (flashsale.SaleCancellation, error) {
	f.notef("cancellation %s", sale)
	return f.cancellation, f.err
}

func (f *fakePayments) CancelOrder(_ context.Context, no flashsale.OrderNo, reason string) (flashsale.Settlement, error) {
	f.notef("cancel order %s %q", no, reason)
	return f.settlement, f.err
}

func (f *fakePayments) Points(_ context.Context, user string, before int64, limit int) (flashsale.PointsStatement, error) {
	f.notef("points %s %d %d", user, before, limit)
	return f.statement, f.err
}

func (f *fakePayments) Grant(_ context.Context, user string, points int64, ref string) (bool, error) {
	f.notef("grant %s %d %s", user, points, ref)
	return !f.refused, f.err
}

func setupPayments(t *testing.T, change func(*Config)) (*bundle, *fakePayments) {
	t.Helper()
	f := &fakePayments{}
	return setup(t, func(c *Config) {
		c.Payments = f
		if change != nil {
			change(c)
		}
	}), f
}

// Protects the contract of paying and refunding: each outcome has its status, code and body, and
// nobody learns of another's order.
func TestPayments_Outcomes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		call    string
		outcome flashsale.PayOutcome
		status  flashsale.Status
		url     string
		err     error
		want    string
	}{
		{call: "payments", outcome: flashsale.PayStarted, status: flashsale.Unpaid, url: "https://pay.example/?a=1&b=2", want: `200 {"order_no":"42","status":"unpaid","pay_url":"https://pay.example/?a=1&b=2"}`},
		{call: "payments", outcome: flashsale.PayDone, status: flashsale.Paid, want: `200 {"order_no":"42","status":"paid"}`},
		{call: "payments", outcome: flashsale.NotPayable, status: flashsale.Cancelled, want: `409 {"status":409,"code":"not_payable","title":"Only an unpaid order can be paid.","order_status":"cancelled"}`},
		{call: "payments", outcome: flashsale.MethodUnavailable, status: flashsale.Unpaid, want: `409 {"status":409,"code":"method_unavailable","title":"The order cannot be paid in this way.","order_status":"unpaid"}`},
		{call: "payments", outcome: flashsale.InsufficientPoints, status: flashsale.Unpaid, want: `409 {"status":409,"code":"insufficient_points","title":"You have too few points.","order_status":"unpaid"}`},
		{call: "payments", outcome: flashsale.PaymentClosed, status: flashsale.Unpaid, want: `409 {"status":409,"code":"payment_closed","title":"The payment was ended: the order cannot be paid in this way any more.","order_status":"unpaid"}`},
		{call: "payments", outcome: flashsale.TooLate, status: flashsale.Unpaid, want: `409 {"status":409,"code":"too_late","title":"Too little time is left to pay.","order_status":"unpaid"}`},
		{call: "payments", err: flashsale.ErrNotFound, want: `404 {"status":404,"code":"order_not_found","title":"You have no such order."}`},
		{call: "payments", err: io.ErrUnexpectedEOF, want: `503 {"status":503,"code":"outcome_unknown","title":"The payment may have been made. Ask again: nothing is paid twice."}`},
		{call: "payments", outcome: 200, want: `500 {"status":500,"code":"internal","title":"This is a fault of the server."}`},
		{call: "refunds", outcome: flashsale.RefundStarted, status: flashsale.Refunding, want: `202 {"order_no":"42","status":"refunding"}`},
		{call: "refunds", outcome: flashsale.RefundComplete, status: flashsale.Refunded, want: `200 {"order_no":"42","status":"refunded"}`},
		{call: "refunds", outcome: flashsale.NotRefundable, status: flashsale.Unpaid, want: `409 {"status":409,"code":"not_refundable","title":"Only a paid order can be refunded.","order_status":"unpaid"}`},
	} {
		b, f := setupPayments(t, nil)
		f.settlement = flashsale.Settlement{Outcome: c.outcome, PayURL: c.url, Order: flashsale.Order{OrderNo: 42, Status: c.status}}
		f.err = c.err
		response := b.call("POST", "/v1/orders/42/"+c.call, map[string]string{"payments": `{"method":"points"}`, "refunds": ""}[c.call], as("ann")...)
		if got := strconv.Itoa(response.StatusCode()) + " " + particular(response); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// Protects an order that has not reached the ledger: it exists for its user, and cannot be paid or
// refunded yet.
func TestPayments_Pending(t *testing.T) {
	t.Parallel()
	b, f := setupPayments(t, nil)
	f.err = flashsale.ErrNotFound
	order := newOrder("ann")
	order.Status = flashsale.Pending
	b.redis.now = time.Now()
	b.ledger.sales[0].Items[0].OpensAt, b.ledger.sales[0].Items[0].ClosesAt = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	b.redis.held["ann"] = []flashsale.Order{order}
	response := b.call("POST", "/v1/orders/"+order.OrderNo.String()+"/payments", `{"method":"points"}`, as("ann")...)
	if got := code(response); got != "409 order_pending" || !strings.Contains(string(response.Body()), `"order_status":"pending"`) {
		t.Errorf("got %s %s", got, response.Body())
	}
	if got := code(b.call("POST", "/v1/orders/"+order.OrderNo.String()+"/payments", `{"method":"points"}`, as("bob")...)); got != "404 order_not_found" {
		t.Errorf("another user: %s", got)
	}
}

// Protects against bad input, which reaches nobody, and against a caller who names an amount.
func TestPayments_BadInput(t *testing.T) {
	t.Parallel()
	b, f := setupPayments(t, nil)
	for _, c := range [][3]string{
		{"/v1/orders/x/payments", `{"method":"points"}`, "400 invalid_order_no"},
		{"/v1/orders/0/payments", `{"method":"points"}`, "404 order_not_found"},
		{"/v1/orders/1/payments", ``, "400 malformed_json"},
		{"/v1/orders/1/payments", `{}`, "422 invalid_field"},
		{"/v1/orders/1/payments", `{"method":"cash"}`, "422 invalid_field"},
		{"/v1/orders/1/payments", `{"method":7}`, "422 invalid_field"},
		{"/v1/orders/1/payments", `{"method":"points","amount":1}`, "422 unknown_field"},
		{"/v1/orders/1/refunds", `{"reason":7}`, "422 invalid_field"},
		{"/v1/orders/1/refunds", `{"reason":"a\u0000b"}`, "422 invalid_field"},
		{"/v1/orders/1/refunds", `{"reason":"` + strings.Repeat("x", 201) + `"}`, "422 invalid_field"},
		{"/v1/orders/1/refunds", `{"amount":1}`, "422 unknown_field"},
	} {
		if got := code(b.call("POST", c[0], c[1], as("ann")...)); got != c[2] {
			t.Errorf("%s %s: got %s, want %s", c[0], c[1], got, c[2])
		}
	}
	for path, want := range map[string]string{
		"/v1/points?limit=0": "400 invalid_limit", "/v1/points?limit=101": "400 invalid_limit",
		"/v1/points?before=0": "400 invalid_cursor", "/v1/points?before=x": "400 invalid_cursor",
	} {
		if got := code(b.call("GET", path, "", as("ann")...)); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if len(f.asked) > 0 {
		t.Errorf("asked %v", f.asked)
	}
	f.settlement = flashsale.Settlement{Outcome: flashsale.RefundComplete, Order: flashsale.Order{Status: flashsale.Refunded}}
	long := strings.Repeat("不", flashsale.RefundReasonLenMax) // of characters, not of bytes
	for _, reason := range []string{`不要了`, long, `two\r\nlines\nand\u2028more\tof it`} {
		b.call("POST", "/v1/orders/1/refunds", `{"reason":"`+reason+`"}`, as("ann")...)
	}
	want := []string{`refund 1 ann "不要了"`, `refund 1 ann "` + long + `"`, `refund 1 ann "two lines and more of it"`}
	if !slices.Equal(f.asked, want) {
		t.Errorf("asked %q, want %q", f.asked, want)
	}
}

// Protects a server without any way to pay: each call says so, and a notice is not acknowledged.
func TestPayments_NotConfigured(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for route, want := range map[string]string{
		`POST /v1/orders/1/payments {"method":"alipay"}`: "409 method_unavailable",
		`POST /v1/orders/1/refunds {}`:                   "409 not_refundable",
		`GET /v1/points `:                                "409 method_unavailable",
		`GET /v1/payments/alipay/return `:                "404 not_found",
	} {
		parts := strings.SplitN(route, " ", 3)
		if got := code(b.call(parts[0], parts[1], parts[2], as("ann")...)); got != want {
			t.Errorf("%s: got %s, want %s", route, got, want)
		}
	}
	if got := string(b.call("POST", "/v1/payments/alipay/notify", "a=b").Body()); got != "fail" {
		t.Errorf("notify: %s", got)
	}
	if got := code(b.callOps("POST", "/v1/admin/points", `{"user":"ann","points":1,"ref":"r"}`, bearer...)); got != "409 method_unavailable" {
		t.Errorf("grant: %s", got)
	}
	with, f := setupPayments(t, nil)
	f.err = fmt.Errorf("points: %w", errors.ErrUnsupported)
	if got := code(with.call("GET", "/v1/points", "", as("ann")...)); got != "409 method_unavailable" {
		t.Errorf("points without a points service: %s", got)
	}
}

// Protects what Alipay hears: the one word, as plain text and without a login, only when the
// notice is taken; and the notices beyond the bound come again.
func TestAlipayNotify(t *testing.T) {
	t.Parallel()
	b, f := setupPayments(t, nil)
	response := b.call("POST", "/v1/payments/alipay/notify", "trade_no=1&sign=x", "Content-Type", "application/x-www-form-urlencoded")
	if got := string(response.Body()); got != "success" || response.StatusCode() != 200 || string(response.Header.ContentType()) != "text/plain" {
		t.Errorf("got %d %s %s", response.StatusCode(), response.Header.ContentType(), got)
	}
	if len(f.asked) != 1 || f.asked[0] != "notify trade_no=1&sign=x" {
		t.Errorf("asked %v", f.asked)
	}
	f.err = io.ErrUnexpectedEOF
	if got := string(b.call("POST", "/v1/payments/alipay/notify", "x=y").Body()); got != "fail" {
		t.Errorf("got %s", got)
	}
	f.err = nil
}

// Protects the shopper who comes back from Alipay: he is sent to his order's page, or shown its
// state; a forged return shows nothing.
func TestAlipayReturn(t *testing.T) {
	t.Parallel()
	b, f := setupPayments(t, nil)
	f.order = flashsale.Order{OrderNo: 42, Status: flashsale.Unpaid}
	if got := string(b.call("GET", "/v1/payments/alipay/return?out_trade_no=42&sign=x", "").Body()); got != `{"order_no":"42","status":"unpaid"}` {
		t.Errorf("got %s", got)
	}
	if f.asked[0] != "return out_trade_no=42&sign=x" {
		t.Errorf("asked %v", f.asked)
	}
	f.err = flashsale.ErrNotFound
	if got := code(b.call("GET", "/v1/payments/alipay/return?a=b", "")); got != "404 order_not_found" {
		t.Errorf("forged: %s", got)
	}
	b, f = setupPayments(t, func(c *Config) { c.OrderPage = "https://shop.example/orders/{order_no}#paid" })
	f.order = flashsale.Order{OrderNo: 42}
	response := b.call("GET", "/v1/payments/alipay/return", "")
	if got := string(response.Header.Peek("Location")); response.StatusCode() != 302 || got != "https://shop.example/orders/42#paid" {
		t.Errorf("got %d %s", response.StatusCode(), got)
	}
}

// Protects what a user sees of his points, page by page.
func TestGetPoints(t *testing.T) {
	t.Parallel()
	b, f := setupPayments(t, nil)
	f.statement = flashsale.PointsStatement{Balance: 93, Frozen: 7, Entries: []flashsale.PointsEntry{
		{Sequence: 2, Type: "debit", OrderNo: 42, Points: -7, Balance: 93, At: opens},
		{Sequence: 1, Type: "grant", Ref: "welcome", Points: 100, Balance: 100, At: opens},
	}}
	want := `{"balance":93,"frozen":7,"entries":[{"type":"debit","points":-7,"balance":93,"order_no":"42","at_ms":1800000000000},` +
		`{"type":"grant","points":100,"balance":100,"ref":"welcome","at_ms":1800000000000}]`
	if got := string(b.call("GET", "/v1/points", "", as("ann")...).Body()); got != want+"}" {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	f.statement.Entries = f.statement.Entries[:1]
	if got := string(b.call("GET", "/v1/points?limit=1&before=3", "", as("ann")...).Body()); !strings.HasSuffix(got, `],"next_cursor":"2"}`) {
		t.Errorf("got %s", got)
	}
	if f.asked[1] != "points ann 3 1" {
		t.Errorf("asked %v", f.asked)
	}
}

// Protects the operator's calls: a grant says what the user has then, and each refusal why; the
// history of an order shows every payment and refund.
func TestAdminMoney(t *testing.T) {
	t.Parallel()
	b, f := setupPayments(t, nil)
	f.statement = flashsale.PointsStatement{Balance: 100}
	if got := string(b.callOps("POST", "/v1/admin/points", `{"user":"ann","points":100,"ref":"gift-1"}`, bearer...).Body()); got != `{"balance":100,"frozen":0,"user":"ann"}` {
		t.Errorf("got %s", got)
	}
	for body, want := range map[string]string{
		`{"user":"a b","points":1,"ref":"r"}`:           `"field":"user"`,
		`{"user":"ann","points":0,"ref":"r"}`:           `"field":"points"`,
		`{"user":"ann","points":1e15,"ref":"r"}`:        `"field":"points"`,
		`{"user":"ann","points":1}`:                     `"field":"ref"`,
		`{"user":"ann","points":1,"ref":"r","extra":1}`: `"field":"extra"`,
	} {
		if got := string(b.callOps("POST", "/v1/admin/points", body, bearer...).Body()); !strings.Contains(got, want) {
			t.Errorf("%s: %s", body, got)
		}
	}
	grant := func() string {
		return code(b.callOps("POST", "/v1/admin/points", `{"user":"ann","points":1,"ref":"r"}`, bearer...))
	}
	f.refused = true
	if got := grant(); got != "409 points_limit_reached" {
		t.Errorf("got %s", got)
	}
	f.err = flashsale.ErrConflict
	if got := grant(); got != "409 ref_taken" {
		t.Errorf("got %s", got)
	}
	f.err = io.ErrUnexpectedEOF
	if got := grant(); got != "503 outcome_unknown" {
		t.Errorf("got %s", got)
	}

	f.err = nil
	f.history = flashsale.PaymentHistory{
		Order:    flashsale.Order{OrderNo: 42, User: "ann", Status: flashsale.Refunding, AmountFen: 990, AmountPoints: 7},
		Charge:   "open",
		Intent:   flashsale.Intent{State: flashsale.IntentDone, Points: 7, TradeNo: 1234567890123456789, Attempts: 1},
		Payments: []flashsale.Payment{{Method: flashsale.Points, TradeNo: "1234567890123456789", Amount: 7, PaidAt: opens}},
		Refunds:  []flashsale.Refund{{RefundNo: "R42", Method: flashsale.Points, TradeNo: "1234567890123456789", Amount: 7, State: flashsale.RefundDue, Reason: "why"}},
		Foreign: []flashsale.ForeignRefund{
			{RefundNo: "F42-1", ProviderNo: "客服/1", Method: flashsale.Alipay, TradeNo: "T1", Amount: 3, At: opens},
			{RefundNo: "F42-2", Method: flashsale.Alipay, TradeNo: "T1", Amount: 4, At: opens, SettledAt: opens},
		},
	}
	want := `{"order_no":"42","user":"ann","status":"refunding","amount_fen":990,"amount_points":7,"charge":"open",` +
		`"points_intent":{"state":"done","points":7,"trade_no":"1234567890123456789","attempts":1},` +
		`"payments":[{"method":"points","trade_no":"1234567890123456789","amount":7,"surplus":false,"paid_at_ms":1800000000000}],` +
		`"refunds":[{"refund_no":"R42","method":"points","trade_no":"1234567890123456789","amount":7,"surplus":false,"state":"due","reason":"why","attempts":0}],` +
		`"foreign_refunds":[{"refund_no":"F42-1","provider_no":"客服/1","method":"alipay","trade_no":"T1","amount":3,"refunded_at_ms":1800000000000},` +
		`{"refund_no":"F42-2","method":"alipay","trade_no":"T1","amount":4,"refunded_at_ms":1800000000000,"settled_at_ms":1800000000000}]}`
	if got := string(b.callOps("GET", "/v1/admin/orders/42/payments", "", bearer...).Body()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	f.err = flashsale.ErrNotFound
	if got := code(b.callOps("GET", "/v1/admin/orders/42/payments", "", bearer...)); got != "404 order_not_found" {
		t.Errorf("got %s", got)
	}

	f.order = flashsale.Order{OrderNo: 42, Status: flashsale.Refunded}
	for _, c := range []struct {
		path string
		err  error
		want string
	}{
		{"F42-1/settle", nil, `200 {"order_no":"42","order_status":"refunded","refund_no":"F42-1"}`},
		{"%E5%AE%A2%E6%9C%8D%2F1/settle", nil, `200 {"order_no":"42","order_status":"refunded","refund_no":"客服/1"}`},
		{"R42/retry", nil, `200 {"refund_no":"R42","state":"due"}`},
		{"R42/retry", flashsale.ErrConflict, "409 refund_not_open"},
		{"R42/settle", flashsale.ErrNotFound, "404 refund_not_found"},
		{"%00/settle", nil, "404 refund_not_found"},
		{"%ff/settle", nil, "404 refund_not_found"},
		{"R42/settle", io.ErrUnexpectedEOF, "503 outcome_unknown"},
	} {
		f.err = c.err
		response := b.callOps("POST", "/v1/admin/refunds/"+c.path, "", bearer...)
		got := code(response)
		if response.StatusCode() == fasthttp.StatusOK {
			got = fmt.Sprintf("200 %s", response.Body())
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.path, got, c.want)
		}
	}
}

// Protects shoppers from a sale that nobody could pay: it is refused when it is created, with the
// field and what would do.
func TestCreateSale_Payable(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) {
		c.Ways = []flashsale.Terms{
			{Method: flashsale.Alipay, AmountMax: 1000, PayTimeoutMin: 90 * time.Second, Offered: true},
			{Method: flashsale.Points, AmountMax: 1000},
		}
	})
	for item, want := range map[string]string{
		`"price_fen":1001`:                     `"field":"items[0].price_fen"`,
		`"price_fen":501,"limit":2`:            `alipay takes at most 1000`,
		`"price_fen":1,"points_price":1001`:    `"field":"items[0].points_price"`,
		`"price_fen":1,"pay_timeout_s":89`:     `pay_timeout_s must be at least 90`,
		`"price_fen":1000,"pay_timeout_s":90`:  `"id":`,
		`"price_fen":1,"points_price":1000`:    `"id":`,
		`"price_fen":500,"limit":2,"stock":10`: `"id":`,
	} {
		body := fmt.Sprintf(`{"name":"n","opens_at_ms":%d,"closes_at_ms":%d,"items":[{"product":"p","stock":1,%s}]}`,
			opens.UnixMilli(), opens.Add(time.Hour).UnixMilli(), item)
		body = strings.Replace(body, `"stock":1,"price_fen":500`, `"price_fen":500`, 1)
		if got := string(b.callOps("POST", "/v1/admin/sales", body, bearer...).Body()); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", item, got, want)
		}
	}
}

// Protects the contract of ending orders for others: one, or those of a whole sale.
func TestAdminCancel(t *testing.T) {
	t.Parallel()
	b, f := setupPayments(t, nil)
	f.cancellation = flashsale.SaleCancellation{SaleID: 3, Reason: "why", StartedAt: opens, Walked: true, Refunding: 2, Refused: 1, Refunded: 4, Cancelled: 5}
	running := `{"sale":"3","state":"running","reason":"why","started_at_ms":1800000000000,"unpaid":0,"paid":0,"refunding":2,"refused":1,"refunded":4,"cancelled":5}`
	for _, c := range []struct {
		call, body string
		settlement flashsale.Settlement
		err        error
		want       string
	}{
		{call: "POST sales/3/cancel", want: "202 " + running},
		{call: "POST sales/3/cancel", body: `{"reason":"fire"}`, want: "202 " + running},
		{call: "GET sales/3/cancel", want: "200 " + running},
		{call: "POST sales/3/cancel", body: `{"reason":"a\u0000"}`, want: "422 invalid_field"},
		{call: "POST sales/3/cancel", body: `{"why":"x"}`, want: "422 unknown_field"},
		{call: "POST sales/x/cancel", want: "400 invalid_sale_id"},
		{call: "POST sales/3/cancel", err: flashsale.ErrNotFound, want: "404 sale_not_found"},
		{call: "GET sales/3/cancel", err: flashsale.ErrNotFound, want: "404 sale_not_cancelled"},
		{call: "POST sales/3/cancel", err: io.ErrUnexpectedEOF, want: "503 outcome_unknown"},
		{call: "POST orders/42/cancel", settlement: flashsale.Settlement{Order: flashsale.Order{Status: flashsale.Cancelled}}, want: `200 {"order_no":"42","status":"cancelled"}`},
		{call: "POST orders/42/cancel", settlement: flashsale.Settlement{Outcome: flashsale.RefundStarted, Order: flashsale.Order{Status: flashsale.Refunding}}, want: `202 {"order_no":"42","status":"refunding"}`},
		{call: "POST orders/42/cancel", settlement: flashsale.Settlement{Outcome: flashsale.NotRefundable, Order: flashsale.Order{Status: flashsale.Rejected}}, want: "409 not_cancellable"},
		{call: "POST orders/42/cancel", err: flashsale.ErrNotFound, want: "404 order_not_found"},
	} {
		f.settlement, f.err = c.settlement, c.err
		method, path, _ := strings.Cut(c.call, " ")
		response := b.callOps(method, "/v1/admin/"+path, c.body, bearer...)
		got := code(response)
		if response.StatusCode() < 300 {
			got = fmt.Sprintf("%d %s", response.StatusCode(), response.Body())
		}
		if got != c.want {
			t.Errorf("%s %s: %s, want %s", c.call, c.body, got, c.want)
		}
	}
	f.err = nil
	f.open = []flashsale.OpenMoney{{Kind: "refused_refund", Number: "R42", OrderNo: 42, Status: flashsale.Refunding, Method: flashsale.Alipay, TradeNo: "T", Amount: 990, Detail: "too old", Since: opens, Attempts: 3}}
	want := `{"more":false,"open":[{"kind":"refused_refund","refund_no":"R42","order_no":"42","order_status":"refunding","method":"alipay","trade_no":"T","amount":990,"detail":"too old","since_ms":1800000000000,"attempts":3}]}`
	if got := string(b.callOps("GET", "/v1/admin/money", "", bearer...).Body()); got != want {
		t.Errorf("open money: %s", got)
	}
	f.cancellation.Refunding = 1
	if got := string(b.callOps("GET", "/v1/admin/sales/3/cancel", "", bearer...).Body()); !strings.Contains(got, `"state":"done"`) {
		t.Errorf("with nothing but a refused refund left: %s", got)
	}
}

// Protects a shopper who has paid and waits from the notice's delay: whoever waits for an unpaid order
// makes us ask at once, and hears the answer as he hears everything.
func TestWait_Looks(t *testing.T) {
	t.Parallel()
	b, f := setupPayments(t, nil)
	order := newOrder("ann")
	b.ledger.set(order)
	looked := make(chan struct{}, 100)
	f.onLook = func() { looked <- struct{}{} }
	answered := make(chan string, 1)
	go func() {
		answered <- string(b.call("GET", "/v1/orders/"+order.OrderNo.String()+"?wait=20s", "", as("ann")...).Body())
	}()
	receive(t, looked)
	close(b.draining)
	receive(t, answered)

	order.Status = flashsale.Paid
	b.ledger.set(order)
	b.call("GET", "/v1/orders/"+order.OrderNo.String()+"?wait=1ms", "", as("ann")...)
	b.looking.Wait()
	if len(looked) != 0 {
		t.Error("asked about an order that is paid")
	}
}
