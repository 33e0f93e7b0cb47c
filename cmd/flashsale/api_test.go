package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// ask is one request as a shopper or operator sends it.
type ask struct {
	method, url string
	token       string // "": none
	header      map[string]string
	body        string
}

// told is its answer.
type told struct {
	status int
	header http.Header
	body   string
}

func (a ask) String() string {
	text := fmt.Sprintf("%s %s %.80q", a.method, a.url, a.body)
	if len(a.header) > 0 {
		text += fmt.Sprintf(" %.120q", a.header)
	}
	return text
}

// send requires an answer.
func (a ask) send(t *testing.T) told {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), a.method, a.url, strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if a.token != "" {
		request.Header.Set("Authorization", "Bearer "+a.token)
	}
	for name, value := range a.header {
		request.Header.Set(name, value)
	}
	answer, err := httpClient.Do(request)
	if err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	return readAnswer(t, answer)
}

func readAnswer(t *testing.T, answer *http.Response) told {
	t.Helper()
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return told{status: answer.StatusCode, header: answer.Header, body: string(body)}
}

// sendRaw sends bytes that no HTTP client would. The server may answer, and close, before it
// has read all of them.
func sendRaw(t *testing.T, base, text string) told {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, text)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("no answer to %.80q: %v", text, err)
	}
	return readAnswer(t, answer)
}

// decode reads members of a JSON answer.
func decode[T any](t *testing.T, r told) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(r.body), &value); err != nil {
		t.Fatalf("answer %d %q: %v", r.status, r.body, err)
	}
	return value
}

// problemBody is what every answer that is not a success holds.
type problemBody struct {
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Title     string `json:"title"`
	Field     string `json:"field"`
	Detail    string `json:"detail"`
	OrderNo   string `json:"order_no"`
	State     string `json:"order_status"`
	OpensAtMS int64  `json:"opens_at_ms"`
}

// refused checks that an answer is the problem "status code", complete and of the right type.
func refused(t *testing.T, about string, r told, want string) problemBody {
	t.Helper()
	var p problemBody
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Errorf("%s: got %d %q, want %s", about, r.status, r.body, want)
		return p
	}
	if got := fmt.Sprint(r.status, " ", p.Code); got != want {
		t.Errorf("%s: got %s, want %s: %s", about, got, want, r.body)
	}
	if kind := r.header.Get("Content-Type"); kind != "application/problem+json" || p.Status != r.status || p.Title == "" {
		t.Errorf("%s: not a complete problem: %s %s", about, kind, r.body)
	}
	if (r.header.Get("WWW-Authenticate") == "Bearer") != (r.status == http.StatusUnauthorized) {
		t.Errorf("%s: status %d with WWW-Authenticate %q", about, r.status, r.header.Get("WWW-Authenticate"))
	}
	return p
}

// redisClient looks at the installation's Redis from outside.
func (i *installation) redisClient() *redis.Client {
	i.t.Helper()
	r := i.rooms()
	r.close()
	options, err := redis.ParseURL(r.redisURL)
	if err != nil {
		i.t.Fatal(err)
	}
	client := redis.NewClient(options)
	i.t.Cleanup(func() { _ = client.Close() })
	return client
}

// snapshot is everything that a request could change: the accounts, buyers, streams and sessions
// in Redis, and sales, figures and the users' orders in the ledger.
func (i *installation) snapshot(client *redis.Client, users ...string) string {
	i.t.Helper()
	ctx := i.t.Context()
	var b strings.Builder
	keys, err := client.Keys(ctx, "fs:[{s]*").Result()
	if err != nil {
		i.t.Fatal(err)
	}
	slices.Sort(keys)
	for _, key := range keys {
		var value any
		switch kind := client.Type(ctx, key).Val(); kind {
		case "hash":
			value, err = client.HGetAll(ctx, key).Result()
		case "string":
			value, err = client.Get(ctx, key).Result()
		case "stream": // also what has been added and acknowledged in between
			info, infoErr := client.XInfoStream(ctx, key).Result()
			value, err = []any{info.LastGeneratedID, info.EntriesAdded, info.Length}, infoErr
		default:
			i.t.Fatalf("key %s is a %s", key, kind)
		}
		if err != nil {
			i.t.Fatal(err)
		}
		fmt.Fprintln(&b, key, value)
	}
	r := i.rooms()
	defer r.close()
	figures, err := r.ledger.Figures(ctx)
	if err != nil {
		i.t.Fatal(err)
	}
	sales, err := r.ledger.Sales(ctx, flashsale.SalesQuery{Limit: 100, Items: 100})
	if err != nil {
		i.t.Fatal(err)
	}
	fmt.Fprintf(&b, "%+v\n%+v\n", figures, sales)
	for _, user := range users {
		orders, err := r.ledger.Orders(ctx, user, 0, 100)
		if err != nil {
			i.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %+v\n", user, orders)
	}
	return b.String()
}

// metric reads one number of /metrics; a series that is not there is 0.
func metric(t *testing.T, p *process, series string) string {
	t.Helper()
	for line := range strings.Lines(ask{method: "GET", url: p.ops + "/metrics"}.send(t).body) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "0"
}

// unmoved runs requests that must all be refused and fails if anything has changed.
func (i *installation) unmoved(p *process, users []string, do func()) {
	i.t.Helper()
	client := i.redisClient()
	before := i.snapshot(client, users...)
	do()
	if after := i.snapshot(client, users...); after != before {
		i.t.Errorf("refused requests changed the state from\n%s\nto\n%s", before, after)
	}
	if n := metric(i.t, p, "flashsale_http_panics_total"); n != "0" {
		i.t.Errorf("%s panics:\n%s", n, p.log())
	}
	i.auditClean()
}

const jsonType = "application/json"

var (
	asJSON = map[string]string{"Content-Type": jsonType}
	deep   = strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
)

// orderBody is an order as its owner reads it.
type orderBody struct {
	OrderNo       string `json:"order_no"`
	ItemID        string `json:"item_id"`
	Quantity      int    `json:"quantity"`
	Status        string `json:"status"`
	Reason        string `json:"reason"`
	AmountFen     *int64 `json:"amount_fen"`
	AmountPoints  *int64 `json:"amount_points"`
	ReservedAtMS  int64  `json:"reserved_at_ms"`
	PayDeadlineMS int64  `json:"pay_deadline_ms"`
}

type pageBody struct {
	Orders     []orderBody `json:"orders"`
	NextCursor string      `json:"next_cursor"`
}

type itemBody struct {
	ID           string `json:"id"`
	SaleID       string `json:"sale_id"`
	Product      string `json:"product"`
	PriceFen     int64  `json:"price_fen"`
	PointsPrice  int64  `json:"points_price"`
	Limit        int    `json:"limit"`
	OpensAtMS    int64  `json:"opens_at_ms"`
	ClosesAtMS   int64  `json:"closes_at_ms"`
	State        string `json:"state"`
	ServerTimeMS int64  `json:"server_time_ms"`
}

type accountBody struct {
	Total     int64 `json:"total"`
	Stock     int64 `json:"stock"`
	Limit     int   `json:"limit"`
	PriceFen  int64 `json:"price_fen"`
	OpensAtMS int64 `json:"opens_at_ms"`
	Paused    bool  `json:"paused"`
	Redis     *struct {
		Stock      int64  `json:"stock"`
		Limit      int    `json:"limit"`
		OpensAtMS  int64  `json:"opens_at_ms"`
		ClosesAtMS int64  `json:"closes_at_ms"`
		State      string `json:"state"`
	} `json:"redis"`
}

// Protects every call of the design as a shopper and an operator make them, in the order of a
// sale's life.
func TestAPI_HappyPath(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	p := i.serve()
	expect := func(a ask, status int) told {
		t.Helper()
		r := a.send(t)
		if r.status != status {
			t.Fatalf("%s: got %d %s, want %d", a, r.status, r.body, status)
		}
		if kind := r.header.Get("Content-Type"); kind != jsonType {
			t.Fatalf("%s: Content-Type %q", a, kind)
		}
		return r
	}
	admin := func(method, path, body string, status int) told {
		t.Helper()
		return expect(ask{method: method, url: p.ops + path, token: adminToken, header: asJSON, body: body}, status)
	}

	// Log in, as the demo does and as a login system does.
	login := decode[map[string]string](t, expect(ask{method: "POST", url: p.base + "/v1/sessions", header: asJSON, body: `{"user":"ann"}`}, 201))
	ann := login["token"]
	if login["user"] != "ann" || ann == "" || len(login) != 2 {
		t.Fatal(login)
	}
	if me := expect(ask{method: "GET", url: p.base + "/v1/me", token: ann}, 200).body; me != `{"user":"ann"}` {
		t.Fatal(me)
	}
	client := i.redisClient()
	session := engine.SessionKey("a token")
	if err := client.Set(t.Context(), session, `{"user":"bob@shop","name":"Bob \"鲍勃\"","more":1}`, time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	bob := ask{method: "GET", url: p.base + "/v1/me", header: map[string]string{"token": "a token"}}
	if me := expect(bob, 200).body; me != `{"user":"bob@shop","name":"Bob \"鲍勃\""}` {
		t.Fatal(me)
	}
	if err := client.Del(t.Context(), session).Err(); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, func() error {
		if r := bob.send(t); r.status != http.StatusUnauthorized {
			return fmt.Errorf("logged out, but told %d %s", r.status, r.body)
		}
		return nil
	})

	// Create a sale and load it.
	now := time.Now().UnixMilli()
	body := fmt.Sprintf(`{"name":"Spring","opens_at_ms":%d,"closes_at_ms":%d,"items":[`, now-1000, now+3_600_000) +
		`{"product":"Kettle","price_fen":9900,"points_price":10,"stock":10,"limit":1,"pay_timeout_s":600},` +
		`{"product":"灯","price_fen":5,"stock":10,"limit":3}]}`
	sale := decode[struct {
		ID    string `json:"id"`
		Items []struct {
			ID          string `json:"id"`
			Limit       int    `json:"limit"`
			PayTimeoutS int    `json:"pay_timeout_s"`
		} `json:"items"`
	}](t, admin("POST", "/v1/admin/sales", body, 201))
	if sale.ID == "" || len(sale.Items) != 2 || sale.Items[1].PayTimeoutS != 900 || sale.Items[1].Limit != 3 {
		t.Fatal(sale)
	}
	kettle, lamp := sale.Items[0].ID, sale.Items[1].ID
	buy := ask{method: "POST", url: p.base + "/v1/items/" + kettle + "/orders", token: ann}
	notReady := buy.send(t)
	refused(t, "before the preheat", notReady, "503 not_ready")
	if notReady.header.Get("Retry-After") != "1" {
		t.Error(notReady.header)
	}
	if account := decode[accountBody](t, admin("GET", "/v1/admin/items/"+kettle, "", 200)); account.Redis != nil || account.Total != 10 {
		t.Error(account)
	}
	admin("POST", "/v1/admin/sales/"+sale.ID+"/preheat", "", 200)
	admin("POST", "/v1/admin/sales/"+sale.ID+"/preheat", "", 200)
	stacktest.Eventually(t, patience, func() error {
		account := decode[accountBody](t, admin("GET", "/v1/admin/items/"+kettle, "", 200))
		if account.Redis == nil || account.Redis.Stock != 10 || account.Redis.State != "open" {
			return fmt.Errorf("%+v", account)
		}
		return nil
	})
	sales := decode[struct {
		Sales []struct {
			ID    string     `json:"id"`
			Name  string     `json:"name"`
			Items []itemBody `json:"items"`
		} `json:"sales"`
		ServerTimeMS int64 `json:"server_time_ms"`
	}](t, expect(ask{method: "GET", url: p.base + "/v1/sales"}, 200))
	if len(sales.Sales) != 1 || sales.Sales[0].Name != "Spring" || len(sales.Sales[0].Items) != 2 || sales.ServerTimeMS < now {
		t.Fatal(sales)
	}
	item := decode[itemBody](t, expect(ask{method: "GET", url: p.base + "/v1/items/" + kettle}, 200))
	want := itemBody{
		ID: kettle, SaleID: sale.ID, Product: "Kettle", PriceFen: 9900, PointsPrice: 10, Limit: 1,
		OpensAtMS: now - 1000, ClosesAtMS: now + 3_600_000, State: "open", ServerTimeMS: item.ServerTimeMS,
	}
	if item != want || item.ServerTimeMS < now {
		t.Fatalf("item %+v, want %+v", item, want)
	}

	// Buy. No worker runs yet: the orders stay pending.
	bought := expect(buy, 202)
	order := decode[orderBody](t, bought)
	if order.Status != "pending" || bought.header.Get("Location") != "/v1/orders/"+order.OrderNo+"?item="+kettle {
		t.Fatal(bought)
	}
	two := decode[orderBody](t, expect(ask{
		method: "POST", url: p.base + "/v1/items/" + lamp + "/orders", token: ann, body: ` { "quantity" : 2 } `,
		header: map[string]string{"Content-Type": "application/json; charset=utf-8", "Idempotency-Key": `"0b6e3c1a-77aa"`},
	}, 202))
	read := ask{method: "GET", url: p.base + "/v1/orders/" + order.OrderNo, token: ann}
	pending := decode[orderBody](t, expect(read, 200))
	if pending.Status != "pending" || pending.ItemID != kettle || pending.Quantity != 1 || pending.AmountFen != nil {
		t.Fatal(pending)
	}
	pageOf := func(query string) pageBody {
		t.Helper()
		return decode[pageBody](t, expect(ask{method: "GET", url: p.base + "/v1/orders" + query, token: ann}, 200))
	}
	if all := pageOf(""); len(all.Orders) != 2 || all.Orders[0].OrderNo != two.OrderNo || all.NextCursor != "" {
		t.Fatal(all)
	}
	refused(t, "cancel a pending order", ask{method: "DELETE", url: read.url, token: ann}.send(t), "409 order_pending")

	// Wait for the result on a websocket and by long poll, then let a worker persist it.
	socket, _, err := websocket.DefaultDialer.DialContext(t.Context(),
		"ws"+strings.TrimPrefix(read.url, "http")+"/events",
		http.Header{"Authorization": {"Bearer " + ann}, "Origin": {p.base}})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	event := func(want string) {
		t.Helper()
		_ = socket.SetReadDeadline(time.Now().Add(patience))
		kind, message, err := socket.ReadMessage()
		if err != nil || kind != websocket.TextMessage || string(message) != want {
			t.Fatalf("event %q %v, want %s", message, err, want)
		}
	}
	event(fmt.Sprintf(`{"order_no":%q,"status":"pending"}`, order.OrderNo))
	polled := make(chan response, 1)
	go func() {
		r, err := longPoll(context.WithoutCancel(t.Context()), read.url, ann)
		if err != nil {
			r.text = err.Error()
		}
		polled <- r
	}()
	stacktest.Eventually(t, patience, func() error {
		if n := metric(t, p, "flashsale_waiters"); n != "1" {
			return fmt.Errorf("%s wait", n)
		}
		return nil
	})
	i.work("w")
	event(fmt.Sprintf(`{"order_no":%q,"status":"unpaid"}`, order.OrderNo))
	if r := <-polled; r.status != http.StatusOK || !strings.Contains(r.text, `"status":"unpaid","amount_fen":9900,"amount_points":10,`) {
		t.Fatalf("long poll: %d %s", r.status, r.text)
	}
	unpaid := decode[orderBody](t, expect(read, 200))
	if unpaid.Status != "unpaid" || *unpaid.AmountFen != 9900 || *unpaid.AmountPoints != 10 || unpaid.PayDeadlineMS < unpaid.ReservedAtMS+590_000 {
		t.Fatal(unpaid)
	}
	waitStatus(t, p, ann, two.OrderNo, "unpaid")

	// Page through the orders.
	first := pageOf("?limit=1")
	second := pageOf("?limit=1&before=" + first.NextCursor)
	last := pageOf("?limit=1&before=" + second.NextCursor)
	if first.Orders[0].OrderNo != two.OrderNo || *first.Orders[0].AmountFen != 10 || second.Orders[0].OrderNo != order.OrderNo ||
		len(last.Orders) != 0 || last.NextCursor != "" {
		t.Fatal(first, second, last)
	}

	// Cancel: the socket is told, and closes.
	gone := ask{method: "DELETE", url: read.url, token: ann}
	cancelled := decode[orderBody](t, expect(gone, 200))
	if cancelled.Status != "cancelled" || cancelled.Reason != "shopper" {
		t.Fatal(cancelled)
	}
	event(fmt.Sprintf(`{"order_no":%q,"status":"cancelled","reason":"shopper"}`, order.OrderNo))
	if _, _, err := socket.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Fatalf("end of the socket: %v", err)
	}
	if again := refused(t, "cancel again", gone.send(t), "409 not_cancellable"); again.State != "cancelled" {
		t.Error(again)
	}
	if r := decode[orderBody](t, expect(ask{method: "GET", url: read.url + "?wait=30s", token: ann}, 200)); r.Status != "cancelled" {
		t.Fatal(r)
	}

	// Operate.
	if account := decode[accountBody](t, admin("POST", "/v1/admin/items/"+lamp+"/stock", `{"add":5}`, 200)); account.Total != 15 || account.Stock != 13 {
		t.Fatal(account)
	}
	stacktest.Eventually(t, patience, func() error {
		account := decode[accountBody](t, admin("GET", "/v1/admin/items/"+lamp, "", 200))
		if account.Redis.Stock != 13 {
			return fmt.Errorf("%d units in Redis, want 13", account.Redis.Stock)
		}
		return nil
	})
	i.auditClean()
	if audit := decode[struct{ OK bool }](t, admin("GET", "/v1/admin/audit", "", 200)); !audit.OK {
		t.Fatal(audit)
	}
	if health := expect(ask{method: "GET", url: p.ops + "/healthz"}, 200).body; health != `{"status":"ok"}` {
		t.Fatal(health)
	}
	ready := expect(ask{method: "GET", url: p.ops + "/readyz"}, 200).body
	if ready != `{"durability":"aof everysec: a redis crash may lose about 2 s of pending orders","postgres":"ok","redis":"ok","status":"ready"}` {
		t.Fatal(ready)
	}
	if n := metric(t, p, `flashsale_http_responses_total{route="POST /v1/items/{item}/orders",status="202"}`); n != "2" {
		t.Errorf("%s accepted orders in /metrics, want 2", n)
	}
	if profile := (ask{method: "GET", url: p.ops + "/debug/pprof/goroutine?debug=1", token: adminToken}).send(t); profile.status != 200 || !strings.Contains(profile.body, "goroutine profile") {
		t.Error(profile)
	}
}

// longPoll asks once and waits for a change.
func longPoll(ctx context.Context, url, token string) (response, error) {
	return call(ctx, http.MethodGet, url+"?wait=15s", token, nil, "")
}

// Protects what shoppers are told before, during and after a sale, at the limit, at the end of
// the stock, and when they ask again.
func TestAPI_Outcomes(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	item := i.sell(6, "limit=3").String()
	p := i.serve()
	i.work("w")
	tokens := i.tokens("shopper", 3)
	buy := func(item, token, key string, quantity int) told {
		t.Helper()
		header := maps.Clone(asJSON)
		if key != "" {
			header["Idempotency-Key"] = key
		}
		return ask{
			method: "POST", url: p.base + "/v1/items/" + item + "/orders", token: token, header: header,
			body: fmt.Sprintf(`{"quantity":%d}`, quantity),
		}.send(t)
	}
	state := func(id, want string) {
		t.Helper()
		stacktest.Eventually(t, patience, func() error {
			if got := decode[itemBody](t, ask{method: "GET", url: p.base + "/v1/items/" + id}.send(t)).State; got != want {
				return fmt.Errorf("item %s is %s, want %s", id, got, want)
			}
			return nil
		})
	}

	// The limit is 3: two and two do not fit, two and one do.
	won := buy(item, tokens[0], "k1", 2)
	if won.status != http.StatusAccepted {
		t.Fatal(won)
	}
	order := decode[response](t, won).OrderNo
	if r := refused(t, "2 of 3, then 2", buy(item, tokens[0], "k2", 2), "409 limit_reached"); r.OrderNo != order {
		t.Errorf("limit_reached names %s, want %s", r.OrderNo, order)
	}
	refused(t, "4 of 3", buy(item, tokens[1], "k1", 4), "409 limit_reached")
	if r := buy(item, tokens[0], "k3", 1); r.status != http.StatusAccepted {
		t.Error(r)
	}
	refused(t, "3 of 3, then 1", buy(item, tokens[0], "k4", 1), "409 limit_reached")

	// 3 units are left: all or nothing, then sold out.
	if r := buy(item, tokens[1], "k1", 2); r.status != http.StatusAccepted {
		t.Error(r) // the key of an attempt that was refused is unused
	}
	refused(t, "2 of 1 left", buy(item, tokens[2], "", 2), "409 sold_out")
	state(item, "open")
	if r := buy(item, tokens[2], "", 1); r.status != http.StatusAccepted {
		t.Error(r)
	}
	refused(t, "none left", buy(item, tokens[1], "", 1), "409 sold_out")
	state(item, "sold_out")

	// A replay names the first order again, in its present status, although the item is sold out
	// and, later, paused.
	replay := func(status string) {
		t.Helper()
		again := buy(item, tokens[0], "k1", 2)
		want := fmt.Sprintf(`{"order_no":%q,"status":%q}`, order, status)
		if again.status != won.status || again.body != want || again.header.Get("Location") != won.header.Get("Location") ||
			again.header.Get("Content-Type") != won.header.Get("Content-Type") || again.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("replay: %+v, want %s", again, want)
		}
	}
	waitStatus(t, p, tokens[0], order, "unpaid")
	replay("unpaid")

	// Pause and resume reach the ledger, then the script.
	admin := func(path string) {
		t.Helper()
		a := ask{method: "POST", url: p.ops + path, token: adminToken}
		if r := a.send(t); r.status != http.StatusOK {
			t.Fatalf("%s: %d %s", a, r.status, r.body)
		}
	}
	other := i.sell(5, "").String()
	admin("/v1/admin/items/" + other + "/pause")
	state(other, "paused")
	tells := func(item, token, want string) {
		t.Helper()
		stacktest.Eventually(t, patience, func() error {
			r := buy(item, token, "", 1)
			var p problemBody
			if err := json.Unmarshal([]byte(r.body), &p); err != nil || p.Code != want {
				return fmt.Errorf("told %d %s, want %s", r.status, r.body, want)
			}
			return nil
		})
	}
	stacktest.Eventually(t, patience, func() error {
		account := decode[accountBody](t, ask{method: "GET", url: p.ops + "/v1/admin/items/" + other, token: adminToken}.send(t))
		if account.Redis.State != "paused" {
			return fmt.Errorf("redis is %s", account.Redis.State)
		}
		return nil
	})
	refused(t, "paused", buy(other, tokens[0], "", 1), "409 paused")
	admin("/v1/admin/items/" + other + "/resume")
	state(other, "open")
	stacktest.Eventually(t, patience, func() error {
		if r := buy(other, tokens[0], "p", 1); r.status != http.StatusAccepted {
			return fmt.Errorf("resumed, but told %d %s", r.status, r.body)
		}
		return nil
	})
	tells(other, tokens[0], "duplicate_order")
	admin("/v1/admin/items/" + item + "/pause")
	tells(item, tokens[0], "duplicate_order") // a holder learns what he holds, whatever the window says
	replay("unpaid")

	// Before and after the window, loaded into Redis or not.
	for _, flags := range [][]string{{"--preheat"}, {}} {
		create := func(more ...string) string {
			t.Helper()
			args := []string{"sale", "create", "--name", "window", "--item", "product=w,price_fen=1,stock=5"}
			i.command(exitOK, slices.Concat(args, flags, more)...)
			r := i.rooms()
			defer r.close()
			sales, err := r.ledger.Sales(t.Context(), flashsale.SalesQuery{Limit: 1, Items: 1})
			if err != nil {
				t.Fatal(err)
			}
			return sales[0].Items[0].ID.String()
		}
		future, past := create("--opens-at", "1h"), create("--duration", "1s")
		stacktest.Eventually(t, patience, func() error { // until the one is over
			if r := (ask{method: "GET", url: p.base + "/v1/items/" + past}).send(t); !strings.Contains(r.body, `"ended"`) {
				return fmt.Errorf("item %s: %s", past, r.body)
			}
			return nil
		})
		state(future, "upcoming")
		state(past, "ended")
		opens := decode[itemBody](t, ask{method: "GET", url: p.base + "/v1/items/" + future}.send(t)).OpensAtMS
		for range 2 { // the second answer comes from the node's memory
			if r := refused(t, "before the window", buy(future, tokens[0], "", 1), "409 not_started"); r.OpensAtMS != opens {
				t.Errorf("opens at %d, want %d", r.OpensAtMS, opens)
			}
			refused(t, "after the window", buy(past, tokens[0], "", 1), "409 ended")
		}
	}
	i.auditClean()
	if !strings.Contains(i.command(exitOK, "audit"), "ok      every unit") {
		t.Error("the audit does not say that every unit is accounted for")
	}
	var id flashsale.ItemID
	if err := id.UnmarshalText([]byte(item)); err != nil {
		t.Fatal(err)
	}
	persisted(t, i, id, 6)
}
