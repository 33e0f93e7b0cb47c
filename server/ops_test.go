package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"flashsale"
	"flashsale/engine"
)

// fakePreheater knows the sale 1.
type fakePreheater struct{ err error }

func (f fakePreheater) PreheatSale(_ context.Context, id flashsale.SaleID) error {
	if id != 1 {
		return fmt.Errorf("sale %d: %w", id, flashsale.ErrNotFound)
	}
	return f.err
}

// Protects the admin calls: no token, a wrong one, a shopper's, and no token configured.
func TestRequireAdmin(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	disabled := setup(t, func(c *Config) { c.AdminToken = "" })
	for _, route := range []string{
		"POST /v1/admin/sales", "POST /v1/admin/sales/1/preheat", "GET /v1/admin/items/7", "POST /v1/admin/items/7/pause",
		"POST /v1/admin/items/7/resume", "POST /v1/admin/items/7/stock", "GET /v1/admin/audit",
		"POST /v1/admin/points", "GET /v1/admin/orders/1/payments",
	} {
		method, path, _ := strings.Cut(route, " ")
		for want, headers := range map[string][]string{
			"401 missing_token": nil,
			"401 invalid_token": {"Authorization", "Bearer " + adminSecret[1:]},
		} {
			if got := code(b.callOps(method, path, "{}", headers...)); got != want {
				t.Errorf("%s: got %s, want %s", route, got, want)
			}
		}
		if got := code(b.callOps(method, path, "{}", as("ann")...)); got != "401 invalid_token" {
			t.Errorf("%s as a shopper: %s", route, got)
		}
		if got := code(disabled.callOps(method, path, "{}", bearer...)); got != "403 admin_disabled" {
			t.Errorf("%s disabled: %s", route, got)
		}
	}
}

// Protects the creation of sales: defaults, ids as strings, and each refusal with its field.
func TestCreateSale(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	response := b.callOps("POST", "/v1/admin/sales",
		`{"name":"Night","opens_at_ms":1800000000000,"closes_at_ms":1800003600000,"items":[{"product":"Kettle","price_fen":100,"stock":5},
		 {"product":"Lamp","price_fen":200,"points_price":3,"stock":6,"limit":2,"pay_timeout_s":60}]}`, bearer...)
	want := `{"id":"2","name":"Night","opens_at_ms":1800000000000,"closes_at_ms":1800003600000,"items":[` +
		`{"id":"200","product":"Kettle","price_fen":100,"points_price":0,"stock":5,"limit":1,"pay_timeout_s":900},` +
		`{"id":"201","product":"Lamp","price_fen":200,"points_price":3,"stock":6,"limit":2,"pay_timeout_s":60}]}`
	if got := string(response.Body()); response.StatusCode() != 201 || got != want {
		t.Errorf("got %d\n%s\nwant\n%s", response.StatusCode(), got, want)
	}
	if got := code(b.call("GET", "/v1/items/201", "")); got != "200" {
		t.Errorf("new item is not shown at once: %s", got)
	}
	sale := func(item string) string {
		return `{"name":"N","opens_at_ms":1800000000000,"closes_at_ms":1800003600000,"items":[` + item + `]}`
	}
	for body, want := range map[string]string{
		``:           `"code":"malformed_json"`,
		`{"name":1}`: `"field":"name"`,
		`{}`:         `"field":"name"`,
		`{"id":"9","name":"N","opens_at_ms":1800000000000,"closes_at_ms":1800003600000}`:                                          `"field":"id"`,
		`{"name":"N","opens_at_ms":1800003600000,"closes_at_ms":1800003600000}`:                                                   `"field":"closes_at_ms"`,
		`{"name":"N","opens_at_ms":1800000000000,"closes_at_ms":1800003600000}`:                                                   `"field":"items"`,
		`{"name":"N","opens_at_ms":1800000000,"closes_at_ms":1800003600,"items":[{"product":"K","price_fen":1,"stock":1}]}`:       `1800000000 would be 1970-01-21T20:00:00Z`,
		`{"name":"N","opens_at_ms":1700000000000,"closes_at_ms":1700000060000,"items":[{"product":"K","price_fen":1,"stock":1}]}`: `closes_at_ms 1700000060000 is 2023-11-14T22:14:20Z, which is over`,
		`{"name":"N","speed":9}`:                                                            `"field":"speed"`,
		sale(`{"product":"K","price_fen":0,"stock":1}`):                                     `"field":"items[0].price_fen"`,
		sale(`{"product":"K\u0000","price_fen":1,"stock":1}`):                               `"field":"items[0].product"`,
		sale(`{"product":"K","price_fen":1,"stock":0}`):                                     `"field":"items[0].stock"`,
		sale(`{"product":"K","price_fen":1,"stock":1,"limit":0}`):                           `"field":"items[0].limit"`,
		sale(`{"product":"K","price_fen":1,"stock":1,"pay_timeout_s":0}`):                   `"field":"items[0].pay_timeout_s"`,
		sale(`{"product":"K","price_fen":1,"stock":1,"pay_timeout_s":9223372036854775807}`): `"field":"items[0].pay_timeout_s"`,
		sale(`{"product":"K","price_fen":1e99,"stock":1}`):                                  `"field":"items.price_fen"`,
	} {
		response := b.callOps("POST", "/v1/admin/sales", body, bearer...)
		if got := string(response.Body()); !strings.Contains(got, want) || response.StatusCode()/100 != 4 {
			t.Errorf("%s: got %d %s, want %s", body, response.StatusCode(), got, want)
		}
	}
	b.ledger.err = io.ErrUnexpectedEOF
	if got := code(b.callOps("POST", "/v1/admin/sales", sale(`{"product":"K","price_fen":1,"stock":1}`), bearer...)); got != "503 outcome_unknown" {
		t.Errorf("ledger away: %s", got)
	}
}

// Protects an operator's way back from a mistake, and what has been bought from it: a sale goes
// while nobody has bought, at once for this node's shoppers, and stays once somebody has.
func TestDeleteSale(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for _, c := range []struct{ path, want string }{
		{"/v1/admin/sales/2", "404 sale_not_found"},
		{"/v1/admin/sales/x", "400 invalid_sale_id"},
		{"/v1/admin/sales/1", "409 sale_has_orders"},
	} {
		if got := code(b.callOps("DELETE", c.path, "", bearer...)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.path, got, c.want)
		}
	}
	if got := code(b.call("GET", "/v1/items/7", "")); got != "200" {
		t.Errorf("after a refusal: %s", got)
	}
	b.redis.accounts[7] = engine.Account{ID: 7}
	response := b.callOps("DELETE", "/v1/admin/sales/1", "", bearer...)
	if got := string(response.Body()); response.StatusCode() != 200 || !strings.HasPrefix(got, `{"id":"1","name":"Spring \"sale\""`) {
		t.Errorf("got %d %s", response.StatusCode(), got)
	}
	if got := code(b.call("GET", "/v1/items/7", "")); got != "404 item_not_found" {
		t.Errorf("still shown: %s", got)
	}
	b.ledger.err = io.ErrUnexpectedEOF
	if got := code(b.callOps("DELETE", "/v1/admin/sales/1", "", bearer...)); got != "503 outcome_unknown" {
		t.Errorf("ledger away: %s", got)
	}
}

// Protects what a shop shows: it is taken, read back, and reaches shoppers; the percentage does
// not where the sale hides it; and what is not acceptable is named.
func TestCreateSale_Details(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	const details = `"list_price_fen":200,"image_url":"/a/0/kettle.svg","description":"Boils.","names":{"zh":"水壶"},"descriptions":{"zh":"会烧水"}`
	const window = `"opens_at_ms":1800000000000,"closes_at_ms":1800003600000,`
	response := b.callOps("POST", "/v1/admin/sales", `{"name":"Night","names":{"zh":"夜"},`+window+`"hide_left":true,`+
		`"items":[{"product":"Kettle","price_fen":100,"stock":5,`+details+`}]}`, bearer...)
	want := `{"id":"2","name":"Night","names":{"zh":"夜"},` + window + `"hide_left":true,"items":[{"id":"200","product":"Kettle",` +
		`"price_fen":100,"points_price":0,"stock":5,"limit":1,"pay_timeout_s":900,` + details + `}]}`
	if got := string(response.Body()); response.StatusCode() != 201 || got != want {
		t.Errorf("got %d\n%s\nwant\n%s", response.StatusCode(), got, want)
	}
	for path, told := range map[string]bool{"/v1/sales": false, "/v1/sales/2": true, "/v1/items/200": true} {
		body := string(b.call("GET", path, "").Body())
		if !strings.Contains(body, `"list_price_fen":200,"image_url":"/a/0/kettle.svg","names":{"zh":"水壶"}`) ||
			strings.Contains(body, `"descriptions":{"zh":"会烧水"}`) != told {
			t.Errorf("%s: %s", path, body)
		}
	}
	for body, want := range map[string]string{
		`{"name":"N","names":{"zh":7},` + window + `"items":[]}`:                                                  `"field":"names`,
		`{"name":"N","names":{"Klingon":"x"},` + window + `"items":[]}`:                                           `"field":"names"`,
		`{"name":"N",` + window + `"items":[{"product":"K","price_fen":1,"stock":1,"image_url":"http://x/"}]}`:    `"field":"items[0].image_url"`,
		`{"name":"N",` + window + `"items":[{"product":"K","price_fen":2,"stock":1,"list_price_fen":1}]}`:         `"field":"items[0].list_price_fen"`,
		`{"name":"N",` + window + `"items":[{"product":"K","price_fen":2,"stock":1,"description":"\u0000"}]}`:     `"field":"items[0].description"`,
		`{"name":"N",` + window + `"items":[{"product":"K","price_fen":2,"stock":1,"pictures":["/a"]}]}`:          `"field":"pictures"`,
		`{"name":"N",` + window + `"hide_left":1,"items":[{"product":"K","price_fen":2,"stock":1}]}`:              `"field":"hide_left"`,
		`{"name":"N",` + window + `"items":[{"product":"K","price_fen":2,"stock":1,"descriptions":{"zh":""}}]}`:   `"field":"items[0].descriptions"`,
		`{"name":"N",` + window + `"items":[{"product":"K","price_fen":2,"stock":1,"names":{"zh":"a\tb"}}]}`:      `"field":"items[0].names"`,
		`{"name":"N",` + window + `"items":[{"product":"K","price_fen":2,"stock":1,"image_url":"//x.example/"}]}`: `"field":"items[0].image_url"`,
	} {
		response := b.callOps("POST", "/v1/admin/sales", body, bearer...)
		if got := string(response.Body()); !strings.Contains(got, want) || response.StatusCode()/100 != 4 {
			t.Errorf("%s: got %d %s, want %s", body, response.StatusCode(), got, want)
		}
	}
}

// Protects what an operator sees of an item, and what the changes answer.
func TestAdminItems(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	const item = `{"id":"7","sale_id":"1","product":"Kettle","price_fen":9900,"points_price":10,"total":%d,"stock":%d,"limit":1,` +
		`"pay_timeout_s":900,"opens_at_ms":1800000000000,"closes_at_ms":1800003600000,"paused":%t,"generation":1,` +
		`"redis":{"stock":40,"limit":1,"opens_at_ms":1800000000000,"closes_at_ms":1800003600000,"state":"open","epoch":1,"generation":1,"sequence":60,"restock":0}}`
	for _, c := range []struct{ method, path, body, want string }{
		{"GET", "/v1/admin/items/7", "", fmt.Sprintf(item, 100, 100, false)},
		{"POST", "/v1/admin/items/7/pause", "", fmt.Sprintf(item, 100, 100, true)},
		{"POST", "/v1/admin/items/7/resume", "", fmt.Sprintf(item, 100, 100, false)},
		{"POST", "/v1/admin/items/7/stock", `{"add":5}`, fmt.Sprintf(item, 105, 105, false)},
	} {
		response := b.callOps(c.method, c.path, c.body, bearer...)
		if got := string(response.Body()); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.path, got, c.want)
		}
	}
	if got := string(b.callOps("GET", "/v1/admin/items/9", "", bearer...).Body()); !strings.HasSuffix(got, `"redis":null}`) {
		t.Errorf("not loaded: %s", got)
	}
	for route, want := range map[string]string{
		"GET /v1/admin/items/11": "404 item_not_found", "GET /v1/admin/items/x": "400 invalid_item_id",
		"POST /v1/admin/items/11/pause": "404 item_not_found", "POST /v1/admin/items/11/stock": "404 item_not_found",
		"DELETE /v1/admin/items/7": "405 method_not_allowed",
	} {
		method, path, _ := strings.Cut(route, " ")
		if got := code(b.callOps(method, path, `{"add":1}`, bearer...)); got != want {
			t.Errorf("%s: got %s, want %s", route, got, want)
		}
	}
	for _, body := range []string{`{"add":0}`, `{"add":-1}`, `{"add":100000000}`, `{"add":9223372036854775807}`, `{"add":"1"}`, `{}`} {
		if got := code(b.callOps("POST", "/v1/admin/items/7/stock", body, bearer...)); got != "422 invalid_field" {
			t.Errorf("%s: %s", body, got)
		}
	}
	b.ledger.err = io.ErrUnexpectedEOF
	if got := code(b.callOps("POST", "/v1/admin/items/7/pause", "", bearer...)); got != "503 outcome_unknown" {
		t.Errorf("ledger away: %s", got)
	}
}

// Protects the remaining admin calls, with and without what they need.
func TestAdminPreheatAndAudit(t *testing.T) {
	t.Parallel()
	without := setup(t, nil)
	b := setup(t, func(c *Config) {
		c.Preheater = fakePreheater{}
		c.Audit = func(context.Context, bool, func(any)) (any, error) { return map[string]bool{"clean": true}, nil }
	})
	broken := setup(t, func(c *Config) {
		c.Preheater = fakePreheater{errors.New("item 7 must be rebuilt")}
		c.Audit = func(context.Context, bool, func(any)) (any, error) { return nil, io.ErrUnexpectedEOF }
	})
	for _, c := range []struct {
		b                  *bundle
		method, path, want string
	}{
		{without, "POST", "/v1/admin/sales/1/preheat", "404 not_found"},
		{without, "GET", "/v1/admin/audit", "404 not_found"},
		{b, "POST", "/v1/admin/sales/1/preheat", "200"},
		{b, "POST", "/v1/admin/sales/2/preheat", "404 sale_not_found"},
		{b, "POST", "/v1/admin/sales/x/preheat", "400 invalid_sale_id"},
		{broken, "POST", "/v1/admin/sales/1/preheat", "503 unavailable"},
		{broken, "GET", "/v1/admin/audit", "503 unavailable"},
	} {
		if got := code(c.b.callOps(c.method, c.path, "", bearer...)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.path, got, c.want)
		}
	}
	if got := string(b.callOps("GET", "/v1/admin/audit", "", bearer...).Body()); got != `{"clean":true}` {
		t.Errorf("audit: %s", got)
	}
	if got := string(broken.callOps("POST", "/v1/admin/sales/1/preheat", "", bearer...).Body()); !strings.Contains(got, "must be rebuilt") {
		t.Errorf("an operator is not told why: %s", got)
	}
}

// Protects what a load balancer and an operator read.
func TestReady(t *testing.T) {
	t.Parallel()
	var redis, postgres error
	b := setup(t, func(c *Config) {
		c.Checks = []Check{
			{Name: "redis", Probe: func(context.Context) error { return redis }},
			{Name: "postgres", Probe: func(context.Context) error { return postgres }, Degrades: true},
			{Name: "streams", Probe: func(context.Context) error { return redis }, Explained: true},
		}
		c.Durability = func(context.Context) (string, error) { return "aof everysec", nil }
	})
	if got := string(b.callOps("GET", "/healthz", "").Body()); got != `{"status":"ok"}` {
		t.Errorf("healthz: %s", got)
	}
	away := errors.New("dial 10.0.0.7: secret")
	for _, c := range []struct {
		redis, postgres error
		status          int
		want            string
	}{
		{nil, nil, 200, `"postgres":"ok","redis":"ok","status":"ready","streams":"ok"}`},
		{nil, away, 200, `"postgres":"unreachable","redis":"ok","status":"degraded","streams":"ok"}`},
		{away, nil, 503, `"postgres":"ok","redis":"unreachable","status":"not_ready","streams":"dial 10.0.0.7: secret"}`},
		{away, away, 503, `"postgres":"unreachable","redis":"unreachable","status":"not_ready","streams":"dial 10.0.0.7: secret"}`},
	} {
		redis, postgres = c.redis, c.postgres
		response := b.callOps("GET", "/readyz", "")
		if got := string(response.Body()); response.StatusCode() != c.status || got != `{"durability":"aof everysec",`+c.want {
			t.Errorf("got %d %s, want %d %s", response.StatusCode(), got, c.status, c.want)
		}
	}
}

// Protects the names and the sums of the metrics.
func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := setup(t, func(c *Config) { c.Registerer, c.Gatherer = registry, registry })
	b.call("POST", "/v1/items/7/orders", "", as("ann")...)
	b.call("POST", "/v1/items/7/orders", "", as("ann")...)
	b.call("POST", "/v1/items/7/orders", "")
	b.call("GET", "/nowhere", "")
	body := string(b.callOps("GET", "/metrics", "").Body())
	for _, want := range []string{
		`flashsale_http_responses_total{route="POST /v1/items/{item}/orders",status="202"} 2`,
		`flashsale_http_responses_total{route="POST /v1/items/{item}/orders",status="401"} 1`,
		`flashsale_http_responses_total{route="other",status="404"} 1`,
		`flashsale_http_request_seconds_count{route="POST /v1/items/{item}/orders"} 3`,
		"flashsale_http_panics_total 0", "flashsale_sockets 0", "flashsale_waiters 0", "flashsale_result_channels 0",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("missing %s in\n%s", want, body)
		}
	}
	if got := code(b.callOps("GET", "/debug/pprof/cmdline", "", bearer...)); got != "200" {
		t.Errorf("pprof: %s", got)
	}
	b.metrics.unregister()
	if families, err := registry.Gather(); err != nil || len(families) > 0 {
		t.Errorf("left behind: %v %v", families, err)
	}
}

// Protects the log from a storm: one line a message, with the number left out later on; and
// from control bytes, which slog escapes.
func TestFaultLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := &faultLog{logger: slog.New(slog.NewJSONHandler(&out, nil))}
	for range 100 {
		f.log("read order", "error", errors.New("a\x1b[2J\nb"))
		f.log("create order", "error", io.EOF)
	}
	if got := strings.Count(out.String(), "\n"); got != 2 {
		t.Errorf("%d lines, want 2:\n%s", got, out.String())
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("raw control bytes")
	}
	line, _ := f.lines.Load("read order")
	line.(*faultLine).next.Store(0)
	f.log("read order")
	if !strings.Contains(out.String(), `"left_out":99`) {
		t.Errorf("the lines left out are not told:\n%s", out.String())
	}
}
