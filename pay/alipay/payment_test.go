package alipay_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flashsale/pay/alipay"
	"flashsale/pay/alipay/sandbox"
)

// It protects the whole way of the money: page, payment, return, notice, query, refund in two
// parts, refund notices, and what may not happen after each.
func TestPayment(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]sandbox.Config{
		"key mode":         {},
		"certificate mode": {Certificates: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pays(openShop(t, config, nil))
		})
	}
}

func pays(s *shop) {
	t, ctx := s.t, s.t.Context()
	t.Helper()
	if _, err := s.client.Query(ctx, orderNo); !errors.Is(err, alipay.ErrUnknownTrade) {
		t.Fatalf("before the page was opened: %v, want ErrUnknownTrade", err)
	}
	s.open(orderNo)
	trade, err := s.client.Query(ctx, orderNo)
	if err != nil || trade.Status != alipay.WaitBuyerPay || trade.AmountFen != 129900 || !trade.PaidAt.IsZero() {
		t.Fatalf("opened: %+v, %v", trade, err)
	}

	back := s.press(orderNo, "pay")
	address, query, _ := strings.Cut(back, "?")
	if no, err := s.client.ParseReturn(ctx, []byte(query), nil); err != nil || no != orderNo || !strings.HasSuffix(address, "/return") {
		t.Fatalf("sent back to %s: order %s, %v", back, no, err)
	}
	paid := s.nextNotice()
	if paid.OrderNo != orderNo || paid.AmountFen != 129900 || paid.Status != alipay.TradeSuccess || paid.RefundFen != 0 {
		t.Fatalf("notice of the payment: %+v", paid)
	}
	trade, err = s.client.Query(ctx, orderNo)
	if err != nil || trade.Status != alipay.TradeSuccess || trade.TradeNo != paid.TradeNo || trade.PaidAt.IsZero() {
		t.Fatalf("paid: %+v, %v", trade, err)
	}
	if closed, err := s.client.Close(ctx, orderNo); err != nil || closed {
		t.Fatalf("close a paid trade: %t, %v, want that the payment wins", closed, err)
	}

	refund := func(refundNo string, fen int64, wantDone bool, wantErr error) {
		t.Helper()
		if done, err := s.client.Refund(ctx, orderNo, refundNo, fen, "不想要了"); done != wantDone || !errors.Is(err, wantErr) {
			t.Fatalf("refund %s of %d fen: %t, %v, want %t, %v", refundNo, fen, done, err, wantDone, wantErr)
		}
	}
	refund("R1", 29900, true, nil)
	if notice := s.nextNotice(); notice.Status != alipay.TradeSuccess || notice.RefundFen != 29900 || notice.RefundNo != "R1" {
		t.Fatalf("notice of a refund in part: %+v", notice)
	}
	refund("R1", 29900, true, nil) // again: done, and not twice
	refund("R1", 100, false, alipay.ErrRefused)
	refund("R2", 100001, false, alipay.ErrRefused)
	refund("R2", 100000, true, nil)
	if notice := s.nextNotice(); notice.Status != alipay.TradeClosed || notice.RefundFen != 129900 || notice.RefundNo != "R2" {
		t.Fatalf("notice of a refund in full: %+v", notice)
	}
	refund("R3", 1, false, alipay.ErrRefused)
	for refundNo, fen := range map[string]int64{"R1": 29900, "R2": 100000, "R3": 0} {
		got, err := s.client.RefundQuery(ctx, orderNo, refundNo)
		if err != nil || got.Done != (fen > 0) || got.AmountFen != fen || got.At.IsZero() == got.Done {
			t.Fatalf("query of refund %s: %+v, %v", refundNo, got, err)
		}
	}
	trade, err = s.client.Query(ctx, orderNo)
	if err != nil || trade.Status != alipay.TradeClosed || trade.PaidAt.IsZero() {
		t.Fatalf("refunded in full: %+v, %v, want closed, yet once paid", trade, err)
	}
	s.settled()
	if n := len(s.notices) + len(s.refused); n != 0 {
		t.Fatalf("%d notices too many", n)
	}
}

// It protects cancelled orders: a closed trade takes no money, and money that comes all the same
// is seen.
func TestClose(t *testing.T) {
	t.Parallel()
	s := openShop(t, sandbox.Config{}, nil)
	ctx := t.Context()
	if closed, err := s.client.Close(ctx, orderNo); closed || !errors.Is(err, alipay.ErrUnknownTrade) {
		t.Fatalf("close what does not exist: %t, %v, want ErrUnknownTrade", closed, err)
	}
	s.open(orderNo)
	for range 2 { // twice is once
		if closed, err := s.client.Close(ctx, orderNo); !closed || err != nil {
			t.Fatalf("close: %t, %v", closed, err)
		}
	}
	if notice := s.nextNotice(); notice.Status != alipay.TradeClosed || notice.RefundFen != 0 {
		t.Errorf("notice of the close: %+v", notice)
	}
	if err := s.box.Pay(orderNo.String()); err == nil {
		t.Error("a closed trade was paid")
	}
	if back := s.press(orderNo, "pay"); back != "" {
		t.Errorf("a closed trade was paid on the page: %s", back)
	}
	trade, err := s.client.Query(ctx, orderNo)
	if err != nil || trade.Status != alipay.TradeClosed || !trade.PaidAt.IsZero() {
		t.Errorf("closed: %+v, %v, want never paid", trade, err)
	}

	if err := s.box.PayLate(orderNo.String()); err != nil {
		t.Fatal(err)
	}
	if notice := s.nextNotice(); notice.Status != alipay.TradeSuccess {
		t.Errorf("notice of late money: %+v", notice)
	}
	if closed, err := s.client.Close(ctx, orderNo); closed || err != nil {
		t.Errorf("close after late money: %t, %v, want that the payment wins", closed, err)
	}
	if done, err := s.client.Refund(ctx, orderNo, "late", 129900, ""); !done || err != nil {
		t.Errorf("refund of late money: %t, %v", done, err)
	}
}

// It protects a declined payment: the trade ends and the order can be cancelled.
func TestDecline(t *testing.T) {
	t.Parallel()
	s := openShop(t, sandbox.Config{}, nil)
	if back := s.press(orderNo, "decline"); back != "" {
		t.Errorf("a decline sends the browser to %s", back)
	}
	if closed, err := s.client.Close(t.Context(), orderNo); !closed || err != nil {
		t.Errorf("close after a decline: %t, %v", closed, err)
	}
}

// It protects refunds that Alipay takes its time for: not done is not failed, and the same number
// carries it out once.
func TestRefund_Pending(t *testing.T) {
	t.Parallel()
	s := openShop(t, sandbox.Config{}, nil)
	ctx := t.Context()
	s.open(orderNo)
	s.pay(orderNo)
	s.faults(sandbox.Faults{RefundPending: true})
	for range 2 {
		if done, err := s.client.Refund(ctx, orderNo, "R1", 129900, ""); done || err != nil {
			t.Fatalf("pending refund: %t, %v", done, err)
		}
		if refund, err := s.client.RefundQuery(ctx, orderNo, "R1"); refund.Done || err != nil {
			t.Fatalf("query of a pending refund: %+v, %v", refund, err)
		}
	}
	s.faults(sandbox.Faults{})
	if done, err := s.client.Refund(ctx, orderNo, "R1", 129900, ""); !done || err != nil {
		t.Fatalf("refund at last: %t, %v", done, err)
	}
	s.refundedOnce(129900)
}

// It protects money when answers are lost: the caller learns that it does not know, asks again
// with the same number, and nothing happens twice.
func TestRefund_AnswerLost(t *testing.T) {
	t.Parallel()
	s := openShop(t, sandbox.Config{}, nil)
	s.open(orderNo)
	s.pay(orderNo)
	s.faults(sandbox.Faults{FailCalls: 1})
	if done, err := s.client.Refund(t.Context(), orderNo, "R1", 129900, ""); done || !errors.Is(err, alipay.ErrUnavailable) {
		t.Fatalf("refund with a lost answer: %t, %v, want ErrUnavailable", done, err)
	}
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			if done, err := s.client.Refund(t.Context(), orderNo, "R1", 129900, ""); !done || err != nil {
				t.Errorf("refund again: %t, %v", done, err)
			}
		})
	}
	asking.Wait()
	s.refundedOnce(129900)
}

func (s *shop) refundedOnce(fen int64) {
	s.t.Helper()
	trade, err := s.box.Trade(orderNo.String())
	if err != nil || trade.RefundedFen() != fen || len(trade.Refunds) != 1 {
		s.t.Errorf("at Alipay: %+v, %v, want one refund of %d fen", trade, err, fen)
	}
}

// It protects refunds from bad input, before anybody is called.
func TestRefund_Refuses(t *testing.T) {
	t.Parallel()
	client := newClient(t, func(c *alipay.Config) { c.GatewayURL = "http://127.0.0.1:1/gateway.do" })
	for _, refundNo := range []string{"", "a b", "退款", strings.Repeat("1", 65)} {
		if _, err := client.Refund(t.Context(), orderNo, refundNo, 1, ""); !errors.Is(err, alipay.ErrRefused) {
			t.Errorf("Refund as %q: %v, want ErrRefused", refundNo, err)
		}
		if _, err := client.RefundQuery(t.Context(), orderNo, refundNo); !errors.Is(err, alipay.ErrRefused) {
			t.Errorf("RefundQuery of %q: %v, want ErrRefused", refundNo, err)
		}
	}
	for _, fen := range []int64{0, -1, 100_000_000_01} {
		if _, err := client.Refund(t.Context(), orderNo, "R1", fen, ""); !errors.Is(err, alipay.ErrRefused) {
			t.Errorf("Refund of %d fen: %v, want ErrRefused", fen, err)
		}
	}
}

// It protects every decision from an answer that Alipay did not sign.
func TestCalls_ForgedAnswers(t *testing.T) {
	t.Parallel()
	s := openShop(t, sandbox.Config{}, nil)
	s.open(orderNo)
	s.pay(orderNo)
	s.faults(sandbox.Faults{ForgeAnswers: true})
	for name, err := range s.calls() {
		if !errors.Is(err, alipay.ErrForged) || !errors.Is(err, alipay.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrForged and ErrUnavailable", name, err)
		}
	}
}

// calls makes one call of each kind.
func (s *shop) calls() map[string]error {
	return callAll(s.t, s.client)
}

func callAll(t *testing.T, client *alipay.Client) map[string]error {
	t.Helper()
	_, query := client.Query(t.Context(), orderNo)
	closed, closeErr := client.Close(t.Context(), orderNo)
	done, refund := client.Refund(t.Context(), orderNo, "R9", 1, "")
	asked, refundQuery := client.RefundQuery(t.Context(), orderNo, "R9")
	if closed || done || asked.Done {
		t.Errorf("closed %t, refunded %t, refund known %+v beside an error", closed, done, asked)
	}
	return map[string]error{"query": query, "close": closeErr, "refund": refund, "refund query": refundQuery}
}

// It protects notices on a bad line: what was forged or falsified is refused, and the true one
// still comes.
func TestNotices_Misbehaving(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		faults sandbox.Faults
		reason string
	}{
		"forged":       {sandbox.Faults{Forge: true}, "signature"},
		"other app":    {sandbox.Faults{AppID: "9021000000000002"}, "app_id"},
		"other seller": {sandbox.Faults{SellerID: "2088000000000009"}, "seller_id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openShop(t, sandbox.Config{}, nil)
			s.open(orderNo)
			s.faults(test.faults)
			s.pay(orderNo)
			if err := s.nextRefused(); !errors.Is(err, alipay.ErrForged) || !strings.Contains(err.Error(), test.reason) {
				t.Fatalf("refused for %v, want %s", err, test.reason)
			}
			s.faults(sandbox.Faults{})
			if notice := s.nextNotice(); notice.Status != alipay.TradeSuccess {
				t.Errorf("notice: %+v", notice)
			}
			s.settled()
		})
	}
}

// It protects orders from well-signed notices with another amount: the notice says so, and the
// query knows better.
func TestNotices_WrongAmount(t *testing.T) {
	t.Parallel()
	s := openShop(t, sandbox.Config{}, nil)
	s.open(orderNo)
	s.faults(sandbox.Faults{AmountDeltaFen: -1})
	s.pay(orderNo)
	notice := s.nextNotice()
	trade, err := s.client.Query(t.Context(), orderNo)
	if notice.AmountFen != 129899 || err != nil || trade.AmountFen != 129900 {
		t.Errorf("notice of %d fen, query of %d fen, %v", notice.AmountFen, trade.AmountFen, err)
	}
}

// It protects everything that waits for Alipay: a gateway that hangs, floods, redirects, or
// answers without a signature proves nothing and holds nobody up.
func TestCalls_BadGateway(t *testing.T) {
	t.Parallel()
	quoted := func(inner string) http.HandlerFunc { // an unsigned answer, whatever was asked
		return func(w http.ResponseWriter, r *http.Request) {
			name := strings.ReplaceAll(r.FormValue("method"), ".", "_") + "_response"
			_, _ = w.Write([]byte(`{"` + name + `":` + inner + `}`))
		}
	}
	success := `{"code":"10000","msg":"Success","out_trade_no":"` + orderNo.String() + `","trade_status":"TRADE_SUCCESS",` +
		`"trade_no":"1","total_amount":"1299.00","fund_change":"Y","refund_status":"REFUND_SUCCESS"}`
	for name, handler := range map[string]http.HandlerFunc{
		"hangs": func(_ http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm() // the server notices that the client left once the body is read
			<-r.Context().Done()
		},
		"502":              func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) },
		"empty":            func(http.ResponseWriter, *http.Request) {},
		"null":             func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("null")) },
		"null answer":      quoted("null"),
		"null error":       func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"error_response":null}`)) },
		"unsigned success": quoted(success),
		"unsigned refusal": quoted(`{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}`),
		"unsigned error": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"error_response":{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}}`))
		},
		"floods": func(w http.ResponseWriter, _ *http.Request) {
			chunk := []byte(strings.Repeat(" ", 1<<16))
			for {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				t.Error("followed a redirect")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, func(c *alipay.Config) {
				c.GatewayURL = serve(t, handler)
				c.Timeout = 10 * time.Second
				if name == "hangs" {
					c.Timeout = 50 * time.Millisecond
				}
			})
			for call, err := range callAll(t, client) {
				if !errors.Is(err, alipay.ErrUnavailable) || errors.Is(err, alipay.ErrUnknownTrade) || errors.Is(err, alipay.ErrRefused) {
					t.Errorf("%s: %v, want ErrUnavailable alone", call, err)
				}
			}
		})
	}
}

// It protects decisions from an answer that Alipay has signed, but to another question, and
// from one that lacks what matters.
func TestCalls_SignedButOther(t *testing.T) {
	t.Parallel()
	for name, inner := range map[string]string{
		"other order": `{"code":"10000","out_trade_no":"7","trade_status":"TRADE_SUCCESS","trade_no":"1",` +
			`"total_amount":"1.00","fund_change":"Y","refund_status":"REFUND_SUCCESS","out_request_no":"R9","refund_amount":"0.01"}`,
		"no order": `{"code":"10000","trade_status":"TRADE_SUCCESS","trade_no":"1","total_amount":"1.00",` +
			`"fund_change":"Y","refund_status":"REFUND_SUCCESS","out_request_no":"R9","refund_amount":"0.01"}`,
		"no server":   `{"code":"20000","sub_code":"isp.unknow-error"}`,
		"busy":        `{"code":"40004","sub_code":"aop.ACQ.SYSTEM_ERROR"}`,
		"no balance":  `{"code":"40004","sub_code":"ACQ.SELLER_BALANCE_NOT_ENOUGH"}`,
		"no right":    `{"code":"40006","sub_code":"isv.insufficient-isv-permissions"}`,
		"too often":   `{"code":"40005","sub_code":"isv.app-call-limited"}`,
		"bad amounts": `{"code":"10000","out_trade_no":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, func(c *alipay.Config) {
				c.GatewayURL = serve(t, func(w http.ResponseWriter, r *http.Request) {
					name := strings.ReplaceAll(r.FormValue("method"), ".", "_") + "_response"
					_, _ = w.Write([]byte(`{"` + name + `":` + inner + `,"sign":"` + sign(t, "alipay", inner) + `"}`))
				})
			})
			for call, err := range callAll(t, client) {
				if !errors.Is(err, alipay.ErrUnavailable) {
					t.Errorf("%s: %v, want ErrUnavailable", call, err)
				}
			}
		})
	}
}

// It protects logs and callers: a refusal carries Alipay's codes and its class.
func TestAPIError(t *testing.T) {
	t.Parallel()
	s := openShop(t, sandbox.Config{}, nil)
	_, err := s.client.Query(t.Context(), orderNo)
	var apiErr *alipay.APIError
	if !errors.As(err, &apiErr) || apiErr.SubCode != "ACQ.TRADE_NOT_EXIST" || apiErr.Method != "alipay.trade.query" ||
		!strings.Contains(err.Error(), orderNo.String()) {
		t.Errorf("error = %v", err)
	}
}

// It protects deadlines end to end: a trade is not paid after the time that we gave Alipay.
func TestExpire(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[time.Time]
	at := time.Now()
	now.Store(&at)
	clock := func() time.Time { return *now.Load() }
	s := openShop(t, sandbox.Config{Now: clock}, func(c *alipay.Config) { c.Now = clock })
	s.open(orderNo) // due in an hour
	almost := at.Add(time.Hour - alipay.DefaultExpireMargin)
	now.Store(&almost)
	if err := s.box.Pay(orderNo.String()); err == nil {
		t.Error("paid within the margin before the deadline")
	}
	trade, err := s.client.Query(t.Context(), orderNo)
	if err != nil || trade.Status != alipay.TradeClosed || !trade.PaidAt.IsZero() {
		t.Errorf("expired: %+v, %v", trade, err)
	}
	if closed, err := s.client.Close(t.Context(), orderNo); !closed || err != nil {
		t.Errorf("close of an expired trade: %t, %v", closed, err)
	}
}
