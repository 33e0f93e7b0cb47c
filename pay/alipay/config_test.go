package alipay_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"flashsale/pay/alipay"
)

// production is a configuration that may take real money.
func production(t *testing.T) alipay.Config {
	t.Helper()
	return alipay.Config{
		AppID: "2021000000000001", SellerID: sellerID, NotifyURL: notifyURL,
		PrivateKey: alipay.Secret(read(t, "app_private.pem")), AlipayPublicKey: read(t, "alipay_public.pem"),
	}
}

// It protects real money: a sandbox, ours or Alipay's, is never taken by mistake, nor an address
// that Alipay cannot reach, nor keys that do not belong together.
func TestNew_Refuses(t *testing.T) {
	t.Parallel()
	if _, err := alipay.New(production(t)); err != nil {
		t.Fatalf("the configuration for production: %v", err)
	}
	certificates := func(c *alipay.Config) {
		c.AlipayPublicKey = ""
		c.AppCertificate, c.AlipayCertificates, c.RootCertificates = "testdata/app.crt", "testdata/alipay.crt", "testdata/root.crt"
	}
	for name, test := range map[string]struct {
		change func(*alipay.Config)
		want   string
	}{
		"sandbox gateway":    {func(c *alipay.Config) { c.GatewayURL = "https://openapi-sandbox.dl.alipaydev.com/gateway.do" }, "AllowSandbox"},
		"local gateway":      {func(c *alipay.Config) { c.GatewayURL = "http://127.0.0.1:8090/gateway.do" }, "AllowSandbox"},
		"gateway over http":  {func(c *alipay.Config) { c.GatewayURL = "http://openapi.alipay.com/gateway.do" }, "AllowSandbox"},
		"sandbox app":        {func(c *alipay.Config) { c.AppID = appID }, "AllowSandbox"},
		"sandbox cert":       {certificates, "AllowSandbox"},
		"local notify":       {func(c *alipay.Config) { c.NotifyURL = "http://127.0.0.1/notify" }, "AllowSandbox"},
		"localhost return":   {func(c *alipay.Config) { c.ReturnURL = "http://localhost/return" }, "AllowSandbox"},
		"notify with query":  {func(c *alipay.Config) { c.NotifyURL += "?a=1" }, "query"},
		"return with query":  {func(c *alipay.Config) { c.ReturnURL = "https://shop.example/?a=1" }, "query"},
		"no notify":          {func(c *alipay.Config) { c.NotifyURL = "" }, "NotifyURL"},
		"notify of a scheme": {func(c *alipay.Config) { c.NotifyURL = "ftp://shop.example/" }, "NotifyURL"},
		"no app":             {func(c *alipay.Config) { c.AppID = "" }, "AppID"},
		"app of words":       {func(c *alipay.Config) { c.AppID = "abc" }, "AppID"},
		"no seller":          {func(c *alipay.Config) { c.SellerID = "" }, "SellerID"},
		"short seller":       {func(c *alipay.Config) { c.SellerID = "2088" }, "SellerID"},
		"no key":             {func(c *alipay.Config) { c.PrivateKey = "" }, "PrivateKey"},
		"short key":          {func(c *alipay.Config) { c.PrivateKey = "testdata/short_private.pem" }, "2048"},
		"public for private": {func(c *alipay.Config) { c.PrivateKey = "testdata/alipay_public.pem" }, "PrivateKey"},
		"no public key":      {func(c *alipay.Config) { c.AlipayPublicKey = "" }, "AlipayPublicKey"},
		"our public key":     {func(c *alipay.Config) { c.AlipayPublicKey = "testdata/app_public.pem" }, "支付宝公钥"},
		"private for public": {func(c *alipay.Config) { c.AlipayPublicKey = "testdata/alipay_private.pem" }, "AlipayPublicKey"},
		"both modes":         {func(c *alipay.Config) { c.AppCertificate = "testdata/app.crt" }, "exclude"},
		"half a mode":        {func(c *alipay.Config) { c.AlipayPublicKey, c.AppCertificate = "", "testdata/app.crt" }, "certificate mode"},
		"swapped certificates": {func(c *alipay.Config) {
			certificates(c)
			c.AllowSandbox = true
			c.AppCertificate, c.AlipayCertificates = c.AlipayCertificates, c.AppCertificate
		}, "AppCertificate"},
		"our certificate as theirs": {func(c *alipay.Config) {
			certificates(c)
			c.AllowSandbox, c.AlipayCertificates = true, c.AppCertificate
		}, "own certificate"},
		"only authorities": {func(c *alipay.Config) {
			certificates(c)
			c.AllowSandbox, c.AlipayCertificates = true, c.RootCertificates
		}, "only authorities"},
		"long timeout":    {func(c *alipay.Config) { c.Timeout = alipay.TimeoutMax + 1 }, "Timeout"},
		"negative margin": {func(c *alipay.Config) { c.ExpireMargin = -1 }, "ExpireMargin"},
	} {
		config := production(t)
		test.change(&config)
		if _, err := alipay.New(config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s named", name, err, test.want)
		}
	}
}

// It protects operators: keys are taken in each form that Alipay's tools and consoles produce.
func TestNew_FormsOfKeys(t *testing.T) {
	t.Parallel()
	content, want := read(t, "request.txt"), read(t, "request.sig")
	wrapped := read(t, "app_private.b64")
	wrapped = wrapped[:64] + "\n" + wrapped[64:128] + "\r\n " + wrapped[128:] + "\n"
	for _, private := range []string{
		"testdata/app_private.pem", "testdata/app_private_pkcs1.pem", "testdata/app_private.b64",
		read(t, "app_private.pem"), read(t, "app_private_pkcs1.pem"), read(t, "app_private.b64"), wrapped,
		strings.ReplaceAll(read(t, "app_private.pem"), "\n", "\r\n"),
	} {
		for _, public := range []string{
			"testdata/alipay_public.pem", "testdata/alipay_public.b64", read(t, "alipay_public.pem"), read(t, "alipay_public.b64"),
		} {
			client := newClient(t, func(c *alipay.Config) {
				c.PrivateKey, c.AlipayPublicKey = alipay.Secret(private), public
			})
			if got, err := client.Sign(values(split(content))); err != nil || got != want {
				t.Errorf("key of %d characters signs %s, %v", len(private), got, err)
			}
			if _, err := client.ParseNotify(t.Context(), encode(notice(t, nil)), nil); err != nil {
				t.Errorf("key of %d characters: %v", len(public), err)
			}
		}
	}
}

// It protects the private key: it shows in no error, also when it was mistyped, and in no log.
func TestNew_KeysDoNotLeak(t *testing.T) {
	t.Parallel()
	pem, body := read(t, "app_private.pem"), read(t, "app_private.b64")
	secret := body[100:140]
	for name, key := range map[string]string{
		"cut PEM":        pem[:len(pem)/2],
		"cut body":       body[:len(body)-9],
		"body as a path": body[:200],
		"short body":     body[90:150],
		"mistyped":       "!" + body,
		"missing file":   "testdata/" + secret,
		"wrong kind":     strings.ReplaceAll(pem, "PRIVATE", "PUBLIC")[:300],
	} {
		config := production(t)
		config.PrivateKey = alipay.Secret(key)
		if _, err := alipay.New(config); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v, want an error without the key", name, err)
		}
	}
	config := production(t)
	var out bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&out, nil))
	logger.Info("starting", "config", config, "key", config.PrivateKey)
	slog.New(slog.NewTextHandler(&out, nil)).Info("starting", "config", config, "key", config.PrivateKey)
	fmt.Fprintf(&out, "%v %+v %#v %s %q", config, config, config, config.PrivateKey, config.PrivateKey)
	config.Logger = logger
	client, err := alipay.New(config)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "%+v", client)
	for _, line := range strings.Split(pem, "\n")[1:] {
		if line != "" && !strings.HasPrefix(line, "-") && strings.Contains(out.String(), line) {
			t.Fatalf("the key is in %s", out.String())
		}
	}
}

// It protects dashboards: the metrics register once and count what happens.
func TestNew_Metrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	client := newClient(t, func(c *alipay.Config) { c.Registerer = registry })
	_, _ = client.ParseNotify(t.Context(), encode(notice(t, nil)), nil)
	_, _ = client.ParseNotify(t.Context(), encode(notice(t, set("app_id", "1"))), nil)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, family := range families {
		fmt.Fprintln(&text, family)
	}
	for _, want := range []string{"flashsale_alipay_messages_total", `"ok"`, `"app_id"`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("metrics without %s:\n%s", want, text.String())
		}
	}
	config := production(t)
	config.Registerer = registry
	if _, err := alipay.New(config); err == nil {
		t.Error("metrics registered twice")
	}
}
