package alipay_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"flashsale"
	"flashsale/pay/alipay"
)

const (
	appID     = "9021000000000001"
	sellerID  = "2088000000000001"
	notifyURL = "https://shop.example/v1/payments/alipay/notify"
	orderNo   = flashsale.OrderNo(1958263548811485184)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// It protects against a mistake that our signer and our verifier share: the same request, signed
// by the openssl command line and by this file's own code, has the same signature.
func TestSign_Vector(t *testing.T) {
	t.Parallel()
	content, want := read(t, "request.txt"), read(t, "request.sig")
	got, err := newClient(t, nil).Sign(values(split(content)))
	if err != nil || got != want {
		t.Errorf("client signs\n%s, %v\nopenssl signs\n%s", got, err, want)
	}
	if got := sign(t, "app", content); got != want {
		t.Errorf("the independent code signs\n%s\nopenssl signs\n%s", got, want)
	}
}

// It protects acceptance of what Alipay really sends: a notice with Chinese text, spaces, plus,
// percent and JSON in it, signed by openssl over its exact bytes.
func TestParseNotify_Vector(t *testing.T) {
	t.Parallel()
	fields := split(read(t, "notify.txt"))
	fields["sign"], fields["sign_type"] = read(t, "notify.sig"), "RSA2"
	notice, err := newClient(t, nil).ParseNotify(t.Context(), encode(fields), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := alipay.Notice{
		NotifyID: "2026010200222200125077891000000001", OrderNo: orderNo,
		TradeNo: "2026010222001477890500000001", AmountFen: 129900, Status: alipay.TradeSuccess,
		At: time.Date(2026, 1, 2, 12, 1, 25, 0, time.UTC),
	}
	if notice.At = notice.At.UTC(); notice != want {
		t.Errorf("notice = %+v\nwant     %+v", notice, want)
	}
}

// It protects the way back of the shopper, against the same vectors.
func TestParseReturn_Vector(t *testing.T) {
	t.Parallel()
	client := newClient(t, nil)
	fields := split(read(t, "return.txt"))
	fields["sign"], fields["sign_type"] = read(t, "return.sig"), "RSA2"
	if no, err := client.ParseReturn(t.Context(), encode(fields), nil); err != nil || no != orderNo {
		t.Errorf("ParseReturn = %s, %v, want %s", no, err, orderNo)
	}
	for name := range fields {
		altered := maps.Clone(fields)
		altered[name] += "1"
		if no, err := client.ParseReturn(t.Context(), encode(altered), nil); !errors.Is(err, alipay.ErrForged) {
			t.Errorf("with another %s: ParseReturn = %s, %v, want ErrForged", name, no, err)
		}
	}
	// A signed notice is no return, and the other way round.
	if _, err := client.ParseNotify(t.Context(), encode(fields), nil); !errors.Is(err, alipay.ErrForged) {
		t.Errorf("a return taken as a notice: %v, want ErrForged", err)
	}
	notice := split(read(t, "notify.txt"))
	notice["sign"], notice["sign_type"] = read(t, "notify.sig"), "RSA2"
	if _, err := client.ParseReturn(t.Context(), encode(notice), nil); !errors.Is(err, alipay.ErrForged) {
		t.Errorf("a notice taken as a return: %v, want ErrForged", err)
	}
}

// It protects the request that the shopper's browser carries: independent code verifies it, and
// it says what Alipay is to do.
func TestPageURL(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	client := newClient(t, func(c *alipay.Config) {
		c.Now = func() time.Time { return now }
		c.ReturnURL = "https://shop.example/v1/payments/alipay/return"
	})
	charge := alipay.Charge{
		OrderNo: orderNo, Subject: "手机 <64/128GB> A&B=C +100%", AmountFen: 129930, Expire: now.Add(15 * time.Minute),
	}
	page, err := client.PageURL(t.Context(), charge)
	if err != nil {
		t.Fatal(err)
	}
	query := verifiedQuery(t, page)
	for name, want := range map[string]string{
		"app_id": appID, "method": "alipay.trade.page.pay", "charset": "utf-8", "sign_type": "RSA2",
		"notify_url": notifyURL, "return_url": "https://shop.example/v1/payments/alipay/return",
		"biz_content": `{"subject":"手机 \u003c64／128GB\u003e A＆B＝C +100%","out_trade_no":"1958263548811485184",` +
			`"total_amount":"1299.30","product_code":"FAST_INSTANT_TRADE_PAY","time_expire":"2026-01-02 20:14:30"}`,
	} {
		if query[name] != want {
			t.Errorf("%s = %s, want %s", name, query[name], want)
		}
	}
	// The amount and the number are checked before anything is signed.
	for _, bad := range []alipay.Charge{
		{OrderNo: orderNo, AmountFen: 0, Expire: charge.Expire},
		{OrderNo: orderNo, AmountFen: -1, Expire: charge.Expire},
		{OrderNo: orderNo, AmountFen: 100_000_000_01, Expire: charge.Expire},
		{OrderNo: 0, AmountFen: 1, Expire: charge.Expire},
	} {
		if _, err := client.PageURL(t.Context(), bad); !errors.Is(err, alipay.ErrRefused) {
			t.Errorf("PageURL(%+v): %v, want ErrRefused", bad, err)
		}
	}
}

// It protects orders at their deadline: Alipay stops taking money before we cancel, and no page
// is opened that nobody can pay in time.
func TestPageURL_Expire(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	client := newClient(t, func(c *alipay.Config) { c.Now = func() time.Time { return now } })
	for _, test := range []struct {
		left time.Duration
		want string // "" for ErrTooLate
	}{
		{-time.Hour, ""},
		{76*time.Second - time.Millisecond, ""},
		{76 * time.Second, "2026-01-02 20:01:01"}, // the order was made with 90 s: half the margin has to do
		{90*time.Second - time.Millisecond, "2026-01-02 20:01:01"},
		{90 * time.Second, "2026-01-02 20:01:00"},
		{90*time.Second + 999*time.Millisecond, "2026-01-02 20:01:00"}, // cut, never rounded up
		{30 * 24 * time.Hour, "2026-01-17 19:59:30"},                   // Alipay takes 15 days
	} {
		page, err := client.PageURL(t.Context(), alipay.Charge{
			OrderNo: orderNo, AmountFen: 1, Expire: now.Add(test.left),
		})
		switch {
		case test.want == "" && !errors.Is(err, alipay.ErrTooLate):
			t.Errorf("%s left: %v, want ErrTooLate", test.left, err)
		case test.want != "" && err != nil:
			t.Errorf("%s left: %v", test.left, err)
		case test.want != "" && !strings.Contains(verifiedQuery(t, page)["biz_content"], `"time_expire":"`+test.want+`"`):
			t.Errorf("%s left: %s, want %s", test.left, verifiedQuery(t, page)["biz_content"], test.want)
		}
	}
}

// What follows knows Alipay's signing from its description, and nothing of the library.

// newClient uses the keys of testdata, in key mode.
func newClient(t testing.TB, change func(*alipay.Config)) *alipay.Client {
	t.Helper()
	config := alipay.Config{
		AllowSandbox: true, AppID: appID, SellerID: sellerID, NotifyURL: notifyURL,
		PrivateKey: "testdata/app_private.pem", AlipayPublicKey: "testdata/alipay_public.pem",
	}
	if change != nil {
		change(&config)
	}
	client, err := alipay.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// content joins fields in the order of their names.
func content(fields map[string]string, without ...string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(without, name) {
			pairs = append(pairs, name+"="+fields[name])
		}
	}
	return strings.Join(pairs, "&")
}

// split is the inverse of content, for contents without "&" and "=" in their first halves.
func split(text string) map[string]string {
	fields := make(map[string]string)
	for _, pair := range strings.Split(strings.TrimSpace(text), "&") {
		name, value, _ := strings.Cut(pair, "=")
		fields[name] = value
	}
	return fields
}

func sign(t testing.TB, key, text string) string {
	t.Helper()
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, private(t, key), crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(signature)
}

// verifiedQuery returns the query of a signed request. Its signature covers sign_type, too.
func verifiedQuery(t *testing.T, page string) map[string]string {
	t.Helper()
	u, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]string)
	for name, all := range u.Query() {
		if len(all) != 1 {
			t.Fatalf("%s comes %d times", name, len(all))
		}
		fields[name] = all[0]
	}
	signature, err := base64.StdEncoding.DecodeString(fields["sign"])
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(content(fields, "sign")))
	if err := rsa.VerifyPKCS1v15(&private(t, "app").PublicKey, crypto.SHA256, digest[:], signature); err != nil {
		t.Fatalf("signature of %s: %v", page, err)
	}
	return fields
}

// encode writes a form as Alipay does, with its own percent encoding.
func encode(fields map[string]string) []byte {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		pairs = append(pairs, name+"="+escape(fields[name]))
	}
	return []byte(strings.Join(pairs, "&"))
}

func escape(text string) string {
	var out strings.Builder
	for _, c := range []byte(text) {
		switch {
		case c == ' ':
			out.WriteByte('+')
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.", c) >= 0:
			out.WriteByte(c)
		default:
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

func values(fields map[string]string) url.Values {
	all := make(url.Values)
	for name, value := range fields {
		all.Set(name, value)
	}
	return all
}

func private(t testing.TB, name string) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode([]byte(read(t, name+"_private.pem")))
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		t.Fatalf("%s is not an RSA key", name)
	}
	return key
}

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
