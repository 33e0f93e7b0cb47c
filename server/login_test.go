package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// cookieOf returns the session cookie that an answer sets.
func cookieOf(t *testing.T, response *fasthttp.Response) *http.Cookie {
	t.Helper()
	cookie, err := http.ParseSetCookie(string(response.Header.Peek("Set-Cookie")))
	if err != nil {
		t.Fatalf("%v: %q", err, response.Header.String())
	}
	return cookie
}

// Protects a browser's login: a cookie that no script reads and no other site's form sends, that
// nothing but TLS carries where the browser speaks it, and that a log-out takes away.
func TestLogin_Cookie(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for proto, secure := range map[string]bool{"": false, "http": false, "https": true, "HTTPS": true} {
		response := b.call("POST", "/v1/sessions", `{"user":"ann"}`, "X-Forwarded-Proto", proto)
		got := cookieOf(t, response)
		if got.Name != "flashsale_session" || got.Value != "ann-token" || got.Path != "/" || !got.HttpOnly ||
			got.SameSite != http.SameSiteLaxMode || got.Secure != secure || got.MaxAge != 86400 {
			t.Errorf("%q: %s", proto, got)
		}
	}
	ann := []string{"Cookie", "theme=dark; flashsale_session=ann-token"}
	if got := string(b.call("GET", "/v1/me", "", ann...).Body()); got != `{"user":"ann"}` {
		t.Errorf("me by cookie: %s", got)
	}
	if got := string(b.call("GET", "/v1/me", "", append(ann, as("bob")...)...).Body()); got != `{"user":"bob"}` {
		t.Errorf("a header counts before the cookie: %s", got)
	}
	if got := code(b.call("GET", "/v1/me", "", "Cookie", "flashsale_session=")); got != "401 missing_token" {
		t.Errorf("an empty cookie: %s", got)
	}
	out := b.call("DELETE", "/v1/sessions", "", append(ann, "Sec-Fetch-Site", "same-origin")...)
	if got := cookieOf(t, out); out.StatusCode() != 204 || got.Value != "" || got.Expires.After(time.Unix(1e9, 0).AddDate(20, 0, 0)) {
		t.Errorf("log-out: %d %s", out.StatusCode(), got)
	}
	if got := code(b.call("GET", "/v1/me", "", ann...)); got != "401 invalid_token" {
		t.Errorf("after the log-out: %s", got)
	}
	for want, login := range map[string][]string{"204": as("nobody"), "401 missing_token": nil, "503 unavailable": {"Token", "broken"}} {
		if got := code(b.call("DELETE", "/v1/sessions", "", login...)); got != want {
			t.Errorf("log-out: got %s, want %s", got, want)
		}
	}
}

// Protects shoppers from pages that make their browsers buy, pay or log out: what a cookie logs in
// and changes something must come from a page of the very same origin.
func TestLogin_CrossSite(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Origins = []string{"https://named.example"} })
	b.ledger.set(flashsale.Order{OrderNo: 5, ItemID: 7, User: "ann", Status: flashsale.Unpaid})
	for _, c := range []struct {
		headers []string
		meant   bool
	}{
		{[]string{"Sec-Fetch-Site", "same-origin"}, true},
		{[]string{"Sec-Fetch-Site", "same-origin", "Origin", "http://shop.example"}, true},
		{[]string{"Sec-Fetch-Site", "same-site"}, false},
		{[]string{"Sec-Fetch-Site", "cross-site"}, false},
		{[]string{"Sec-Fetch-Site", "none"}, false},
		{[]string{"Sec-Fetch-Site", "cross-site", "Origin", "http://shop.example"}, false},
		{[]string{"Origin", "http://shop.example"}, true},
		{[]string{"Origin", "https://SHOP.example"}, true},
		{[]string{"Origin", "https://shop.example:8443"}, false},
		{[]string{"Origin", "https://named.example"}, false},
		{[]string{"Origin", "null"}, false},
		{[]string{"Origin", "https://shop.example.evil"}, false},
		{nil, false},
	} {
		for _, call := range []string{
			"POST /v1/items/7/orders", "DELETE /v1/orders/6", "POST /v1/orders/5/payments", "POST /v1/orders/5/refunds", "DELETE /v1/sessions",
		} {
			method, path, _ := strings.Cut(call, " ")
			cookie := append([]string{"Cookie", "flashsale_session=ann-token"}, c.headers...)
			if got := code(b.call(method, path, "", cookie...)); (got != "403 origin_not_allowed") != c.meant {
				t.Errorf("%s with %q: %s", call, c.headers, got)
			}
			if got := code(b.call(method, path, "", append(as("bob"), c.headers...)...)); got == "403 origin_not_allowed" {
				t.Errorf("%s with a token, which no browser adds by itself: %s", call, got)
			}
			b.redis.out = nil // logged in again
		}
		if got := code(b.call("GET", "/v1/orders/5", "", append([]string{"Cookie", "flashsale_session=ann-token"}, c.headers...)...)); got != "200" {
			t.Errorf("reading with %q: %s", c.headers, got)
		}
	}
}

// Protects a browser from not knowing where to log in.
func TestLogin_URL(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.LoginURL = "https://login.example/?to=shop" })
	for _, login := range [][]string{nil, {"Token", "unknown"}} {
		if got := string(b.call("GET", "/v1/me", "", login...).Body()); !strings.Contains(got, `"login_url":"https://login.example/?to=shop"`) {
			t.Errorf("%q: %s", login, got)
		}
	}
}

// dialWith opens a socket as a browser does, which can set no Authorization.
func (r *running) dialWith(t *testing.T, no flashsale.OrderNo, protocols []string, header http.Header) (*websocket.Conn, int) {
	t.Helper()
	dialer := websocket.Dialer{HandshakeTimeout: testTimeout, Subprotocols: protocols, WriteBufferSize: socketReadMax / 4}
	conn, response, err := dialer.DialContext(t.Context(), "ws://"+r.Addr()+"/v1/orders/"+no.String()+"/events", header)
	if response == nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err != nil {
		return nil, response.StatusCode
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, response.StatusCode
}

// Protects a browser's socket: by the cookie from a page of ours or a named one, or by the token as
// a subprotocol, which is not sent back; and it protects shoppers from sockets of foreign pages.
func TestSocket_Browser(t *testing.T) {
	t.Parallel()
	order := newOrder("ann")
	cookie := func(origin string) http.Header {
		return http.Header{"Cookie": {"flashsale_session=ann-token"}, "Origin": {origin}}
	}
	for _, listed := range [][]string{{"https://named.example"}, {"*"}} {
		r := start(t, func(c *Config) { c.Origins = listed })
		r.ledger.set(order)
		named := 101
		if listed[0] == "*" {
			named = 403
		}
		for origin, want := range map[string]int{
			"http://" + r.Addr(): 101, "https://named.example": named, "https://evil.example": 403, "null": 403,
		} {
			conn, status := r.dialWith(t, order.OrderNo, nil, cookie(origin))
			if status != want {
				t.Errorf("%v, page of %s: %d, want %d", listed, origin, status, want)
			}
			if conn != nil {
				expect(t, conn, state(order.OrderNo, flashsale.Unpaid))
			}
		}
	}
	r := start(t, nil)
	r.ledger.set(order)
	conn, status := r.dialWith(t, order.OrderNo, []string{"flashsale", "token.ann-token"}, nil)
	if status != 101 || conn.Subprotocol() != "flashsale" {
		t.Fatalf("by subprotocol: %d", status)
	}
	expect(t, conn, state(order.OrderNo, flashsale.Unpaid))
	for _, protocols := range [][]string{{"flashsale"}, {"flashsale", "token."}, {"flashsale", "token.unknown"}} {
		if _, status := r.dialWith(t, order.OrderNo, protocols, nil); status != 401 {
			t.Errorf("%q: %d", protocols, status)
		}
	}
}

// Protects a shopper who logs out: the sockets of that session are closed, here at once, and those
// of a session that was ended elsewhere once it is looked at; others stay.
func TestSocket_LogOut(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	mine, other := newOrder("ann"), newOrder("bob")
	r.ledger.set(mine)
	r.ledger.set(other)
	first, second, others := r.mustDial(t, mine.OrderNo, "ann"), r.mustDial(t, mine.OrderNo, "ann"), r.mustDial(t, other.OrderNo, "bob")
	expect(t, first, state(mine.OrderNo, flashsale.Unpaid))
	expect(t, second, state(mine.OrderNo, flashsale.Unpaid))
	expect(t, others, state(other.OrderNo, flashsale.Unpaid))
	if status, body := r.request(t, "DELETE", "/v1/sessions", as("ann")...); status != 204 {
		t.Fatalf("log-out: %d %s", status, body)
	}
	expect(t, first, "closed 1008")
	expect(t, second, "closed 1008")
	r.checkSessions(t.Context())
	if n := r.sockets.count(); n != 1 {
		stacktest.Eventually(t, testTimeout, func() error {
			if n := r.sockets.count(); n != 1 {
				return fmt.Errorf("%d sockets are open, want bob's", n)
			}
			return nil
		})
	}
	_ = r.redis.DeleteSession(t.Context(), "bob-token") // on another node
	r.checkSessions(t.Context())
	expect(t, others, "closed 1008")
}

// Protects the pages of named origins, which may use all of the API, and shoppers from every other
// page. "*" never goes with credentials; what depends on the origin says so to caches.
func TestCORS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listed              []string
		origin, allow, cred string
	}{
		{nil, "https://a.example", "", ""},
		{[]string{"https://a.example"}, "https://a.example", "https://a.example", "true"},
		{[]string{"https://b.example", "https://a.example"}, "https://a.example", "https://a.example", "true"},
		{[]string{"https://a.example"}, "https://a.example.evil", "", ""},
		{[]string{"https://a.example"}, "http://a.example", "", ""},
		{[]string{"https://a.example"}, "*", "", ""},
		{[]string{"https://a.example"}, "", "", ""},
		{[]string{"*"}, "https://x.example", "*", ""},
		{[]string{"*"}, "*", "*", ""},
		{[]string{"*", "https://a.example"}, "https://a.example", "https://a.example", "true"},
		{[]string{"*", "https://a.example"}, "https://x.example", "*", ""},
	} {
		b := setup(t, func(config *Config) { config.Origins = c.listed })
		for _, call := range []string{
			"GET /v1/sales", "GET /v1/me", "POST /v1/items/7/orders", "GET /v1/items/77", "GET /v1/nowhere", "PUT /v1/sales", "OPTIONS /v1/orders/5",
		} {
			method, path, _ := strings.Cut(call, " ")
			response := b.call(method, path, "", "Origin", c.origin, "Access-Control-Request-Method", "DELETE")
			header := func(name string) string { return string(response.Header.Peek(name)) }
			if header("Access-Control-Allow-Origin") != c.allow || header("Access-Control-Allow-Credentials") != c.cred {
				t.Errorf("%v, %s from %q:\n%s", c.listed, call, c.origin, response.Header.String())
			}
			if vary := strings.Contains(header("Vary"), "Origin"); vary != (c.listed != nil && !slices.Contains(c.listed, "*")) {
				t.Errorf("%v, %s: Vary %q", c.listed, call, header("Vary"))
			}
			if preflight := method == "OPTIONS" && c.allow != ""; preflight != (header("Access-Control-Max-Age") == "86400") ||
				preflight != strings.Contains(header("Access-Control-Allow-Methods"), "DELETE") ||
				preflight != strings.Contains(header("Access-Control-Allow-Headers"), "Idempotency-Key") {
				t.Errorf("%v, %s from %q:\n%s", c.listed, call, c.origin, response.Header.String())
			}
			if exposed := strings.Contains(header("Access-Control-Expose-Headers"), "Location"); exposed != (c.allow != "") {
				t.Errorf("%v, %s from %q: exposed %t", c.listed, call, c.origin, exposed)
			}
		}
	}
	for _, odd := range []string{"shop.example", "https://", "https://shop.example/", "ftp://shop.example", "https://*.example/x"} {
		if _, err := New(Config{Origins: []string{odd}, Reserver: &fakeRedis{}, Sessions: &fakeRedis{}, Live: &fakeRedis{}, Ledger: &fakeLedger{}}); err == nil {
			t.Errorf("%q passes for an origin", odd)
		}
	}
}

// Protects HEAD, which is GET without its body, and OPTIONS and Allow, which name what is answered.
func TestRoutes_Methods(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	for call, want := range map[string]string{
		"HEAD /v1/sales": "200 ", "HEAD /v1/items/7": "200 ", "HEAD /v1/items/77": "404 ", "HEAD /v1/me": "401 ", "HEAD /nowhere": "404 ",
		"OPTIONS /v1/sales":          "204 GET, HEAD, OPTIONS",
		"OPTIONS /v1/orders/5":       "204 DELETE, GET, HEAD, OPTIONS",
		"OPTIONS /v1/items/7/orders": "204 OPTIONS, POST",
		"OPTIONS /nowhere":           "404 ",
		"PUT /v1/sales":              "405 GET, HEAD, OPTIONS",
		"GET /v1/items/7/orders":     "405 OPTIONS, POST",
		"POST /v1/orders/5":          "405 DELETE, GET, HEAD, OPTIONS",
	} {
		method, path, _ := strings.Cut(call, " ")
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.Addr()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Close = true
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if got := fmt.Sprint(response.StatusCode, " ", response.Header.Get("Allow")); got != want {
			t.Errorf("%s: got %q, want %q", call, got, want)
		}
		if method == "HEAD" && response.ContentLength < 10 {
			t.Errorf("%s: Content-Length %d, want that of GET", call, response.ContentLength)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/admin/items/7"} {
		if got := code(r.callOps("HEAD", path, "", bearer...)); got != "200" {
			t.Errorf("ops HEAD %s: %s", path, got)
		}
	}
	// Profiles tell what the process holds, its secrets too.
	for want, login := range map[string][]string{"401 missing_token": nil, "401 invalid_token": {"Token", "guess"}, "200": bearer} {
		if got := code(r.callOps("GET", "/debug/pprof/cmdline", "", login...)); got != want {
			t.Errorf("cmdline: got %s, want %s", got, want)
		}
	}
}

// Protects from handshakes that no browser makes.
func TestSocket_Handshakes(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	order := newOrder("ann")
	r.ledger.set(order)
	const good = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for headers, want := range map[string]string{
		good: "101", "": "400",
		"Sec-WebSocket-Version: 13\r\n":                                                    "400",
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n":                            "400",
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n":         "400", // 15 bytes
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=\r\n":     "400", // 17
		"Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n":     "400",
		"Sec-WebSocket-Version: 12, 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n": "400",
		good + "Sec-WebSocket-Version: 13\r\n":                                             "400",
		good + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n":                           "400",
		good + "Origin: http://" + r.Addr() + "\r\nOrigin: http://" + r.Addr() + "\r\n":    "400",
		good + "Origin: http://" + r.Addr() + "\r\n":                                       "101",
	} {
		status, body := r.raw(t, "GET /v1/orders/"+order.OrderNo.String()+"/events HTTP/1.1\r\nHost: "+r.Addr()+
			"\r\nToken: ann-token\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+headers+"\r\n")
		if !strings.HasPrefix(status, want) {
			t.Errorf("%q: %s %s, want %s", headers, status, body, want)
		}
	}
}

// Protects the read limit from a message that comes in many fragments.
func TestSocket_Fragments(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	order := newOrder("ann")
	r.ledger.set(order)
	conn, _ := r.dialWith(t, order.OrderNo, []string{"flashsale", "token.ann-token"}, nil)
	expect(t, conn, state(order.OrderNo, flashsale.Unpaid))
	message, err := conn.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	for range 12 {
		if _, err := message.Write(make([]byte, socketReadMax/4)); err != nil {
			break // it has been closed already
		}
	}
	_ = message.Close()
	expect(t, conn, "closed 1009")
}
