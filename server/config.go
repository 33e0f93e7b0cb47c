package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flashsale"
	"flashsale/engine"
	"flashsale/web"
)

// Defaults and bounds of Config.
const (
	DefaultAddr              = "127.0.0.1:8080"
	DefaultBodyBytesMax      = 16 << 10
	DefaultConnsMax          = 100_000
	DefaultConnsPerAddrMax   = 30_000
	DefaultHeaderBytesMax    = 8 << 10
	DefaultIdleTimeout       = 75 * time.Second
	DefaultOpsAddr           = "127.0.0.1:9090"
	DefaultReadTimeout       = 5 * time.Second
	DefaultRereadAfter       = 2 * time.Second
	DefaultSessionTTL        = 24 * time.Hour
	DefaultShutdownTimeout   = 15 * time.Second
	DefaultSocketPing        = 30 * time.Second
	DefaultSocketWrite       = 5 * time.Second
	DefaultSocketsMax        = 50_000
	DefaultSocketsPerUserMax = 16
	DefaultWaitersMax        = 20_000
	DefaultWaitersPerUser    = 16
	DefaultWriteTimeout      = 5 * time.Second

	OpsBodyBytesMax = 1 << 20 // of an operator's request: a sale of 1,000 items
	WaitMax         = 30 * time.Second
)

// The engine is what the server asks of Redis.
var (
	_ Reserver = (*engine.Engine)(nil)
	_ Sessions = (*engine.Engine)(nil)
	_ Live     = (*engine.Engine)(nil)
)

// Reserver decides requests for units.
type Reserver interface {
	Reserve(ctx context.Context, req engine.Request) (engine.Reply, error)
}

// Sessions knows who a token belongs to.
type Sessions interface {
	// Session returns [flashsale.ErrNotFound] for a token that nobody holds. The token's
	// bytes are those of the request: they change once Session has returned.
	Session(ctx context.Context, token string) (flashsale.User, error)
	CreateSession(ctx context.Context, user flashsale.User, ttl time.Duration) (token string, err error)
	// DeleteSession logs a token out. One that nobody holds is out already.
	DeleteSession(ctx context.Context, token string) error
}

// Live is what Redis knows that PostgreSQL does not, or not yet.
type Live interface {
	// Item returns [flashsale.ErrNotFound] for an item that is not loaded.
	Item(ctx context.Context, id flashsale.ItemID) (engine.Account, error)
	// Items returns those of the items that are loaded, in one round trip; with an error, what of
	// it could be read.
	Items(ctx context.Context, items []flashsale.ItemID) (map[flashsale.ItemID]engine.Account, error)
	// Orders returns what the user holds of the items, in one round trip; with an error, what
	// of it could be read.
	Orders(ctx context.Context, user string, items []flashsale.ItemID) ([]flashsale.Order, error)
	// Remove takes an item out of Redis that nobody has bought from; once somebody has, it is
	// [flashsale.ErrConflict].
	Remove(ctx context.Context, id flashsale.ItemID) error
	// Now is the time by which the scripts decide.
	Now(ctx context.Context) (time.Time, error)
}

// Ledger is the ledger of record. Its methods return [flashsale.ErrNotFound] for what does
// not exist.
type Ledger interface { //nolint:interfacebloat // the ledger as HTTP shows it
	// Sales returns a page of sales, newest first, each with its first items.
	Sales(ctx context.Context, query flashsale.SalesQuery) ([]flashsale.Sale, error)
	// OnSale returns the items that close after a moment, those that close first first.
	OnSale(ctx context.Context, at time.Time, limit int) ([]flashsale.Item, error)
	// Titles returns what orders say of items. Items that do not exist are missing.
	Titles(ctx context.Context, ids []flashsale.ItemID) (map[flashsale.ItemID]flashsale.Title, error)
	Sale(ctx context.Context, id flashsale.SaleID) (flashsale.Sale, error)
	Item(ctx context.Context, id flashsale.ItemID) (flashsale.Item, error)
	// LiveItems returns all items in which Redis may hold orders that are not in the ledger yet.
	LiveItems(ctx context.Context) ([]flashsale.ItemID, error)
	Order(ctx context.Context, no flashsale.OrderNo) (flashsale.Order, error)
	// Orders returns a user's orders below a number (0: from the newest), newest first.
	Orders(ctx context.Context, user string, before flashsale.OrderNo, limit int) ([]flashsale.Order, error)
	// OfTrade returns the orders that a trade or refund number has to do with.
	OfTrade(ctx context.Context, number string) ([]flashsale.OrderNo, error)
	// Events returns what happened to an order, in the order of time.
	Events(ctx context.Context, no flashsale.OrderNo) ([]flashsale.OrderEvent, error)
	// Cancel returns the cancelled order; or, with [flashsale.ErrConflict], the order in the
	// state that forbids it.
	Cancel(ctx context.Context, no flashsale.OrderNo, user string) (flashsale.Order, error)
	CreateSale(ctx context.Context, sale flashsale.Sale) (flashsale.Sale, error)
	// DeleteSale deletes a sale, taking its items out of Redis by way of remove, and returns it as
	// it was; once somebody has bought from it, it is [flashsale.ErrConflict].
	DeleteSale(ctx context.Context, id flashsale.SaleID,
		remove func(context.Context, flashsale.ItemID) error) (flashsale.Sale, error)
	// Restock returns [flashsale.ErrConflict] when the total would be out of bounds.
	Restock(ctx context.Context, id flashsale.ItemID, add int64) (flashsale.Item, error)
	SetPaused(ctx context.Context, id flashsale.ItemID, paused bool) (flashsale.Item, error)
}

// Effects carries out on Redis what a committed change owes to it, before the change is answered.
// After an error it is still owed, and a worker carries it out; [engine.ErrNotReady] says that the
// item is not on sale now, and comes on sale only with the change.
type Effects interface {
	Settle(ctx context.Context, item flashsale.ItemID) error
	Release(ctx context.Context, order flashsale.Order) error
}

// leftToWorkers are effects that nobody here carries out.
type leftToWorkers struct{}

func (leftToWorkers) Settle(context.Context, flashsale.ItemID) error { return nil }
func (leftToWorkers) Release(context.Context, flashsale.Order) error { return nil }

// Preheater loads the items of a sale into Redis and leaves those that are there as they are.
type Preheater interface {
	PreheatSale(ctx context.Context, id flashsale.SaleID) error
}

// Payments takes money for orders and gives it back. Its methods return
// [flashsale.ErrNotFound] for what does not exist, or is another user's.
type Payments interface { //nolint:interfacebloat // the ledger as HTTP shows it
	Start(ctx context.Context, no flashsale.OrderNo, user string, method flashsale.Method) (flashsale.Settlement, error)
	Refund(ctx context.Context, no flashsale.OrderNo, user, reason string) (flashsale.Settlement, error)
	// Notify takes the body of one of Alipay's notices, as it came from an address; nil means that
	// it may be acknowledged.
	Notify(ctx context.Context, from netip.Prefix, body []byte) error
	// Return verifies the query with which Alipay has sent a shopper back to an address.
	Return(ctx context.Context, from netip.Prefix, rawQuery []byte) (flashsale.Order, error)
	// Look asks at once what became of a payment that was started, for somebody who waits for it.
	Look(ctx context.Context, no flashsale.OrderNo) error
	History(ctx context.Context, no flashsale.OrderNo) (flashsale.PaymentHistory, error)
	// OpenMoney returns the money that waits for a hand, what waits longest first.
	OpenMoney(ctx context.Context, limit int) ([]flashsale.OpenMoney, error)
	// SettleRefund and RetryRefund are an operator's word on a refund; [flashsale.ErrConflict] when
	// its state does not ask for one.
	SettleRefund(ctx context.Context, number string) (flashsale.Order, error)
	RetryRefund(ctx context.Context, number string) error
	// CancelSale begins to cancel a whole sale; asking again changes nothing.
	CancelSale(ctx context.Context, sale flashsale.SaleID, reason string) (started bool, err error)
	// SaleCancellation says how far that has come; [flashsale.ErrNotFound] where none was begun.
	SaleCancellation(ctx context.Context, sale flashsale.SaleID) (flashsale.SaleCancellation, error)
	// CancelOrder ends an order on an operator's word. Without an outcome it was cancelled.
	CancelOrder(ctx context.Context, no flashsale.OrderNo, reason string) (flashsale.Settlement, error)
	// Points returns what a user has, with entries below a sequence (0: from the newest).
	Points(ctx context.Context, user string, before int64, limit int) (flashsale.PointsStatement, error)
	// Grant reports false when the user would have been given too many; a reference that stands
	// for another grant is [flashsale.ErrConflict].
	Grant(ctx context.Context, user string, points int64, ref string) (granted bool, err error)
}

// Check is one condition of readiness.
type Check struct {
	Name  string // its member in the answer of /readyz
	Probe func(context.Context) error
	// Explained shows the error itself instead of "unreachable": it is meant for operators.
	Explained bool
	// Degrades says that the process goes on with its work when the probe fails: it stays ready,
	// and /readyz says "degraded".
	Degrades bool
}

// Config configures a [Server]. Limits left at zero mean their defaults.
type Config struct {
	// Addr is where shoppers connect. Default 127.0.0.1:8080.
	Addr string
	// AdminToken opens the admin calls, at least [AdminTokenLenMin] characters. "" disables them.
	AdminToken string
	// Audit proves the invariants. nil: the call answers 404.
	Audit Auditor
	// BodyBytesMax bounds the body of a shopper's request. Default 16 KiB.
	BodyBytesMax int
	// Changer changes and rebuilds items on an operator's word. nil: the calls answer 404.
	Changer Changer
	// Checks are probed by /readyz.
	Checks []Check
	// ConnsMax is how many connections are served at once. Default 100,000.
	ConnsMax int
	// ConnsPerAddrMax is how many of them one IPv4 address, or one /64 of IPv6, may hold.
	// Default 30,000: behind a load balancer that is not one of TrustedProxies all shoppers share
	// few addresses. Lower it where they connect directly, or through proxies that are trusted.
	ConnsPerAddrMax int
	// DeadLetters are what could not be persisted. nil: the calls answer 404.
	DeadLetters DeadLetters
	// DevLogin lets anybody log in as anybody, by POST /v1/sessions. For demos only.
	DevLogin bool
	// Drain is how long, when ctx ends, readiness is off and every answer closes its connection
	// before the listener closes: the time in which balancers notice. Default: none.
	Drain time.Duration
	// Durability tells what a crash of Redis may lose, for /readyz. Optional.
	Durability func(context.Context) (string, error)
	// Export calls fn with the orders of a sale, page by page. nil: the call answers 404.
	Export func(ctx context.Context, sale flashsale.SaleID, fn func([]flashsale.Order) error) error
	// Gatherer is what /metrics shows. Default: prometheus.DefaultGatherer.
	Gatherer prometheus.Gatherer
	// HeaderBytesMax bounds request line and headers together; each open connection, an idle
	// socket too, keeps a buffer of this size. Default 8 KiB, for 6 KB of cookies.
	HeaderBytesMax int
	// IdleTimeout closes a connection without requests. Default 75 s: longer than balancers keep
	// theirs, mostly 60 s, so that none sends a request on a connection that is being closed.
	IdleTimeout time.Duration
	// Journal keeps idempotency keys and the log of actions. nil: changes take no keys and are not
	// logged.
	Journal Journal
	// Ledger is the ledger of record. Required.
	Ledger Ledger
	// Listener serves shoppers in place of Addr. The server closes it.
	Listener net.Listener
	// Live is what Redis knows. Required.
	Live Live
	// LoginURL is where a shopper's browser logs in. It is told to whoever lacks a valid token.
	LoginURL string
	// Logger receives what an operator should know. Default: discarded.
	Logger *slog.Logger
	// OpsAddr is where operators connect. Default 127.0.0.1:9090.
	OpsAddr string
	// OpsHosts are names, beside loopback ones, addresses and that of OpsAddr, under which operators
	// reach the ops listener.
	OpsHosts []string
	// OpsListener serves operators in place of OpsAddr. The server closes it.
	OpsListener net.Listener
	// OrderPage is where a shopper's browser goes when Alipay has sent it back, with
	// {order_no} in the place of the number. "": it is shown the state of the order.
	OrderPage string
	// Origins are the origins, such as https://shop.example, whose pages may use the API, beside
	// the server's own. "*" allows all, but none with the session cookie.
	Origins []string
	// Pages is the shop that browsers are shown. nil: there is the API only.
	Pages *web.Site
	// PaymentMethods are the ways to pay that the page offers.
	PaymentMethods []flashsale.Method
	// Payments takes money. nil: orders cannot be paid.
	Payments Payments
	// Effects carries out what changes owe to Redis. Default: nobody, it is left to the workers.
	Effects Effects
	// Preheater loads items on an operator's word. nil: the call answers 404.
	Preheater Preheater
	// Process is what this process tells the boards of itself. Without a Kind it tells nothing.
	Process Process
	// ProxyProtocol makes every connection of TrustedProxies begin with the header of the PROXY
	// protocol, version 1 or 2, which tells the client's address.
	ProxyProtocol bool
	// Rates are how many requests a second are answered.
	Rates Rates
	// ReadTimeout bounds reading one request. Default 5 s.
	ReadTimeout time.Duration
	// RedisURL is where results are published. "": nothing is heard, and whoever waits finds
	// out by reading again.
	RedisURL string
	// Registerer receives the metrics. Default: none.
	Registerer prometheus.Registerer
	// RereadAfter is when whoever waits first reads the state again without having heard
	// anything; it doubles up to 16 times that. Default 2 s.
	RereadAfter time.Duration
	// Reserver decides requests for units. Required.
	Reserver Reserver
	// SessionTTL is how long a session of DevLogin lasts. Default 24 h.
	SessionTTL time.Duration
	// Sessions knows who a token belongs to. Required.
	Sessions Sessions
	// ShutdownTimeout bounds the drain; what still runs then is cut off. Default 15 s.
	ShutdownTimeout time.Duration
	// SocketPing is how often an idle socket is pinged; one that stays silent for twice as
	// long is dropped. Default 30 s.
	SocketPing time.Duration
	// SocketWrite is how long a slow reader may hold up one message. Default 5 s.
	SocketWrite time.Duration
	// SocketsMax is how many websockets are held at once. Default 50,000.
	SocketsMax int
	// SocketsPerUserMax is how many of them one user may hold. Default 16.
	SocketsPerUserMax int
	// TrustedProxies are the networks of proxies whose word on a client's address counts: that of
	// X-Forwarded-For, and of the PROXY protocol where it is on. Their own connections do not count
	// towards ConnsPerAddrMax. Default: none.
	TrustedProxies []netip.Prefix
	// Unpaid are the units of items in orders that nobody has paid yet, for the board. Optional.
	Unpaid func(context.Context) (map[flashsale.ItemID]flashsale.UnpaidUnits, error)
	// ViewerToken opens the admin calls that change nothing. "": there is none.
	ViewerToken string
	// WaitersMax is how many long polls wait at once. Default 20,000.
	WaitersMax int
	// WaitersPerUserMax is how many of them one user may hold. Default 16.
	WaitersPerUserMax int
	// Ways are the ways to pay with their bounds: a sale that none of them can pay is refused.
	Ways []flashsale.Terms
	// WriteTimeout bounds writing one answer. Default 5 s.
	WriteTimeout time.Duration
}

func (c Config) withDefaults() Config {
	c.Addr = cmp.Or(c.Addr, DefaultAddr)
	c.BodyBytesMax = cmp.Or(c.BodyBytesMax, DefaultBodyBytesMax)
	c.ConnsMax = cmp.Or(c.ConnsMax, DefaultConnsMax)
	c.ConnsPerAddrMax = cmp.Or(c.ConnsPerAddrMax, DefaultConnsPerAddrMax)
	c.HeaderBytesMax = cmp.Or(c.HeaderBytesMax, DefaultHeaderBytesMax)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, DefaultIdleTimeout)
	c.OpsAddr = cmp.Or(c.OpsAddr, DefaultOpsAddr)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, DefaultReadTimeout)
	c.RereadAfter = cmp.Or(c.RereadAfter, DefaultRereadAfter)
	c.SessionTTL = cmp.Or(c.SessionTTL, DefaultSessionTTL)
	c.ShutdownTimeout = cmp.Or(c.ShutdownTimeout, DefaultShutdownTimeout)
	c.SocketPing = cmp.Or(c.SocketPing, DefaultSocketPing)
	c.SocketWrite = cmp.Or(c.SocketWrite, DefaultSocketWrite)
	c.SocketsMax = cmp.Or(c.SocketsMax, DefaultSocketsMax)
	c.SocketsPerUserMax = cmp.Or(c.SocketsPerUserMax, DefaultSocketsPerUserMax)
	c.WaitersMax = cmp.Or(c.WaitersMax, DefaultWaitersMax)
	c.WaitersPerUserMax = cmp.Or(c.WaitersPerUserMax, DefaultWaitersPerUser)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, DefaultWriteTimeout)
	if c.Effects == nil {
		c.Effects = leftToWorkers{}
	}
	if c.Gatherer == nil {
		c.Gatherer = prometheus.DefaultGatherer
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Reserver == nil:
		return errors.New("server: Reserver is required")
	case c.Sessions == nil:
		return errors.New("server: Sessions is required")
	case c.Live == nil:
		return errors.New("server: Live is required")
	case c.Ledger == nil:
		return errors.New("server: Ledger is required")
	case c.HeaderBytesMax < 1<<10:
		return fmt.Errorf("server: HeaderBytesMax must be at least 1024, not %d", c.HeaderBytesMax)
	case c.Drain < 0:
		return fmt.Errorf("server: Drain must not be negative, but is %s", c.Drain)
	case c.ProxyProtocol && len(c.TrustedProxies) == 0:
		return errors.New("server: ProxyProtocol needs TrustedProxies: who may say whose a connection is")
	}
	if err := checkAdminTokens(c.AdminToken, c.ViewerToken); err != nil {
		return err
	}
	for _, bound := range []struct {
		name  string
		value int64
	}{
		{"BodyBytesMax", int64(c.BodyBytesMax)},
		{"ConnsMax", int64(c.ConnsMax)},
		{"ConnsPerAddrMax", int64(c.ConnsPerAddrMax)},
		{"IdleTimeout", int64(c.IdleTimeout)},
		{"ReadTimeout", int64(c.ReadTimeout)},
		{"RereadAfter", int64(c.RereadAfter)},
		{"SessionTTL", int64(c.SessionTTL)},
		{"ShutdownTimeout", int64(c.ShutdownTimeout)},
		{"SocketPing", int64(c.SocketPing)},
		{"SocketWrite", int64(c.SocketWrite)},
		{"SocketsMax", int64(c.SocketsMax)},
		{"SocketsPerUserMax", int64(c.SocketsPerUserMax)},
		{"WaitersMax", int64(c.WaitersMax)},
		{"WaitersPerUserMax", int64(c.WaitersPerUserMax)},
		{"WriteTimeout", int64(c.WriteTimeout)},
	} {
		if bound.value < 1 {
			return fmt.Errorf("server: %s must be positive, but is %d", bound.name, bound.value)
		}
	}
	return nil
}
