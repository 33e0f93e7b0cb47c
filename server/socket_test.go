package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// dial opens the socket of an order.
func (r *running) dial(t testing.TB, no flashsale.OrderNo, user string, headers ...string) (*websocket.Conn, string) {
	t.Helper()
	header := http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	header.Set("Authorization", "Bearer "+user+"-token")
	dialer := websocket.Dialer{HandshakeTimeout: testTimeout}
	conn, response, err := dialer.DialContext(t.Context(), "ws://"+r.Addr()+"/v1/orders/"+no.String()+"/events", header)
	if err != nil && response == nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err != nil {
		var p struct {
			Code string `json:"code"`
		}
		_ = json.NewDecoder(response.Body).Decode(&p)
		return nil, fmt.Sprintf("%d %s", response.StatusCode, p.Code)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, ""
}

func (r *running) mustDial(t testing.TB, no flashsale.OrderNo, user string) *websocket.Conn {
	t.Helper()
	conn, refused := r.dial(t, no, user)
	if conn == nil {
		t.Fatal(refused)
	}
	return conn
}

// next reads one message; an end is told by its close code.
func next(t testing.TB, conn *websocket.Conn) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(testTimeout))
	_, message, err := conn.ReadMessage()
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		return fmt.Sprint("closed ", closed.Code)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(message)
}

func expect(t testing.TB, conn *websocket.Conn, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := next(t, conn); got != w {
			t.Fatalf("got %s, want %s", got, w)
		}
	}
}

func state(no flashsale.OrderNo, status flashsale.Status) string {
	return fmt.Sprintf(`{"order_no":"%d","status":%q}`, no, status)
}

// Protects the socket that is opened before the result exists: pending at once, then every
// change in order, none twice, and the end at a final state.
func TestSocket_BeforeResult(t *testing.T) {
	t.Parallel()
	url := stacktest.Redis(t)
	r := start(t, func(c *Config) { c.RedisURL = url })
	r.openNow()
	client := connect(t, url)
	order := newOrder("ann")
	pending := order
	pending.Status = flashsale.Pending
	r.redis.mu.Lock()
	r.redis.held["ann"] = []flashsale.Order{pending}
	r.redis.mu.Unlock()
	no := order.OrderNo
	conn := r.mustDial(t, no, "ann")
	expect(t, conn, state(no, flashsale.Pending))
	stacktest.Eventually(t, testTimeout, func() error {
		if r.hub.channels() == 0 {
			return errors.New("not heard yet")
		}
		return nil
	})
	result := flashsale.Result{OrderNo: no, User: "ann", Status: flashsale.Unpaid}
	publish(t, client, result)
	expect(t, conn, state(no, flashsale.Unpaid))
	foreign := flashsale.Result{OrderNo: no, User: "bob", Status: flashsale.Refunded}
	paid := flashsale.Result{OrderNo: no, User: "ann", Status: flashsale.Paid}
	refunded := flashsale.Result{OrderNo: no, User: "ann", Status: flashsale.Refunded, Reason: "asked for"}
	publish(t, client, result, foreign, paid, result, refunded)
	expect(t, conn, state(no, flashsale.Paid),
		fmt.Sprintf(`{"order_no":"%d","status":"refunded","reason":"asked for"}`, no), "closed 1000")
	stacktest.Eventually(t, testTimeout, func() error {
		if n := r.sockets.count() + r.hub.channels(); n > 0 {
			return fmt.Errorf("%d sockets and channels left", n)
		}
		return nil
	})
}

// Protects the socket that is opened after the result: the state at once, without waiting for
// a change; and a final one ends it.
func TestSocket_AfterResult(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	order := newOrder("ann")
	r.ledger.set(order)
	expect(t, r.mustDial(t, order.OrderNo, "ann"), state(order.OrderNo, flashsale.Unpaid))
	order.Status = flashsale.Cancelled
	r.ledger.set(order)
	expect(t, r.mustDial(t, order.OrderNo, "ann"), state(order.OrderNo, flashsale.Cancelled), "closed 1000")
}

// Protects the shopper from lost messages: the state is read again.
func TestSocket_MessagesLost(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config) { c.RereadAfter = 30 * time.Millisecond })
	order := newOrder("ann")
	r.ledger.set(order)
	conn := r.mustDial(t, order.OrderNo, "ann")
	expect(t, conn, state(order.OrderNo, flashsale.Unpaid))
	order.Status = flashsale.Cancelled
	r.ledger.set(order)
	expect(t, conn, state(order.OrderNo, flashsale.Cancelled), "closed 1000")
}

// Protects what may not be opened.
func TestSocket_Refusals(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config) {
		c.SocketsPerUserMax, c.SocketsMax, c.Origins = 1, 2, []string{"https://shop.example"}
	})
	order, other, third := newOrder("ann"), newOrder("bob"), newOrder("eve")
	for _, o := range []flashsale.Order{order, other, third} {
		r.ledger.set(o)
	}
	for _, c := range []struct {
		no      flashsale.OrderNo
		user    string
		headers []string
		want    string
	}{
		{order.OrderNo, "bob", nil, "404 order_not_found"},
		{order.OrderNo + 1_000_000, "ann", nil, "404 order_not_found"},
		{order.OrderNo, "ann", []string{"Origin", "https://evil.example"}, "403 origin_not_allowed"},
		{order.OrderNo, "ann", []string{"Origin", "https://shop.example"}, ""},
		{order.OrderNo, "ann", nil, "429 too_many_sockets"},
		{other.OrderNo, "bob", []string{"Origin", "http://" + r.Addr()}, ""},
		{third.OrderNo, "eve", nil, "503 overloaded"},
	} {
		conn, got := r.dial(t, c.no, c.user, c.headers...)
		if got != c.want {
			t.Errorf("order %d as %s with %v: got %q, want %q", c.no, c.user, c.headers, got, c.want)
		}
		if conn != nil {
			next(t, conn) // it is counted once the first state is sent
		}
	}
	if got := code(setupWith(t, order).call("GET", "/v1/orders/"+order.OrderNo.String()+"/events", "", as("ann")...)); got != "400 websocket_required" {
		t.Errorf("plain GET: %s", got)
	}
}

func setupWith(t testing.TB, order flashsale.Order) *bundle {
	t.Helper()
	b := setup(t, nil)
	b.ledger.set(order)
	return b
}

// Protects the node from a shopper who sends too much or nothing at all.
func TestSocket_BadPeer(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config) { c.SocketPing = 50 * time.Millisecond })
	order := newOrder("ann")
	r.ledger.set(order)
	talker := r.mustDial(t, order.OrderNo, "ann")
	expect(t, talker, state(order.OrderNo, flashsale.Unpaid))
	if err := talker.WriteMessage(websocket.TextMessage, make([]byte, socketReadMax+1)); err != nil {
		t.Fatal(err)
	}
	expect(t, talker, "closed 1009")
	// This one never reads, so it answers no ping.
	r.mustDial(t, order.OrderNo, "ann")
	stacktest.Eventually(t, testTimeout, func() error {
		if n := r.sockets.count(); n > 0 {
			return fmt.Errorf("%d sockets left", n)
		}
		return nil
	})
}

// Protects everybody from one who does not read: nobody waits for him. The pipe takes not a
// byte that is not read.
func TestSocket_SlowReader(t *testing.T) {
	t.Parallel()
	listener := newPipeListener()
	r := start(t, func(c *Config) {
		c.Listener, c.SocketWrite, c.RereadAfter = listener, 50*time.Millisecond, 10*time.Millisecond
	})
	order := newOrder("ann")
	r.ledger.set(order)
	dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return listener.dial() }}
	header := http.Header{"Authorization": {"Bearer ann-token"}}
	conn, response, err := dialer.DialContext(t.Context(), "ws://pipe/v1/orders/"+order.OrderNo.String()+"/events", header)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	defer conn.Close()
	expect(t, conn, state(order.OrderNo, flashsale.Unpaid))
	if n := r.sockets.count(); n != 1 {
		t.Fatalf("%d sockets", n)
	}
	order.Status = flashsale.Paid
	r.ledger.set(order) // found by reading again, and never taken by the peer
	stacktest.Eventually(t, testTimeout, func() error {
		if n := r.sockets.count(); n > 0 {
			return fmt.Errorf("%d sockets left", n)
		}
		return nil
	})
}

// pipeListener hands out connections without any buffer.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
