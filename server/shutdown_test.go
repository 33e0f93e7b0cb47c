package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// Protects the written order: while a request is in flight the server is already unready and
// takes no new shoppers, the request is answered all the same, the long poll tells what it
// knows, the socket is closed with 1001, and only then Run returns.
func TestRun_ShutdownOrder(t *testing.T) {
	t.Parallel()
	inFlight, release := make(chan struct{}), make(chan struct{})
	r := start(t, nil)
	r.redis.decide = func(engine.Request) (engine.Reply, error) {
		close(inFlight)
		<-release
		return accepted, nil
	}
	order := newOrder("ann")
	r.ledger.set(order)
	socket := r.mustDial(t, order.OrderNo, "ann")
	expect(t, socket, state(order.OrderNo, flashsale.Unpaid))

	type reply struct {
		status int
		body   string
	}
	bought, waited := make(chan reply, 1), make(chan reply, 1)
	go func() {
		status, body := r.request(t, "GET", "/v1/orders/"+order.OrderNo.String()+"?wait=30s", as("ann")...)
		waited <- reply{status, body}
	}()
	go func() {
		status, body := r.request(t, "POST", "/v1/items/7/orders", as("bob")...)
		bought <- reply{status, body}
	}()
	receive(t, inFlight)
	stacktest.Eventually(t, testTimeout, func() error {
		if len(r.waiters) == 0 {
			return errors.New("nobody waits yet")
		}
		return nil
	})

	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	if got := receive(t, waited); got.status != 200 || !strings.Contains(got.body, `"status":"unpaid"`) {
		t.Errorf("long poll: %+v", got)
	}
	stacktest.Eventually(t, testTimeout, func() error {
		conn, err := net.Dial("tcp", r.Addr())
		if err == nil {
			conn.Close()
			return errors.New("still accepting")
		}
		return nil
	})
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.OpsAddr()+"/readyz", http.NoBody)
	if status, body := send(t, request); status != 503 || !strings.Contains(body, "draining") {
		t.Errorf("readyz: %d %s", status, body)
	}
	select {
	case err := <-stopped:
		t.Fatalf("returned with a request in flight: %v", err)
	default:
	}
	if n := r.sockets.count(); n != 1 {
		t.Errorf("sockets were closed before the requests were drained: %d", n)
	}
	close(release)
	if got := receive(t, bought); got.status != 202 {
		t.Errorf("request in flight: %+v", got)
	}
	expect(t, socket, "closed 1001")
	if err := receive(t, stopped); err != nil {
		t.Errorf("run: %v", err)
	}
}

// Protects against a shutdown that hangs: what does not end in time is reported and left.
func TestRun_ShutdownTimeout(t *testing.T) {
	t.Parallel()
	inFlight, release := make(chan struct{}), make(chan struct{})
	b := setup(t, func(c *Config) {
		c.Addr, c.OpsAddr, c.ShutdownTimeout = "127.0.0.1:0", "127.0.0.1:0", 50*time.Millisecond
	})
	b.redis.decide = func(engine.Request) (engine.Reply, error) {
		close(inFlight)
		<-release
		return accepted, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	receive(t, b.Listening())
	r := &running{bundle: b}
	answered := make(chan int, 1)
	go func() {
		status, _ := r.request(t, "POST", "/v1/items/7/orders", as("bob")...)
		answered <- status
	}()
	receive(t, inFlight)
	cancel()
	if err := receive(t, done); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("run: %v", err)
	}
	close(release)
	receive(t, answered)
}

// Protects the start: an address that is taken is an error, and nothing stays behind.
func TestRun_AddressTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, addrs := range [][2]string{{taken.Addr().String(), "127.0.0.1:0"}, {"127.0.0.1:0", taken.Addr().String()}} {
		b := setup(t, func(c *Config) { c.Addr, c.OpsAddr = addrs[0], addrs[1] })
		if err := b.Run(t.Context()); err == nil {
			t.Errorf("ran on %v", addrs)
		}
	}
}

// Protects a process that is told to stop before it has begun.
func TestRun_StoppedAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := setup(t, func(c *Config) { c.Addr, c.OpsAddr = "127.0.0.1:0", "127.0.0.1:0" })
	if err := b.Run(ctx); err != nil {
		t.Error(err)
	}
}

// Protects against a server that lives on when its listener has died.
func TestRun_ListenerDies(t *testing.T) {
	t.Parallel()
	listener := newPipeListener()
	b := setup(t, func(c *Config) { c.Listener, c.OpsAddr = listener, "127.0.0.1:0" })
	done := make(chan error, 1)
	go func() { done <- b.Run(t.Context()) }()
	receive(t, b.Listening())
	listener.Close()
	if err := receive(t, done); !errors.Is(err, net.ErrClosed) {
		t.Errorf("run: %v", err)
	}
}

// Protects New: what is missing or out of bounds is named.
func TestNew_Refuses(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"Reserver":       func(c *Config) { c.Reserver = nil },
		"Sessions":       func(c *Config) { c.Sessions = nil },
		"Live":           func(c *Config) { c.Live = nil },
		"Ledger":         func(c *Config) { c.Ledger = nil },
		"HeaderBytesMax": func(c *Config) { c.HeaderBytesMax = 10 },
		"ReadTimeout":    func(c *Config) { c.ReadTimeout = -1 },
		"SocketsMax":     func(c *Config) { c.SocketsMax = -1 },
		"RedisURL":       func(c *Config) { c.RedisURL = "nonsense" },
	} {
		b := setup(t, nil)
		config := b.config
		config.Registerer = nil
		change(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// Protects a rolling restart: readiness goes off first, and until the balancers have noticed every
// request is served, on new connections and old, and told to come back on another.
func TestRun_Drain(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config) { c.Drain = 400 * time.Millisecond })
	began := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	client := &http.Client{Timeout: testTimeout, Transport: &http.Transport{}}
	get := func(url string) (*http.Response, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err == nil {
			response.Body.Close()
		}
		return response, err
	}
	stacktest.Eventually(t, testTimeout, func() error {
		if response, err := get("http://" + r.OpsAddr() + "/readyz"); err != nil || response.StatusCode != http.StatusServiceUnavailable {
			return errors.New("still ready")
		}
		return nil
	})
	for served := 0; time.Since(began) < 300*time.Millisecond || served == 0; served++ {
		response, err := get("http://" + r.Addr() + "/v1/sales")
		if err != nil || response.StatusCode != http.StatusOK || !response.Close {
			t.Fatalf("while it drains: %+v %v, want 200 and Connection: close", response, err)
		}
	}
	if err := receive(t, stopped); err != nil || time.Since(began) < 400*time.Millisecond {
		t.Errorf("ended after %s: %v", time.Since(began), err)
	}
}
