package server

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"flashsale"
	"flashsale/engine"
)

type page struct {
	Orders []struct {
		OrderNo flashsale.OrderNo `json:"order_no"`
		Status  flashsale.Status  `json:"status"`
	} `json:"orders"`
	NextCursor flashsale.OrderNo `json:"next_cursor"`
}

func decodePage(t *testing.T, body []byte) page {
	t.Helper()
	var p page
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return p
}

// Protects the bodies of what everybody may read: state and time come from Redis.
func TestItemsAndSales(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	// The clock moves on by itself: compare up to the last member.
	cases := []struct{ path, want string }{
		{"/v1/items/7", `{"id":"7","sale_id":"1","product":"Kettle","price_fen":9900,"points_price":10,"limit":1,"opens_at_ms":1800000000000,"closes_at_ms":1800003600000,"state":"open","total":100,"left_percent":40,"server_time_ms":18000000`},
		{"/v1/items/8", `{"id":"8","sale_id":"1","product":"Lamp","price_fen":9900,"points_price":10,"limit":1,"opens_at_ms":1800000000000,"closes_at_ms":1800003600000,"state":"sold_out","total":100,"left_percent":0,"server_time_ms":18000000`},
		{"/v1/sales", `{"sales":[{"id":"1","name":"Spring \"sale\"","opens_at_ms":1800000000000,"closes_at_ms":1800003600000,"state":"open","item_count":4,"items":[{"id":"7","sale_id":"1","product":"Kettle","price_fen":9900,"points_price":10,"limit":1,"opens_at_ms":1800000000000,"closes_at_ms":1800003600000,"state":"open","total":100,"left_percent":40},`},
	}
	for _, c := range cases {
		response := b.call("GET", c.path, "")
		if got := string(response.Body()); !strings.HasPrefix(got, c.want) || !json.Valid(response.Body()) {
			t.Errorf("%s: got\n%s\nwant\n%s…", c.path, got, c.want)
		}
	}
	for path, state := range map[string]string{"9": "upcoming", "10": "ended"} {
		if got := string(b.call("GET", "/v1/items/"+path, "").Body()); !strings.Contains(got, `"state":"`+state+`"`) {
			t.Errorf("item %s: %s, want %s", path, got, state)
		}
	}
	for path, want := range map[string]string{
		"/v1/items/x": "400 invalid_item_id", "/v1/items/11": "404 item_not_found",
		"/v1/items/0": "404 item_not_found", "/v1/items/": "404 not_found",
	} {
		if got := code(b.call("GET", path, "")); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

// Protects an operator's pause, which Redis alone may know.
func TestItem_PausedInRedis(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	account := b.redis.accounts[7]
	account.State = engine.StatePaused
	b.redis.accounts[7] = account
	if got := string(b.call("GET", "/v1/items/7", "").Body()); !strings.Contains(got, `"state":"paused"`) {
		t.Error(got)
	}
}

// Protects against a router that redirects, answers in plain text or offers more than is
// written: every address that is not in the design's table is 404, every method 405.
func TestRoutes_Refusals(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.DevLogin = false })
	for route, want := range map[string]string{
		"GET /":                         "404 not_found",
		"GET /v1/sales/":                "404 not_found",
		"GET /v1//sales":                "404 not_found",
		"GET /v1/../v1/sales":           "404 not_found",
		"GET /v1/SALES":                 "404 not_found",
		"GET /metrics":                  "404 not_found",
		"POST /v1/sessions":             "404 not_found", // without DevLogin
		"POST /v1/admin/sales":          "404 not_found",
		"GET /v1/points":                "401 missing_token",
		"POST /v1/orders/1/payments":    "401 missing_token",
		"PUT /v1/sales":                 "405 method_not_allowed",
		"GET /v1/items/7/orders":        "405 method_not_allowed",
		"POST /v1/orders/1":             "405 method_not_allowed",
		"FROB /v1/sales":                "405 method_not_allowed",
		"POST /v1/items/7/orders/extra": "404 not_found",
	} {
		method, path, _ := strings.Cut(route, " ")
		if got := code(b.call(method, path, "")); got != want {
			t.Errorf("%s: got %s, want %s", route, got, want)
		}
	}
}

// Protects the demo's login and its checks.
func TestSessions(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	response := b.call("POST", "/v1/sessions", `{"user":"ann"}`)
	if got := string(response.Body()); response.StatusCode() != 201 || got != `{"token":"ann-token","user":"ann"}` {
		t.Errorf("%d %s", response.StatusCode(), got)
	}
	if got := string(b.call("GET", "/v1/me", "", as("ann")...).Body()); got != `{"user":"ann"}` {
		t.Errorf("me: %s", got)
	}
	for body, want := range map[string]string{
		``:                        "400 malformed_json",
		`{"user":"ann"`:           "400 malformed_json",
		`{"user":"ann"} x`:        "400 malformed_json",
		`["ann"]`:                 "422 invalid_body",
		`{"user":7}`:              "422 invalid_field",
		`{"user":""}`:             "422 invalid_field",
		`{"user":"a b"}`:          "422 invalid_field",
		`{"user":"a\u0000"}`:      "422 invalid_field",
		`{"user":"a","admin":1}`:  "422 unknown_field",
		`{"user":"a","\"x\"":{}}`: "422 unknown_field",
	} {
		if got := code(b.call("POST", "/v1/sessions", body)); got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
}

// Protects the process and the shopper from a bug: a panic is a 500 with nothing inside.
func TestGuarded_Panic(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.redis.decide = func(engine.Request) (engine.Reply, error) { panic("secret") }
	response := b.call("POST", "/v1/items/7/orders", "", as("ann")...)
	if got := code(response); got != "500 internal" || strings.Contains(string(response.Body()), "secret") {
		t.Errorf("got %s: %s", got, response.Body())
	}
}

// Protects what is answered before there is a request to route: limits and nonsense.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	for name, c := range map[string]struct{ text, want string }{
		"body": {"POST /v1/items/7/orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 102400\r\n\r\n" +
			strings.Repeat("x", 100), "413 body_too_large"},
		"chunked body": {"POST /v1/items/7/orders HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n" +
			strings.Repeat("x", 0x8000) + "\r\n0\r\n\r\n", "413 body_too_large"},
		"headers": {"GET /v1/sales HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 9000) + "\r\n\r\n", "431 headers_too_large"},
		"path":    {"GET /" + strings.Repeat("x", 9000) + " HTTP/1.1\r\nHost: a\r\n\r\n", "431 headers_too_large"},
		"garbage": {"\x00\x01\x02 what\r\n\r\n", "400 malformed_request"},
	} {
		status, body := r.raw(t, c.text)
		var p struct {
			Code string `json:"code"`
		}
		_ = json.Unmarshal([]byte(body), &p)
		if got := status[:3] + " " + p.Code; got != c.want {
			t.Errorf("%s: got %s (%s), want %s", name, got, body, c.want)
		}
	}
}

// Protects the header hygiene: no name of the server's software.
func TestHeaders(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Addr()+"/v1/sales", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != typeJSON || response.Header.Get("Server") != "" {
		t.Errorf("%d %v", response.StatusCode, response.Header)
	}
}

// Protects the strings of answers: whatever a name holds, the body is JSON that says it.
func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", "a", "\"\\", "\x00\x1f\x7f", "\xff\xfe", "壶", "\u2028", "a\xe5b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var got string
		if err := json.Unmarshal(appendString(nil, text), &got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if utf8.ValidString(text) && got != text {
			t.Fatalf("got %q, want %q", got, text)
		}
	})
}

// Protects the hand-written decoder against encoding/json: it takes nothing that is not
// exactly {} or {"quantity":n}, takes all of that, and never panics.
func FuzzDecodeQuantity(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"quantity":1}`, ` { "quantity" : 10000 } `, `{"quantity":1e0}`, `{"quantity":01}`,
		`{"quantity":1}}`, `{"quantity":1,}`, `null`, `[`, `{"quantity":9999999999}`, "{\"quantity\":1}\x00", `{"qu\u0061ntity":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		quantity, p := decodeQuantity(body)
		if len(body) == 0 {
			if quantity != 1 || p != nil {
				t.Fatal("no body is one unit")
			}
			return
		}
		var members map[string]json.Number
		ok := json.Unmarshal(body, &members) == nil && members != nil
		if p == nil {
			want := json.Number("1")
			if given, named := members["quantity"]; named {
				want = given
			}
			if n, err := want.Int64(); !ok || err != nil || int(n) != quantity || len(members) > 1 {
				t.Fatalf("%q is no order, but was taken as %d", body, quantity)
			}
			if quantity < 1 || quantity > flashsale.LimitMax {
				t.Fatalf("%q taken as %d", body, quantity)
			}
			return
		}
		wellFormed := json.Valid(body) && utf8.Valid(body)
		if !wellFormed && p != problemMalformedJSON || wellFormed && p == problemMalformedJSON || p.status >= 500 {
			t.Fatalf("%q: %d", body, p.status)
		}
	})
}

// Protects ids in paths: only 1 to 19 digits reach the engine, and nothing is a fault.
func FuzzItemPath(f *testing.F) {
	for _, seed := range []string{"7", "0", "-1", "9223372036854775807", "9223372036854775808", "%37", "7/../8", "7?x=1", "７"} {
		f.Add(seed)
	}
	b := setup(f, nil)
	f.Fuzz(func(t *testing.T, item string) {
		if strings.ContainsAny(item, "\r\n") {
			return
		}
		b.redis.mu.Lock()
		b.redis.asked = nil
		b.redis.mu.Unlock()
		response := b.call("POST", "/v1/items/"+item+"/orders", "", as("ann")...)
		if response.StatusCode() >= 500 {
			t.Fatalf("%q: %d", item, response.StatusCode())
		}
		for _, request := range b.redis.asked {
			if request.Item < 1 {
				t.Fatalf("%q reached the engine as %d", item, request.Item)
			}
		}
	})
}

// Protects shoppers' views while PostgreSQL is away: what was shown goes on being shown, and
// what was never known is a 503, not a 404.
func TestCatalogue_LedgerAway(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.ledger.err = io.ErrUnexpectedEOF
	if got := code(b.call("GET", "/v1/items/7", "")); got != "503 unavailable" {
		t.Errorf("never known: %s", got)
	}
	b = setup(t, nil)
	b.call("GET", "/v1/items/7", "")
	b.ledger.err = io.ErrUnexpectedEOF
	b.catalogue.onSale.ttl = 0
	b.catalogue.onSale.slow = nil
	b.catalogue.items.forget()
	if got := code(b.call("GET", "/v1/items/7", "")); got != "200" {
		t.Errorf("known before: %s", got)
	}
}

// Protects the bound of the memory of made-up ids.
func TestCatalogue_Strangers(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for id := flashsale.ItemID(1000); id < 1000+2*strangersMax; id++ {
		if _, err := b.catalogue.item(t.Context(), id); err == nil {
			t.Fatal("found what is not there")
		}
	}
	if n := len(b.catalogue.strangers.young) + len(b.catalogue.strangers.old); n > 2*strangersMax {
		t.Errorf("%d ids remembered", n)
	}
}
