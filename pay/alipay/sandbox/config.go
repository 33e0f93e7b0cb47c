package sandbox

import (
	"cmp"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Defaults of Config.
const (
	DefaultAppID         = "9021000000000001" // sandbox applications start with 9021
	DefaultSellerID      = "2088000000000001"
	DefaultLateBy        = time.Minute
	DefaultNotifyTimeout = 5 * time.Second
)

// schedule is how long Alipay waits before it sends an unanswered notice again: 8 times in all.
var schedule = []time.Duration{
	4 * time.Minute, 10 * time.Minute, 10 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 15 * time.Hour,
}

// Config configures a [Sandbox]. The zero value of each field means its default.
type Config struct {
	// Addr is where New listens and Run serves, such as 127.0.0.1:8090. Default: nowhere; the
	// Sandbox is served by whoever uses it as a handler.
	Addr string
	// AppID is the id of the only application. Default [DefaultAppID].
	AppID string
	// AppKey is the key of the application. Default: that of StateFile, else a new one.
	AppKey *rsa.PrivateKey
	// Certificates chooses the certificate mode: authority and certificates are made at the
	// start and kept in StateFile. Default: key mode.
	Certificates bool
	// Key is the key that answers and notices are signed with. Default: as AppKey.
	Key *rsa.PrivateKey
	// LateBy is how long after a trade's expiry the money of "pay late" arrives. Default 1 min.
	LateBy time.Duration
	// Logger receives what happens. Default: discarded.
	Logger *slog.Logger
	// NotifyTimeout bounds one delivery of a notice. Default 5 s.
	NotifyTimeout time.Duration
	// Now is the clock of the trades. Default time.Now.
	Now func() time.Time
	// Scale is what Alipay's waits between two deliveries of a notice are multiplied with, such
	// as 0.001 for a test. Default 1.
	Scale float64
	// SellerID is the account that is paid. Default [DefaultSellerID].
	SellerID string
	// StateFile keeps keys, trades and notices over a restart. Default: in memory only.
	StateFile string
	// Transport delivers notices. Default: an http.Transport of its own.
	Transport http.RoundTripper
}

func (c Config) withDefaults() Config {
	c.AppID = cmp.Or(c.AppID, DefaultAppID)
	c.LateBy = cmp.Or(c.LateBy, DefaultLateBy)
	c.NotifyTimeout = cmp.Or(c.NotifyTimeout, DefaultNotifyTimeout)
	c.Scale = cmp.Or(c.Scale, 1)
	c.SellerID = cmp.Or(c.SellerID, DefaultSellerID)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{MaxIdleConnsPerHost: deliveriesMax, IdleConnTimeout: idleTimeout}
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Scale < 0:
		return fmt.Errorf("sandbox: Scale must be positive, not %g", c.Scale)
	case c.NotifyTimeout < 0 || c.LateBy < 0:
		return fmt.Errorf("sandbox: NotifyTimeout %s and LateBy %s must be positive", c.NotifyTimeout, c.LateBy)
	case c.Certificates && (c.AppKey != nil || c.Key != nil) && c.StateFile != "":
		return errors.New("sandbox: certificates in a StateFile belong to its own keys: give none")
	}
	return nil
}
