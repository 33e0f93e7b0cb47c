package server

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"flashsale/engine"
)

// Protects from a misspelt or doubled parameter that is silently something else than was meant:
// on every route, whether it takes parameters or not.
func TestQuery_UnknownOrRepeated(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.ledger.set(newOrder("ann"))
	for call, want := range map[string]string{
		"GET /v1/sales?page=2":                    "400 unknown_parameter",
		"GET /v1/items/7?x":                       "400 unknown_parameter",
		"GET /v1/items/7?=1":                      "400 unknown_parameter",
		"GET /v1/me?user=bob":                     "400 unknown_parameter",
		"POST /v1/items/7/orders?quantity=2":      "400 unknown_parameter",
		"POST /v1/sessions?user=ann":              "400 unknown_parameter",
		"GET /v1/orders?Limit=5":                  "400 unknown_parameter",
		"GET /v1/orders?limit=5&after=1":          "400 unknown_parameter",
		"GET /v1/orders?limit=5&limit=6":          "400 repeated_parameter",
		"GET /v1/orders?limit=5&%6Cimit=5":        "400 repeated_parameter",
		"GET /v1/orders/1?waits=5s":               "400 unknown_parameter",
		"GET /v1/orders/1?wait=0s&wait=0s":        "400 repeated_parameter",
		"DELETE /v1/orders/1?force=1":             "400 unknown_parameter",
		"POST /v1/orders/1/payments?method=p":     "400 unknown_parameter",
		"POST /v1/orders/1/refunds?reason=x":      "400 unknown_parameter",
		"GET /v1/points?before=1&before=1":        "400 repeated_parameter",
		"POST /v1/payments/alipay/notify?a=1":     "400 unknown_parameter",
		"GET /v1/orders?limit=":                   "400 invalid_limit",
		"GET /v1/orders?before":                   "400 invalid_cursor",
		"GET /v1/orders/1?wait":                   "400 invalid_wait",
		"GET /v1/payments/alipay/return?sign=a&b": "404 not_found", // Alipay's own query: its signature judges it
		"GET /v1/orders?&limit=5&":                "200",
		"GET /v1/sales?":                          "200",
	} {
		method, path, _ := strings.Cut(call, " ")
		if got := code(b.call(method, path, "", as("ann")...)); got != want {
			t.Errorf("%s: got %s, want %s", call, got, want)
		}
	}
	for call, want := range map[string]string{
		"POST /v1/admin/sales?dry=1":                 "400 unknown_parameter",
		"POST /v1/admin/sales/1/preheat?x=1":         "400 unknown_parameter",
		"GET /v1/admin/items/7?x=1":                  "400 unknown_parameter",
		"POST /v1/admin/items/7/pause?for=1h":        "400 unknown_parameter",
		"POST /v1/admin/items/7/stock?add=1":         "400 unknown_parameter",
		"GET /v1/admin/audit?fast=1":                 "400 unknown_parameter",
		"POST /v1/admin/points?user=a":               "400 unknown_parameter",
		"GET /v1/admin/orders/1/payments?verbose=on": "400 unknown_parameter",
	} {
		method, path, _ := strings.Cut(call, " ")
		if got := code(b.callOps(method, path, "", bearer...)); got != want {
			t.Errorf("%s: got %s, want %s", call, got, want)
		}
	}
	body := string(b.call("GET", "/v1/sales?p%22%00=2", "").Body())
	if want := `"parameter":"p\"\u0000"`; !strings.Contains(body, want) {
		t.Errorf("got %s, want %s in it", body, want)
	}
}

// Protects the thread from an answer to its line in the log: every answer names its request, by
// the id that it brought, or by one of our own, which is never given twice.
func TestRequestID(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	b := setup(t, func(c *Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	b.redis.decide = func(engine.Request) (engine.Reply, error) { panic("a bug") }
	seen := map[string]bool{}
	for range 2 {
		for call, want := range map[string]string{
			"GET /v1/sales": "200", "GET /nowhere": "404 not_found", "PUT /v1/sales": "405 method_not_allowed",
			"GET /v1/me": "401 missing_token", "POST /v1/items/7/orders": "500 internal",
		} {
			method, path, _ := strings.Cut(call, " ")
			login := as("ann")
			if path == "/v1/me" {
				login = nil
			}
			response := b.call(method, path, "", login...)
			id := string(response.Header.Peek("X-Request-Id"))
			if got := code(response); got != want || len(id) != 32 || seen[id] {
				t.Errorf("%s: got %s with id %q", call, got, id)
			}
			seen[id] = true
			named := b.call(method, path, "", append(login, "X-Request-Id", "proxy/7:a=")...)
			if got := string(named.Header.Peek("X-Request-Id")); got != "proxy/7:a=" {
				t.Errorf("%s: got id %q, want the one given", call, got)
			}
		}
	}
	for _, odd := range []string{"", "a b", "a\tb", `a"b`, "ü", strings.Repeat("x", 65)} {
		if got := string(b.call("GET", "/v1/sales", "", "X-Request-Id", odd).Header.Peek("X-Request-Id")); got == odd || len(got) != 32 {
			t.Errorf("asked with %q: got id %q", odd, got)
		}
	}
	if got := string(b.callOps("GET", "/healthz", "").Header.Peek("X-Request-Id")); len(got) != 32 {
		t.Errorf("ops: got id %q", got)
	}
	b.call("GET", "/v1/me", "", "Token", "broken", "X-Request-Id", "lost-and-found")
	if !strings.Contains(log.String(), `"request_id":"lost-and-found"`) {
		t.Errorf("the log does not name the request: %s", log.String())
	}
}
