package server

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// Protects the whole contract of the call that matters most: status, headers and body of
// every outcome, byte for byte.
func TestCreateOrder_Outcomes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name     string
		item     string
		reply    engine.Reply
		err      error
		status   int
		body     string
		location string
		retry    string
	}{
		{
			name: "accepted", reply: engine.Reply{Outcome: flashsale.Accepted, OrderNo: 42}, status: 202,
			body: `{"order_no":"42","status":"pending"}`, location: "/v1/orders/42?item=7",
		},
		{
			name: "replayed", reply: engine.Reply{Outcome: flashsale.Replayed, OrderNo: 42}, status: 202,
			body: `{"order_no":"42","status":"pending"}`, location: "/v1/orders/42?item=7",
		},
		{
			name: "sold out", reply: engine.Reply{Outcome: flashsale.SoldOut}, status: 409,
			body: `{"status":409,"code":"sold_out","title":"Not enough units are left."}`,
		},
		{
			name: "duplicate", reply: engine.Reply{Outcome: flashsale.DuplicateOrder, OrderNo: 41}, status: 409,
			body: `{"status":409,"code":"duplicate_order","title":"You hold an order of this item.","order_no":"41"}`,
		},
		{
			name: "limit", reply: engine.Reply{Outcome: flashsale.LimitReached, OrderNo: 41}, status: 409,
			body: `{"status":409,"code":"limit_reached","title":"That would exceed what one user may hold of this item.","order_no":"41"}`,
		},
		{
			name: "limit without order", reply: engine.Reply{Outcome: flashsale.LimitReached}, status: 409,
			body: `{"status":409,"code":"limit_reached","title":"That would exceed what one user may hold of this item."}`,
		},
		{
			name: "not started", reply: engine.Reply{Outcome: flashsale.NotStarted, OpensAt: opens}, status: 409,
			body: `{"status":409,"code":"not_started","title":"The sale has not opened.","opens_at_ms":1800000000000}`,
		},
		{
			name: "ended", reply: engine.Reply{Outcome: flashsale.Ended}, status: 409,
			body: `{"status":409,"code":"ended","title":"The sale is over."}`,
		},
		{
			name: "paused", reply: engine.Reply{Outcome: flashsale.Paused}, status: 409,
			body: `{"status":409,"code":"paused","title":"The item is paused."}`,
		},
		{
			name: "key of another quantity", reply: engine.Reply{Outcome: flashsale.KeyReused, OrderNo: 41}, status: 422,
			body: `{"status":422,"code":"idempotency_key_reused","title":"This Idempotency-Key was used for another quantity. A new attempt takes a new key.","order_no":"41"}`,
		},
		{
			name: "no such item", reply: engine.Reply{Outcome: flashsale.ItemNotFound}, status: 404,
			body: `{"status":404,"code":"item_not_found","title":"There is no such item."}`,
		},
		{
			name: "overloaded", reply: engine.Reply{Outcome: flashsale.Overloaded}, status: 503, retry: "1",
			body: `{"status":503,"code":"overloaded","title":"Too many requests are waiting: ask again."}`,
		},
		{
			name: "not loaded while open", reply: engine.Reply{Outcome: flashsale.NotReady}, status: 503, retry: "1",
			body: `{"status":503,"code":"not_ready","title":"The item is being prepared: ask again."}`,
		},
		{
			name: "not loaded before opening", item: "9", reply: engine.Reply{Outcome: flashsale.NotReady}, status: 409,
			body: `{"status":409,"code":"not_started","title":"The sale has not opened.","opens_at_ms":1800000600000}`,
		},
		{
			name: "not loaded after closing", item: "10", reply: engine.Reply{Outcome: flashsale.NotReady}, status: 409,
			body: `{"status":409,"code":"ended","title":"The sale is over."}`,
		},
		{
			name: "not loaded and unknown", item: "77", reply: engine.Reply{Outcome: flashsale.NotReady}, status: 404,
			body: `{"status":404,"code":"item_not_found","title":"There is no such item."}`,
		},
		{
			name: "unknown outcome of the call", err: fmt.Errorf("reserve: %w", engine.ErrUnknown), status: 503, retry: "1",
			body: `{"status":503,"code":"outcome_unknown","title":"The order may have been accepted. Ask again with the same Idempotency-Key to learn what happened."}`,
		},
		{
			name: "redis away", err: fmt.Errorf("reserve: %w", engine.ErrUnavailable), status: 503, retry: "1",
			body: `{"status":503,"code":"unavailable","title":"The service cannot answer now: ask again."}`,
		},
		{
			name: "any other fault", err: io.ErrUnexpectedEOF, status: 503, retry: "1",
			body: `{"status":503,"code":"unavailable","title":"The service cannot answer now: ask again."}`,
		},
		{
			name: "outcome that this server does not know", reply: engine.Reply{Outcome: 200}, status: 500,
			body: `{"status":500,"code":"internal","title":"This is a fault of the server."}`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			b.redis.decide = func(engine.Request) (engine.Reply, error) { return c.reply, c.err }
			item := c.item
			if item == "" {
				item = "7"
			}
			got := b.call("POST", "/v1/items/"+item+"/orders", "", as("ann")...)
			kind := typeProblem
			if c.status < 300 {
				kind = typeJSON
			}
			for _, pair := range [][2]string{
				{strconv.Itoa(got.StatusCode()), strconv.Itoa(c.status)},
				{particular(got), c.body},
				{string(got.Header.ContentType()), kind},
				{string(got.Header.Peek("Location")), c.location},
				{string(got.Header.Peek("Retry-After")), c.retry},
			} {
				if pair[0] != pair[1] {
					t.Errorf("got  %s\nwant %s", pair[0], pair[1])
				}
			}
		})
	}
}

// Protects from an outcome that has no answer, or one by another name.
func TestOutcomeProblems_Whole(t *testing.T) {
	t.Parallel()
	for _, outcome := range flashsale.Outcomes() {
		if outcome == flashsale.Accepted || outcome == flashsale.Replayed {
			continue
		}
		if int(outcome) >= len(outcomeProblems) || !strings.Contains(string(outcomeProblems[outcome].body), `"code":"`+outcome.String()+`"`) {
			t.Errorf("%s has no answer of its name", outcome)
		}
	}
}

// Protects what the engine is asked: the user of the session, never of the request; quantity
// and key as sent; strings that do not point into the request, which fasthttp uses again.
func TestCreateOrder_Request(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.call("POST", "/v1/items/7/orders", ` { "quantity" : 3 } `, append(as("ann"), "Idempotency-Key", `"key-1"`)...)
	b.call("POST", "/v1/items/8/orders", "", "Token", "bob-token", "Idempotency-Key", "key-2")
	want := []engine.Request{
		{Item: 7, User: "ann", Quantity: 3, IdempotencyKey: "key-1"},
		{Item: 8, User: "bob", Quantity: 1, IdempotencyKey: "key-2"},
	}
	if !slices.Equal(b.redis.asked, want) {
		t.Errorf("asked %+v, want %+v", b.redis.asked, want)
	}
}

// Protects against bad input: each kind has its code, none is a 5xx, and none reaches Redis.
func TestCreateOrder_BadInput(t *testing.T) {
	t.Parallel()
	path := "/v1/items/7/orders"
	cases := []struct {
		name, path, body, want string
		headers                []string
	}{
		{name: "letters", path: "/v1/items/seven/orders", want: "400 invalid_item_id"},
		{name: "20 digits", path: "/v1/items/12345678901234567890/orders", want: "400 invalid_item_id"},
		{name: "negative", path: "/v1/items/-7/orders", want: "400 invalid_item_id"},
		{name: "encoded digit", path: "/v1/items/%37/orders", want: "400 invalid_item_id"},
		{name: "NUL", path: "/v1/items/7%00/orders", want: "400 invalid_item_id"},
		{name: "zero", path: "/v1/items/0/orders", want: "404 item_not_found"},
		{name: "beyond 63 bits", path: "/v1/items/9999999999999999999/orders", want: "404 item_not_found"},
		{name: "no item", path: "/v1/items//orders", want: "400 invalid_item_id"},
		{name: "trailing slash", path: path + "/", want: "404 not_found"},
		{name: "other case", path: "/V1/items/7/orders", want: "404 not_found"},
		{name: "truncated", body: `{"quantity":`, want: "400 malformed_json"},
		{name: "trailing data", body: `{"quantity":1}{}`, want: "400 malformed_json"},
		{name: "raw NUL", body: "{\"quantity\":1}\x00", want: "400 malformed_json"},
		{name: "leading zero", body: `{"quantity":01}`, want: "400 malformed_json"},
		{name: "broken UTF-8", body: "{\"\xff\":1}", want: "400 malformed_json"},
		{name: "deep nesting", body: strings.Repeat("[", 12_000), want: "400 malformed_json"},
		{name: "deep nesting, closed", body: strings.Repeat("[", 8000) + strings.Repeat("]", 8000), want: "422 invalid_body"},
		{name: "array", body: `[1]`, want: "422 invalid_body"},
		{name: "null", body: `null`, want: "422 invalid_body"},
		{name: "string", body: `"quantity"`, want: "422 invalid_body"},
		{name: "unknown field", body: `{"quantity":1,"price":1}`, want: "422 unknown_field"},
		{name: "other case of the field", body: `{"Quantity":1}`, want: "400 misspelt_field"},
		{name: "zero units", body: `{"quantity":0}`, want: "422 invalid_quantity"},
		{name: "negative units", body: `{"quantity":-1}`, want: "422 invalid_quantity"},
		{name: "half a unit", body: `{"quantity":0.5}`, want: "422 invalid_quantity"},
		{name: "absurd", body: `{"quantity":10001}`, want: "422 invalid_quantity"},
		{name: "overflow", body: `{"quantity":18446744073709551617}`, want: "422 invalid_quantity"},
		{name: "text", body: `{"quantity":"1"}`, want: "422 invalid_quantity"},
		{name: "null units", body: `{"quantity":null}`, want: "422 invalid_quantity"},
		{name: "named twice", body: `{"quantity":1,"quantity":2}`, want: "400 repeated_field"},
		{name: "form", body: `quantity=1`, headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, want: "415 unsupported_media_type"},
		{name: "no type", body: `{"quantity":1}`, headers: []string{"Content-Type", ""}, want: "415 unsupported_media_type"},
		{name: "key with space", headers: []string{"Idempotency-Key", "a b"}, want: "400 invalid_idempotency_key"},
		{name: "empty key", headers: []string{"Idempotency-Key", ""}, want: "400 invalid_idempotency_key"},
		{name: "empty quoted key", headers: []string{"Idempotency-Key", `""`}, want: "400 invalid_idempotency_key"},
		{name: "half quoted key", headers: []string{"Idempotency-Key", `"a`}, want: "400 invalid_idempotency_key"},
		{name: "long key", headers: []string{"Idempotency-Key", strings.Repeat("k", 129)}, want: "400 invalid_idempotency_key"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			if c.path == "" {
				c.path = path
			}
			response := b.call("POST", c.path, c.body, append(as("ann"), c.headers...)...)
			if got := code(response); got != c.want {
				t.Errorf("got %s, want %s: %s", got, c.want, response.Body())
			}
			if len(b.redis.asked) > 0 {
				t.Errorf("reached the engine: %+v", b.redis.asked)
			}
		})
	}
}

// Protects that white space and media type parameters, which are legal, are taken.
func TestCreateOrder_LegalVariants(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for _, body := range []string{"{}", " { } ", "{\n\t\"quantity\": 10000\r\n}", `{"quantity":1}`} {
		response := b.call("POST", "/v1/items/7/orders", body, append(as("ann"), "Content-Type", "Application/JSON; charset=utf-8")...)
		if response.StatusCode() != 202 {
			t.Errorf("%q: %s", body, response.Body())
		}
	}
}

// Protects that every call behind a login asks for one, and says what is wrong with a token.
func TestRequireUser(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for _, route := range []string{
		"GET /v1/me", "POST /v1/items/7/orders", "GET /v1/orders", "GET /v1/orders/1",
		"DELETE /v1/orders/1", "GET /v1/orders/1/events", "POST /v1/orders/1/payments", "POST /v1/orders/1/refunds",
		"GET /v1/points",
	} {
		method, path, _ := strings.Cut(route, " ")
		for want, headers := range map[string][]string{
			"401 missing_token": nil,
			"401 invalid_token": {"Authorization", "bearer nobody"},
			"503 unavailable":   {"Token", "broken"},
		} {
			response := b.call(method, path, "", headers...)
			if got := code(response); got != want {
				t.Errorf("%s: got %s, want %s", route, got, want)
			}
			if challenge := string(response.Header.Peek("WWW-Authenticate")); (challenge == "Bearer") != (response.StatusCode() == 401) {
				t.Errorf("%s: WWW-Authenticate %q", route, challenge)
			}
		}
	}
	if got := code(b.call("GET", "/v1/me", "", "Token", strings.Repeat("x", 300))); got != "401 invalid_token" {
		t.Errorf("long token: %s", got)
	}
	if len(b.redis.asked) > 0 {
		t.Errorf("reached the engine: %+v", b.redis.asked)
	}
}

// Protects an order's privacy and each place where it may be found.
func TestGetOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	at := time.UnixMilli(1_700_000_000_000) // long before the sale opens
	b.ledger.set(flashsale.Order{OrderNo: 5, ItemID: 7, User: "ann", Quantity: 2, Status: flashsale.Rejected, Reason: "sold out"})
	b.ledger.set(flashsale.Order{
		OrderNo: 6, ItemID: 7, User: "ann", Quantity: 1, Status: flashsale.Unpaid, AmountFen: 9900,
		ReservedAt: at, CreatedAt: at, UpdatedAt: at, PayDeadline: at.Add(time.Minute),
	})
	cases := []struct{ name, path, user, want string }{
		{"rejected", "/v1/orders/5", "ann", `{"order_no":"5","item_id":"7","quantity":2,"status":"rejected","reason":"sold out","amount_fen":0,"amount_points":0,"product":"Kettle","sale_id":"1","sale_name":"Spring \"sale\""}`},
		{"unpaid", "/v1/orders/6", "ann", `{"order_no":"6","item_id":"7","quantity":1,"status":"unpaid","amount_fen":9900,"amount_points":0,"reserved_at_ms":1700000000000,"created_at_ms":1700000000000,"updated_at_ms":1700000000000,"pay_deadline_ms":1700000060000,"product":"Kettle","sale_id":"1","sale_name":"Spring \"sale\""}`},
		{"foreign", "/v1/orders/6", "bob", "404 order_not_found"},
		{"unknown", "/v1/orders/9", "ann", "404 order_not_found"},
		{"of the future", "/v1/orders/9223372036854775807", "ann", "404 order_not_found"},
		{"beyond 63 bits", "/v1/orders/9999999999999999999", "ann", "404 order_not_found"},
		{"letters", "/v1/orders/six", "ann", "400 invalid_order_no"},
		{"wait without unit", "/v1/orders/6?wait=5", "ann", "400 invalid_wait"},
		{"wait too long", "/v1/orders/6?wait=31s", "ann", "400 invalid_wait"},
		{"wait negative", "/v1/orders/6?wait=-1s", "ann", "400 invalid_wait"},
	}
	for _, c := range cases {
		response := b.call("GET", c.path, "", as(c.user)...)
		if got := string(response.Body()); got != c.want && code(response) != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// Protects the moment between the script and the commit: the ledger knows nothing, the buyer
// must not be told that there is nothing.
func TestGetOrder_Pending(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.openNow()
	no := orderAt(time.Now(), 1)
	pending := flashsale.Order{OrderNo: no, ItemID: 7, User: "ann", Quantity: 1, Status: flashsale.Pending}
	b.redis.held["ann"] = []flashsale.Order{pending}
	response := b.call("GET", "/v1/orders/"+no.String(), "", as("ann")...)
	if want := fmt.Sprintf(`{"order_no":"%d","item_id":"7","quantity":1,"status":"pending","product":"Kettle","sale_id":"1","sale_name":"Spring \"sale\""}`, no); string(response.Body()) != want {
		t.Errorf("got %s, want %s", response.Body(), want)
	}
	if got := code(b.call("GET", "/v1/orders/"+no.String(), "", as("bob")...)); got != "404 order_not_found" {
		t.Errorf("foreign: %s", got)
	}
	if got := code(b.call("DELETE", "/v1/orders/"+no.String(), "", as("ann")...)); got != "409 order_pending" {
		t.Errorf("cancel: %s", got)
	}
	b.redis.heldErr = io.ErrUnexpectedEOF
	if got := code(b.call("GET", "/v1/orders/"+no.String(), "", as("ann")...)); got != "200" {
		t.Errorf("found though another item could not be read: %s", got)
	}
	b.redis.held["ann"] = nil
	if got := code(b.call("GET", "/v1/orders/"+no.String(), "", as("ann")...)); got != "503 unavailable" {
		t.Errorf("redis away: %s", got)
	}
}

// openNow moves the sale to the present, where order numbers of the tests are drawn.
func (b *bundle) openNow() {
	now := time.Now()
	b.redis.now = now
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	for n := range b.ledger.sales[0].Items {
		b.ledger.sales[0].Items[n].OpensAt = now.Add(-time.Minute)
		b.ledger.sales[0].Items[n].ClosesAt = now.Add(time.Hour)
	}
}

// Protects an order just accepted from being "no such order" when many items are on sale, when the
// live sale lies behind newer ones, when the clock of a node is wrong, and when one item cannot be
// read: by every road that leads to an order.
func TestFindOrder_Pending(t *testing.T) {
	t.Parallel()
	const last = flashsale.ItemID(5000)
	pending := flashsale.Order{ItemID: last, User: "ann", Quantity: 1, Status: flashsale.Pending}
	late := setup(t, nil) // draws numbers of next year, while its Redis says that nothing is open
	late.redis.now = opens.Add(-1000 * time.Hour)
	many := setup(t, nil)
	items := many.ledger.sales[0].Items
	for id := flashsale.ItemID(1000); id <= last; id++ {
		item := items[0]
		item.ID = id
		items = append(items, item)
	}
	many.ledger.sales = append([]flashsale.Sale{{ID: 2, Items: items[4:]}}, many.ledger.sales...)
	for name, c := range map[string]struct {
		b  *bundle
		no flashsale.OrderNo
	}{
		"4,000 items":      {many, orderAt(opens.Add(-time.Hour), 1)},
		"clocks that lie":  {late, orderAt(time.Now().AddDate(1, 0, 0), 1)},
		"an order of 1970": {many, 1},
	} {
		order := pending
		order.OrderNo = c.no
		if c.b == late {
			order.ItemID = 7
		}
		c.b.redis.held["ann"] = []flashsale.Order{order}
		path := "/v1/orders/" + c.no.String()
		for _, item := range []string{"", "item=" + order.ItemID.String()} {
			query := strings.TrimSuffix("?"+item, "?")
			and := query + "&"
			if query == "" {
				and = "?"
			}
			for call, want := range map[string]string{
				"GET " + path + query:                         "200",
				"GET " + path + and + "wait=1ms":              "200",
				"DELETE " + path + query:                      "409 order_pending",
				"POST " + path + "/payments" + query:          "409 method_unavailable", // nobody takes money here
				"GET " + path + "/events" + query:             "400 websocket_required",
				"GET /v1/orders":                              "200",
				"GET " + path + "?item=8":                     "404 order_not_found", // of another item
				"GET " + path + "?item=x":                     "400 invalid_item_id",
				"GET " + path + "?item=9999999999999999999":   "404 order_not_found",
				"GET " + path + "?item=7&item=8":              "400 repeated_parameter",
				"GET " + path + and + "wait=1s&status=paid":   "200",
				"GET " + path + and + "wait=1s&status=frozen": "400 invalid_status",
				"GET " + path + and + "wait=1s&status=":       "400 invalid_status",
			} {
				method, path, _ := strings.Cut(call, " ")
				body := ""
				if method == "POST" {
					body = `{"method":"points"}`
				}
				response := c.b.call(method, path, body, as("ann")...)
				if got := code(response); got != want {
					t.Errorf("%s: %s: got %s, want %s", name, call, got, want)
				}
				if path == "/v1/orders" && !strings.Contains(string(response.Body()), c.no.String()) {
					t.Errorf("%s: my orders: %s", name, response.Body())
				}
			}
		}
	}
}

// Protects "no such order" from being said of a search that was not finished, and another's order
// from being told from none: the same answer, after the same reads.
func TestFindOrder_Unfinished(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	reads := func(path string) int {
		before := b.ledger.reads
		if got := code(b.call("GET", path, "", as("bob")...)); got != "404 order_not_found" {
			t.Errorf("%s: %s", path, got)
		}
		return b.ledger.reads - before
	}
	b.ledger.set(flashsale.Order{OrderNo: 5, ItemID: 7, User: "ann", Status: flashsale.Unpaid})
	if another, none := reads("/v1/orders/5"), reads("/v1/orders/6"); another != none {
		t.Errorf("%d reads for another's order, %d for none", another, none)
	}
	b.redis.heldErr = io.ErrUnexpectedEOF
	for _, path := range []string{"/v1/orders/6", "/v1/orders/6?item=7", "/v1/orders/6?wait=1s", "/v1/orders/6/events", "/v1/orders"} {
		if got := code(b.call("GET", path, "", as("ann")...)); got != "503 unavailable" {
			t.Errorf("%s: got %s, want 503 unavailable", path, got)
		}
	}
	if got := code(b.call("DELETE", "/v1/orders/6", "", as("ann")...)); got != "503 unavailable" {
		t.Errorf("cancel: got %s, want 503 unavailable", got)
	}
	b.redis.heldErr, b.ledger.liveErr = nil, io.ErrUnexpectedEOF
	if got := code(b.call("GET", "/v1/orders/6", "", as("ann")...)); got != "503 unavailable" {
		t.Errorf("items unknown: got %s, want 503 unavailable", got)
	}
}

// Protects a long poll from missing what it waits for: whoever says what he knows is answered at
// once when that is not so any more, also when the change came before he asked.
func TestGetOrder_WaitKnown(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	order := newOrder("ann")
	b.ledger.set(order)
	path := "/v1/orders/" + order.OrderNo.String() + "?wait=30s&status="
	began := time.Now()
	response := b.call("GET", path+"pending", "", as("ann")...)
	if !strings.Contains(string(response.Body()), `"status":"unpaid"`) || time.Since(began) > testTimeout {
		t.Errorf("after %v: %s", time.Since(began), response.Body())
	}
	waited := make(chan string, 1)
	go func() { waited <- string(b.call("GET", path+"unpaid", "", as("ann")...).Body()) }()
	stacktest.Eventually(t, testTimeout, func() error {
		if len(b.waiters) == 0 {
			return errors.New("does not wait for what is not so yet")
		}
		return nil
	})
	close(b.draining)
	if got := receive(t, waited); !strings.Contains(got, `"status":"unpaid"`) {
		t.Errorf("at the end: %s", got)
	}
}

// Protects a retry from being told a state that is over: a replay says what has become of the
// order. Only when nobody can say more is it pending.
func TestCreateOrder_ReplayStatus(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.redis.decide = func(engine.Request) (engine.Reply, error) {
		return engine.Reply{Outcome: flashsale.Replayed, OrderNo: 42}, nil
	}
	order := flashsale.Order{OrderNo: 42, ItemID: 7, User: "ann", Quantity: 1}
	for _, status := range []flashsale.Status{
		flashsale.Pending, flashsale.Unpaid, flashsale.Paid, flashsale.Cancelled, flashsale.Refunded, flashsale.Rejected,
	} {
		if order.Status = status; status != flashsale.Pending {
			b.ledger.set(order)
		}
		response := b.call("POST", "/v1/items/7/orders", "", as("ann")...)
		want := fmt.Sprintf(`{"order_no":"42","status":%q}`, status)
		if string(response.Body()) != want || response.StatusCode() != 202 ||
			string(response.Header.Peek("Location")) != "/v1/orders/42?item=7" || string(response.Header.Peek("Idempotent-Replayed")) != "true" {
			t.Errorf("got %d %s, want %s", response.StatusCode(), response.Body(), want)
		}
	}
	b.ledger.err = io.ErrUnexpectedEOF
	if got := string(b.call("POST", "/v1/items/7/orders", "", as("ann")...).Body()); got != `{"order_no":"42","status":"pending"}` {
		t.Errorf("ledger away: %s", got)
	}
}

// Protects what is personal from every cache, and what everybody may see from a cache that keeps
// it for longer than it is true.
func TestCaching(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.ledger.set(flashsale.Order{OrderNo: 5, ItemID: 7, User: "ann", Status: flashsale.Unpaid})
	for call, want := range map[string]string{
		"GET /v1/me":              "no-store",
		"GET /v1/orders":          "no-store",
		"GET /v1/orders/5":        "no-store",
		"GET /v1/orders/6":        "no-store",
		"GET /v1/points":          "no-store",
		"POST /v1/items/7/orders": "no-store",
		"DELETE /v1/orders/5":     "no-store",
		"GET /v1/sales":           "public, max-age=1",
		"GET /v1/items/7":         "public, max-age=1",
		"GET /v1/items/77":        "no-store",
		"POST /v1/sessions":       "no-store",
		"GET /nowhere":            "no-store",
	} {
		method, path, _ := strings.Cut(call, " ")
		for _, login := range [][]string{as("ann"), nil, {"Token", "unknown"}} {
			response := b.call(method, path, "", login...)
			personal := want == "no-store" && !slices.Contains([]string{"/v1/items/77", "/v1/sessions", "/nowhere"}, path)
			if got := string(response.Header.Peek("Cache-Control")); got != want {
				t.Errorf("%s: Cache-Control %q, want %q", call, got, want)
			}
			if got := string(response.Header.Peek("Vary")); (got == "Authorization, Token, Cookie") != personal {
				t.Errorf("%s: Vary %q", call, got)
			}
		}
	}
	if got := string(b.callOps("GET", "/v1/admin/items/7", "", bearer...).Header.Peek("Cache-Control")); got != "no-store" {
		t.Errorf("admin: Cache-Control %q", got)
	}
}

// Protects the pages: each order exactly once, pending ones where they belong, whatever the
// page size, also when Redis still names orders that the ledger has.
func TestListOrders_Pages(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var want []flashsale.OrderNo
	b := setup(t, nil)
	b.openNow()
	for n := int64(20); n > 0; n-- {
		order := flashsale.Order{OrderNo: orderAt(now, n), ItemID: 7, User: "ann", Quantity: 1, Status: flashsale.Pending}
		want = append(want, order.OrderNo)
		if n%3 != 0 {
			b.redis.held["ann"] = append(b.redis.held["ann"], order)
		}
		if n < 18 && n%7 != 0 || n%3 == 0 {
			order.Status = flashsale.Unpaid
			b.ledger.set(order)
		}
	}
	for _, limit := range []int{1, 3, 7, 20, 100} {
		var got []flashsale.OrderNo
		for before := ""; ; {
			path := fmt.Sprintf("/v1/orders?limit=%d%s", limit, before)
			page := decodePage(t, b.call("GET", path, "", as("ann")...).Body())
			for _, order := range page.Orders {
				got = append(got, order.OrderNo)
			}
			if len(page.Orders) > limit {
				t.Fatalf("limit %d: page of %d", limit, len(page.Orders))
			}
			if page.NextCursor == 0 || len(got) > len(want) {
				break
			}
			before = "&before=" + page.NextCursor.String()
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
	}
	for path, want := range map[string]string{
		"/v1/orders?limit=0": "400 invalid_limit", "/v1/orders?limit=101": "400 invalid_limit",
		"/v1/orders?limit=x": "400 invalid_limit", "/v1/orders?before=x": "400 invalid_cursor",
		"/v1/orders?before=0": "400 invalid_cursor",
	} {
		if got := code(b.call("GET", path, "", as("ann")...)); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if got := string(b.call("GET", "/v1/orders", "", as("bob")...).Body()); got != `{"orders":[]}` {
		t.Errorf("nothing: %s", got)
	}
}

// Protects the shopper's own cancel and its refusals.
func TestCancelOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.ledger.set(flashsale.Order{OrderNo: 5, ItemID: 7, User: "ann", Quantity: 1, Status: flashsale.Unpaid})
	b.ledger.set(flashsale.Order{OrderNo: 6, ItemID: 7, User: "ann", Quantity: 1, Status: flashsale.Paid})
	for _, c := range []struct{ path, user, want string }{
		{"/v1/orders/5", "bob", "404 order_not_found"},
		{"/v1/orders/5", "ann", "200"},
		{"/v1/orders/5", "ann", "409 not_cancellable"},
		{"/v1/orders/6", "ann", "409 not_cancellable"},
		{"/v1/orders/7", "ann", "404 order_not_found"},
		{"/v1/orders/x", "ann", "400 invalid_order_no"},
	} {
		if got := code(b.call("DELETE", c.path, "", as(c.user)...)); got != c.want {
			t.Errorf("%s as %s: got %s, want %s", c.path, c.user, got, c.want)
		}
	}
	body := particular(b.call("DELETE", "/v1/orders/6", "", as("ann")...))
	if !strings.HasSuffix(body, `,"order_status":"paid"}`) {
		t.Errorf("refusal does not tell the state: %s", body)
	}
	b.ledger.err = errors.New("connection lost")
	if got := code(b.call("DELETE", "/v1/orders/5", "", as("ann")...)); got != "503 outcome_unknown" {
		t.Errorf("commit without reply: %s", got)
	}
}
