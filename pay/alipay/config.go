package alipay

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ProductionGateway is where Alipay takes real money.
const ProductionGateway = "https://openapi.alipay.com/gateway.do"

// Defaults and bounds of Config.
const (
	DefaultConnsMax     = 128
	DefaultExpireMargin = 30 * time.Second
	DefaultExpireMin    = time.Minute // what Alipay accepts
	DefaultTimeout      = 5 * time.Second

	ExpireMax  = 15 * 24 * time.Hour // what Alipay accepts
	TimeoutMax = time.Minute
)

const (
	appIDLenMax    = 32
	sellerIDLen    = 16
	sellerIDPrefix = "2088"

	// sandboxAppPrefix starts the ids of all applications in Alipay's own sandbox, and in ours.
	sandboxAppPrefix = "9021"
)

// Secret is a key that does not show itself when it is printed or logged.
type Secret string

const secretText = "[secret]"

// String hides the key.
func (Secret) String() string { return secretText }

// GoString hides the key.
func (Secret) GoString() string { return secretText }

// LogValue hides the key.
func (Secret) LogValue() slog.Value { return slog.StringValue(secretText) }

// MarshalText hides the key.
func (Secret) MarshalText() ([]byte, error) { return []byte(secretText), nil }

// Config configures a [Client]. The zero value of each field means its default; AppID,
// SellerID, PrivateKey, NotifyURL and the keys of either mode are required.
//
// Keys and certificates are PEM text, the bare base64 body that Alipay's console shows, or
// the path of a file that holds either.
//
// In key mode only AlipayPublicKey is set; in certificate mode AppCertificate,
// AlipayCertificates and RootCertificates are.
type Config struct {
	// AlipayCertificates are those that Alipay may sign with: alipayCertPublicKey_RSA2.crt, or
	// several of them one after another. No other certificate is ever accepted or downloaded.
	AlipayCertificates string
	// AlipayPublicKey is Alipay's key for this application (支付宝公钥), not the application's own.
	AlipayPublicKey string
	// AllowSandbox permits any gateway, sandbox applications and certificates, and addresses
	// on this machine: for tests and the demo. Without it New refuses them.
	AllowSandbox bool
	// AppCertificate is the application's own certificate: appCertPublicKey_<AppID>.crt.
	AppCertificate string
	// AppID is the application's id at Alipay.
	AppID string
	// ConnsMax bounds the connections to the gateway, and so the calls at once. Default 128.
	ConnsMax int
	// ExpireMargin is how long before an order's deadline Alipay stops taking the money, so
	// that payments on their way arrive before the order is cancelled. Half of it has to do where
	// an order was made with no more time than ExpireMin beside it. Default 30 s.
	ExpireMargin time.Duration
	// ExpireMin is the shortest time to pay that a pay page is still opened with. Alipay
	// refuses less than the default of 1 min.
	ExpireMin time.Duration
	// GatewayURL is where calls and shoppers go. Default [ProductionGateway].
	GatewayURL string
	// Logger receives what an operator should know. Default: discarded.
	Logger *slog.Logger
	// NotifyURL is where Alipay posts its notices, without a query. Required.
	NotifyURL string
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// PrivateKey is the application's RSA key of at least 2048 bits, PKCS#1 or PKCS#8. Required.
	PrivateKey Secret
	// Registerer receives the metrics. Default: none.
	Registerer prometheus.Registerer
	// ReturnURL is where Alipay sends the shopper's browser after the payment, without a
	// query. Default: the shopper stays at Alipay.
	ReturnURL string
	// RootCertificates is alipayRootCert.crt.
	RootCertificates string
	// SellerID is the account that is paid: 16 digits from 2088. Required.
	SellerID string
	// Timeout bounds one call. Default 5 s, at most 1 min.
	Timeout time.Duration
}

func (c Config) withDefaults() Config {
	c.ConnsMax = cmp.Or(c.ConnsMax, DefaultConnsMax)
	c.ExpireMargin = cmp.Or(c.ExpireMargin, DefaultExpireMargin)
	c.ExpireMin = cmp.Or(c.ExpireMin, DefaultExpireMin)
	c.GatewayURL = cmp.Or(c.GatewayURL, ProductionGateway)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.AppID == "" || len(c.AppID) > appIDLenMax || !isDigits(c.AppID):
		return fmt.Errorf("alipay: AppID must be 1 to %d digits", appIDLenMax)
	case len(c.SellerID) != sellerIDLen || !isDigits(c.SellerID) || !strings.HasPrefix(c.SellerID, sellerIDPrefix):
		return fmt.Errorf("alipay: SellerID must be %d digits that start with %s", sellerIDLen, sellerIDPrefix)
	case c.PrivateKey == "":
		return errors.New("alipay: PrivateKey is required")
	case c.AlipayPublicKey == "" && c.AppCertificate == "" && c.AlipayCertificates == "" && c.RootCertificates == "":
		return errors.New("alipay: AlipayPublicKey is required, or the three certificates")
	case c.AlipayPublicKey != "" && (c.AppCertificate != "" || c.AlipayCertificates != "" || c.RootCertificates != ""):
		return errors.New("alipay: AlipayPublicKey and certificates exclude each other")
	case c.AlipayPublicKey == "" && (c.AppCertificate == "" || c.AlipayCertificates == "" || c.RootCertificates == ""):
		return errors.New("alipay: certificate mode needs AppCertificate, AlipayCertificates and RootCertificates")
	case c.Timeout < 0 || c.Timeout > TimeoutMax:
		return fmt.Errorf("alipay: Timeout must be positive and at most %s, not %s", TimeoutMax, c.Timeout)
	case c.ConnsMax < 1:
		return fmt.Errorf("alipay: ConnsMax must be positive, not %d", c.ConnsMax)
	case c.ExpireMargin < 0 || c.ExpireMin < 0 || c.ExpireMin > ExpireMax:
		return fmt.Errorf("alipay: ExpireMargin %s and ExpireMin %s must be positive, ExpireMin at most %s",
			c.ExpireMargin, c.ExpireMin, ExpireMax)
	case !c.AllowSandbox && c.GatewayURL != ProductionGateway:
		return fmt.Errorf("alipay: GatewayURL must be %s unless AllowSandbox is set", ProductionGateway)
	case !c.AllowSandbox && strings.HasPrefix(c.AppID, sandboxAppPrefix):
		return errors.New("alipay: AppID is that of a sandbox application, and AllowSandbox is not set")
	}
	if err := c.checkURL("GatewayURL", c.GatewayURL); err != nil {
		return err
	}
	if err := c.checkURL("NotifyURL", c.NotifyURL); err != nil {
		return err
	}
	if c.ReturnURL == "" {
		return nil
	}
	return c.checkURL("ReturnURL", c.ReturnURL)
}

// checkURL refuses what Alipay could not reach. A query would mix with the signed parameters
// that Alipay adds to it.
func (c Config) checkURL(name, raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("alipay: %s must be an http or https URL", name)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf("alipay: %s must have no user, query or fragment", name)
	case !c.AllowSandbox && isLocal(u.Hostname()):
		return fmt.Errorf("alipay: %s is on this machine, where Alipay cannot reach it, and AllowSandbox is not set", name)
	}
	return nil
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}

func isDigits(text string) bool {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
