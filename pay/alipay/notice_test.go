package alipay_test

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"flashsale"
	"flashsale/pay/alipay"
)

// notice returns the fields of a valid notice, changed, and then signed by Alipay.
func notice(t testing.TB, change func(fields map[string]string)) map[string]string {
	t.Helper()
	fields := split(read(t, "notify.txt"))
	if change != nil {
		change(fields)
	}
	fields["sign"], fields["sign_type"] = sign(t, "alipay", content(fields, "alipay_cert_sn")), "RSA2"
	return fields
}

func set(name, value string) func(map[string]string) {
	return func(fields map[string]string) { fields[name] = value }
}

// It protects money from forgers: a notice that was altered in any one field, loses one or gets
// one more is refused.
func TestParseNotify_AlteredOneAtATime(t *testing.T) {
	t.Parallel()
	client := newClient(t, nil)
	valid := notice(t, nil)
	if _, err := client.ParseNotify(t.Context(), encode(valid), nil); err != nil {
		t.Fatalf("the valid notice: %v", err)
	}
	refused := func(what string, fields map[string]string) {
		if got, err := client.ParseNotify(t.Context(), encode(fields), nil); !errors.Is(err, alipay.ErrForged) || got != (alipay.Notice{}) {
			t.Errorf("%s: %+v, %v, want ErrForged", what, got, err)
		}
	}
	for name, value := range valid {
		for what, altered := range map[string]string{
			"longer": value + "1", "empty": "", "shorter": value[:len(value)-1], "spaced": " " + value,
		} {
			fields := maps.Clone(valid)
			fields[name] = altered
			refused(name+" "+what, fields)
		}
		fields := maps.Clone(valid)
		delete(fields, name)
		refused(name+" missing", fields)
		fields = maps.Clone(valid)
		delete(fields, name)
		fields[name+"_"] = value
		refused(name+" renamed", fields)
	}
	for name, value := range map[string]string{
		"refund_fee": "1299.00", "out_biz_no": "R1", "body": "x", "a": "", "gmt_refund": "2026-01-02 20:01:25",
	} {
		fields := maps.Clone(valid)
		fields[name] = value
		refused(name+" added", fields)
	}
	for _, change := range [][2]string{{"total_amount", "1298.99"}, {"total_amount", "1299.01"}} {
		fields := maps.Clone(valid)
		fields[change[0]] = change[1]
		refused("amount by 0.01", fields)
	}
}

// It protects us from what is well signed but not for us, or not readable without a doubt.
func TestParseNotify_SignedButRefused(t *testing.T) {
	t.Parallel()
	client := newClient(t, nil)
	for what, change := range map[string]func(map[string]string){
		"other application":   set("app_id", "9021000000000002"),
		"no application":      func(f map[string]string) { delete(f, "app_id") },
		"other seller":        set("seller_id", "2088000000000009"),
		"no seller":           func(f map[string]string) { delete(f, "seller_id") },
		"other kind":          set("notify_type", "dut_user_sign"),
		"other charset":       set("charset", "utf-16"),
		"no notify_id":        set("notify_id", ""),
		"unknown state":       set("trade_status", "TRADE_PAID"),
		"state in lower case": set("trade_status", "trade_success"),
		"no state":            set("trade_status", ""),
		"amount of 3 digits":  set("total_amount", "1299.001"),
		"amount of 4 digits":  set("total_amount", "12.3456"),
		"negative amount":     set("total_amount", "-1299.00"),
		"amount in exponent":  set("total_amount", "1.299e3"),
		"amount of nothing":   set("total_amount", "0.00"),
		"no amount":           set("total_amount", ""),
		"amount too large":    set("total_amount", "100000000.01"),
		"amount with spaces":  set("total_amount", " 1299.00"),
		"order zero":          set("out_trade_no", "0"),
		"order padded":        set("out_trade_no", "01958263548811485184"),
		"order of words":      set("out_trade_no", "abc"),
		"order too long":      set("out_trade_no", "19582635488114851840"),
		"order beyond":        set("out_trade_no", "9223372036854775808"),
		"no order":            set("out_trade_no", ""),
		"no trade_no":         set("trade_no", ""),
		"odd trade_no":        set("trade_no", "2026' OR 1=1"),
		"long trade_no":       set("trade_no", strings.Repeat("1", 65)),
		"refund over amount":  set("refund_fee", "1299.01"),
		"odd refund":          set("refund_fee", "1e2"),
		"odd refund number":   set("out_biz_no", "a\nb"),
		"long refund number":  set("out_biz_no", strings.Repeat("退", 201)),
		"odd time":            set("gmt_payment", "yesterday"),
		"no time": func(f map[string]string) {
			delete(f, "gmt_payment")
			delete(f, "notify_time")
		},
		"NUL":             set("subject", "a\x00b"),
		"no UTF-8":        set("subject", "\xff\xfe"),
		"hidden field":    set("subject", "x&refund_fee=1.00"),
		"name with space": set("a b", "1"),
		"100 more fields": func(f map[string]string) {
			for i := range 100 {
				f["x"+strings.Repeat("y", i%50)+string(rune('a'+i/50))] = "1"
			}
		},
	} {
		got, err := client.ParseNotify(t.Context(), encode(notice(t, change)), nil)
		if !errors.Is(err, alipay.ErrForged) || got != (alipay.Notice{}) {
			t.Errorf("%s: %+v, %v, want ErrForged", what, got, err)
		}
	}
}

// It protects the order of the checks: a body that is not the form that Alipay writes never
// reaches the library.
func TestParseNotify_MalformedOrUnsigned(t *testing.T) {
	t.Parallel()
	client := newClient(t, nil)
	valid := notice(t, nil)
	with := func(name, value string) []byte {
		fields := maps.Clone(valid)
		fields[name] = value
		return encode(fields)
	}
	without := func(name string) []byte {
		fields := maps.Clone(valid)
		delete(fields, name)
		return encode(fields)
	}
	whole := string(encode(valid))
	for what, body := range map[string][]byte{
		"empty":                 nil,
		"unsigned":              without("sign"),
		"empty signature":       with("sign", ""),
		"signature not base64":  with("sign", "%%%"),
		"signature of 1 byte":   with("sign", "AA=="),
		"other key":             with("sign", sign(t, "app", content(valid, "sign", "sign_type"))),
		"sign_type RSA":         with("sign_type", "RSA"),
		"sign_type in lower":    with("sign_type", "rsa2"),
		"sign_type MD5":         with("sign_type", "MD5"),
		"no sign_type":          without("sign_type"),
		"certificate, key mode": with("alipay_cert_sn", "a49bc9cfa68c2c945158a9e7882c1303"),
		"no certificate number": with("alipay_cert_sn", ""),
		"the library's own sn":  with("alipay_cert_sn", "alipay-public-key"),
		"amount twice":          []byte(whole + "&total_amount=0.01"),
		"amount twice, first":   []byte("total_amount=0.01&" + whole),
		"amount twice, same":    []byte(whole + "&total_amount=1299.00"),
		"amount twice, encoded": []byte(whole + "&total%5Famount=0.01"),
		"signature twice":       []byte(whole + "&sign=AA=="),
		"field without value":   []byte(whole + "&x"),
		"field without name":    []byte(whole + "&=x"),
		"empty pair":            []byte(whole + "&"),
		"bad percent":           []byte(whole + "&x=%zz"),
		"cut percent":           []byte(whole + "&x=%4"),
		"semicolon":             []byte(strings.ReplaceAll(whole, "&", ";")),
		"JSON":                  []byte(`{"out_trade_no":"1958263548811485184"}`),
		"100 KiB":               []byte(whole + "&x=" + strings.Repeat("x", 100<<10)),
		"100 KiB of fields":     []byte(whole + strings.Repeat("&x=1", 25<<10)),
	} {
		if got, err := client.ParseNotify(t.Context(), body, nil); !errors.Is(err, alipay.ErrForged) || got != (alipay.Notice{}) {
			t.Errorf("%s: %+v, %v, want ErrForged", what, got, err)
		}
	}
	for n := range whole {
		if n%13 != 0 && n < len(whole)-4 {
			continue
		}
		if got, err := client.ParseNotify(t.Context(), []byte(whole[:n]), nil); !errors.Is(err, alipay.ErrForged) {
			t.Errorf("cut after %d bytes: %+v, %v, want ErrForged", n, got, err)
		}
	}
}

// It protects the meaning of a signature: it covers the fields joined without escapes, so the
// same signed text can be cut into other fields. A refund would become a payment.
func TestParseNotify_FieldsFoldedIntoOne(t *testing.T) {
	t.Parallel()
	fields := notice(t, set("refund_fee", "1299.00"))
	signed := content(fields, "sign", "sign_type")
	names := slices.Sorted(maps.Keys(fields))
	before := names[slices.Index(names, "refund_fee")-1]
	fields[before] += "&refund_fee=" + fields["refund_fee"]
	delete(fields, "refund_fee")
	if content(fields, "sign", "sign_type") != signed {
		t.Fatal("the forger changed what is signed")
	}
	if got, err := newClient(t, nil).ParseNotify(t.Context(), encode(fields), nil); !errors.Is(err, alipay.ErrForged) {
		t.Errorf("ParseNotify = %+v, %v, want ErrForged", got, err)
	}
}

// It protects refunds from being taken for payments: both carry TRADE_SUCCESS.
func TestParseNotify_Refunds(t *testing.T) {
	t.Parallel()
	client := newClient(t, nil)
	partly, err := client.ParseNotify(t.Context(), encode(notice(t, func(f map[string]string) {
		f["refund_fee"], f["out_biz_no"], f["gmt_refund"] = "299", "R1", "2026-01-02 20:30:00.123"
	})), nil)
	at := time.Date(2026, 1, 2, 12, 30, 0, 123_000_000, time.UTC)
	if err != nil || partly.Status != alipay.TradeSuccess || partly.RefundFen != 29900 || partly.RefundNo != "R1" || !partly.At.Equal(at) {
		t.Errorf("refunded in part: %+v, %v", partly, err)
	}
	full, err := client.ParseNotify(t.Context(), encode(notice(t, func(f map[string]string) {
		f["refund_fee"], f["out_biz_no"], f["gmt_refund"] = "1299.00", "R2", "2026-01-02 20:30:00"
		f["trade_status"], f["gmt_close"] = "TRADE_CLOSED", "2026-01-02 20:30:00"
	})), nil)
	if err != nil || full.Status != alipay.TradeClosed || full.Status.Paid() || full.RefundFen != full.AmountFen {
		t.Errorf("refunded in full: %+v, %v", full, err)
	}
}

// It protects money that comes by other roads: Alipay writes a message in the charset of the
// request that the trade was made with, and signs those bytes, and it adds fields as it likes.
func TestParseNotify_OtherCharsetsAndNames(t *testing.T) {
	t.Parallel()
	client := newClient(t, nil)
	inGBK, err := simplifiedchinese.GBK.NewEncoder().String("手机 限量版")
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(map[string]string){
		"GBK":            func(f map[string]string) { f["charset"], f["subject"] = "GBK", inGBK },
		"gb2312":         func(f map[string]string) { f["charset"], f["subject"] = "gb2312", inGBK },
		"gb18030":        func(f map[string]string) { f["charset"], f["body"] = "gb18030", inGBK },
		"UTF-8":          set("charset", "UTF-8"),
		"no charset":     func(f map[string]string) { delete(f, "charset") },
		"capital letter": set("fundBillList", "[]"),
		"all capitals":   set("EXT_INFO", "1"),
		"dash and dot":   set("ext-info.x", "1"),
		"empty field":    set("body", ""),
	} {
		fields := notice(t, change)
		if got, err := client.ParseNotify(t.Context(), encode(fields), nil); err != nil || got.OrderNo != orderNo {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
		fields["subject"] += "x"
		if _, err := client.ParseNotify(t.Context(), encode(fields), nil); !errors.Is(err, alipay.ErrForged) {
			t.Errorf("%s, altered: %v, want ErrForged", what, err)
		}
	}
	refund := notice(t, func(f map[string]string) {
		f["charset"], f["refund_fee"] = "GBK", "1.00"
		f["out_biz_no"], _ = simplifiedchinese.GBK.NewEncoder().String("客服 退款/7")
	})
	if got, err := client.ParseNotify(t.Context(), encode(refund), nil); err != nil || got.RefundNo != "客服 退款/7" {
		t.Errorf("a refund made by hand: %+v, %v", got, err)
	}
}

// It protects the processor: what a look at the fields tells apart never costs a check of the
// signature, and who asks too often can be kept from causing one.
func TestParseNotify_CheapChecksFirst(t *testing.T) {
	t.Parallel()
	client := newClient(t, nil)
	var asked []flashsale.OrderNo
	full := errors.New("enough")
	admit := func(no flashsale.OrderNo) error {
		asked = append(asked, no)
		return full
	}
	for what, change := range map[string]func(map[string]string){
		"other application":  set("app_id", "1"),
		"other seller":       set("seller_id", "2088000000000009"),
		"no order number":    set("out_trade_no", "abc"),
		"sign_type":          set("sign_type", "RSA"),
		"short signature":    set("sign", "AAAA"),
		"endless signature":  set("sign", strings.Repeat("AAAA", 1024)),
		"charset":            set("charset", "EBCDIC"),
		"field within field": set("subject", "a&b=c"),
	} {
		fields := notice(t, nil)
		change(fields)
		if _, err := client.ParseNotify(t.Context(), encode(fields), admit); !errors.Is(err, alipay.ErrForged) || asked != nil {
			t.Errorf("%s: %v, and the signature of %v was to be checked", what, err, asked)
		}
	}
	if _, err := client.ParseNotify(t.Context(), encode(notice(t, nil)), admit); !errors.Is(err, full) || !slices.Equal(asked, []flashsale.OrderNo{orderNo}) {
		t.Errorf("valid: %v, asked for %v", err, asked)
	}
}

// It protects against an outage that anybody could cause: the library downloads a certificate
// that it does not know, for a message that nobody has verified, while it holds its lock. No
// message may make us call anyone.
func TestParseNotify_UnknownCertificateCallsNobody(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	gateway := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	t.Cleanup(gateway.Close)
	client := newClient(t, func(c *alipay.Config) {
		c.GatewayURL, c.AlipayPublicKey = gateway.URL, ""
		c.AppCertificate, c.AlipayCertificates = "testdata/app.crt", "testdata/alipay.crt"
		c.RootCertificates = "testdata/root.crt"
	})
	serial := strings.TrimSpace(read(t, "alipay.sn"))
	for what, fields := range map[string]map[string]string{
		"our certificate": notice(t, set("alipay_cert_sn", serial)),
		"none named":      notice(t, nil),
	} {
		if _, err := client.ParseNotify(t.Context(), encode(fields), nil); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	app := strings.TrimSpace(read(t, "app.sn"))
	for _, unknown := range []string{"00000000000000000000000000000000", strings.ToUpper(serial), serial + " ", app, "", "x"} {
		fields := notice(t, set("alipay_cert_sn", unknown))
		if _, err := client.ParseNotify(t.Context(), encode(fields), nil); !errors.Is(err, alipay.ErrForged) {
			t.Errorf("certificate %q: %v, want ErrForged", unknown, err)
		}
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls to the gateway, want none", n)
	}
}

// It protects the parser from every body: it never panics, and takes nothing but the very
// fields that were signed.
func FuzzParseNotify(f *testing.F) {
	client := newClient(f, nil)
	valid := notice(f, nil)
	f.Add(encode(valid))
	f.Add([]byte("a=1&a=2"))
	f.Add([]byte("sign_type=RSA2&sign=AA==&app_id=" + appID))
	f.Add([]byte("%=%&&;=\x00"))
	want, err := client.ParseNotify(f.Context(), encode(valid), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := client.ParseNotify(t.Context(), body, nil)
		switch {
		case err != nil && !errors.Is(err, alipay.ErrForged):
			t.Fatalf("ParseNotify(%q): %v, want ErrForged", body, err)
		case err != nil && got != (alipay.Notice{}):
			t.Fatalf("ParseNotify(%q) = %+v beside an error", body, got)
		case err == nil && got != want:
			t.Fatalf("ParseNotify(%q) = %+v, which nobody signed", body, got)
		}
	})
}
