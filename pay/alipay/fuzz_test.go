package alipay_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"flashsale/pay/alipay"
)

// It protects what comes after the signature: whatever Alipay signs in whatever charset, a notice or
// a return is read in full or refused as a whole, and nothing panics.
func FuzzParseSigned(f *testing.F) {
	client := newClient(f, nil)
	f.Add("subject", "手机", "utf-8")
	f.Add("refund_fee", "1.00", "GBK")
	f.Add("out_biz_no", "\xbf\xcd/7", "gb18030")
	f.Add("gmt_refund", "2026-01-02 20:30:00.123", "")
	f.Add("total_amount", "1e3", "gb2312")
	f.Add("method", "alipay.trade.page.pay.return", "utf-8")
	f.Fuzz(func(t *testing.T, name, value, charset string) {
		fields := notice(t, func(fields map[string]string) { fields["charset"], fields[name] = charset, value })
		got, err := client.ParseNotify(t.Context(), encode(fields), nil)
		switch {
		case err != nil && (!errors.Is(err, alipay.ErrForged) || got != (alipay.Notice{})):
			t.Fatalf("%q=%q: %+v, %v", name, value, got, err)
		case err == nil && (got.OrderNo <= 0 || got.AmountFen < 1 || got.RefundFen > got.AmountFen || got.At.IsZero()):
			t.Fatalf("%q=%q: %+v", name, value, got)
		}
		no, err := client.ParseReturn(t.Context(), encode(fields), nil)
		if err != nil && (!errors.Is(err, alipay.ErrForged) || no != 0) {
			t.Fatalf("return %q=%q: %s, %v", name, value, no, err)
		}
	})
}

// It protects every call from every answer: what is not signed proves nothing, whatever it says.
func FuzzAnswers(f *testing.F) {
	var canned atomic.Pointer[[]byte]
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*canned.Load()) }))
	f.Cleanup(gateway.Close)
	client := newClient(f, func(c *alipay.Config) { c.GatewayURL = gateway.URL })
	for _, seed := range []string{
		"", "null", "{}", "[]", `{"alipay_trade_query_response":{"code":"10000","trade_status":"TRADE_SUCCESS"},"sign":"AAAA"}`,
		`{"alipay_trade_close_response":{"code":"10000"}}`, `{"error_response":{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}}`,
		`{"alipay_trade_refund_response":null,"sign":null}`, `{"alipay_trade_query_response":`, "<html>",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		canned.Store(&answer)
		if trade, err := client.Query(t.Context(), orderNo); !errors.Is(err, alipay.ErrUnavailable) || trade != (alipay.Trade{}) {
			t.Errorf("query: %+v, %v", trade, err)
		}
		if closed, err := client.Close(t.Context(), orderNo); !errors.Is(err, alipay.ErrUnavailable) || closed {
			t.Errorf("close: %t, %v", closed, err)
		}
		if done, err := client.Refund(t.Context(), orderNo, "R1", 1, ""); !errors.Is(err, alipay.ErrUnavailable) || done {
			t.Errorf("refund: %t, %v", done, err)
		}
		if refund, err := client.RefundQuery(t.Context(), orderNo, "R1"); !errors.Is(err, alipay.ErrUnavailable) || refund != (alipay.Refund{}) {
			t.Errorf("refund query: %+v, %v", refund, err)
		}
	})
}
