package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fasthttp/websocket"
)

// Protects the shoppers' side from bad input: whatever is sent gets its stable code, never a
// 5xx, and changes nothing in either store.
func TestAPI_BadInput(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	item := i.sell(5, "").String()
	p := i.serve()
	i.work("w")
	tokens := i.tokens("shopper", 2)
	ann, bob := tokens[0], tokens[1]
	users := []string{shopper("shopper", 0), shopper("shopper", 1)}

	bought := ask{method: "POST", url: p.base + "/v1/items/" + item + "/orders", token: ann}.send(t)
	if bought.status != http.StatusAccepted {
		t.Fatal(bought)
	}
	order := decode[response](t, bought).OrderNo
	waitStatus(t, p, ann, order, "unpaid")
	i.auditClean()

	i.unmoved(p, users, func() {
		get := func(path, token, want string) {
			t.Helper()
			a := ask{method: "GET", url: p.base + path, token: token}
			refused(t, a.String(), a.send(t), want)
		}
		send := func(a ask, want string) {
			t.Helper()
			a.url = p.base + a.url
			refused(t, a.String(), a.send(t), want)
		}

		// Who asks.
		for _, call := range []string{
			"GET /v1/me", "GET /v1/orders", "POST /v1/items/" + item + "/orders",
			"GET /v1/orders/" + order, "DELETE /v1/orders/" + order, "GET /v1/orders/" + order + "/events",
		} {
			method, path, _ := strings.Cut(call, " ")
			send(ask{method: method, url: path}, "401 missing_token")
			send(ask{method: method, url: path, header: map[string]string{"Authorization": "Basic " + ann}}, "401 missing_token")
			for _, bad := range []string{"nonsense", ann + "x", ann[1:], strings.Repeat("x", 300), "é", "*"} {
				send(ask{method: method, url: path, token: bad}, "401 invalid_token")
				send(ask{method: method, url: path, header: map[string]string{"Token": bad}}, "401 invalid_token")
			}
		}

		// An order of somebody else does not exist.
		for _, call := range []string{"GET /v1/orders/%s", "GET /v1/orders/%s?wait=5s", "DELETE /v1/orders/%s", "GET /v1/orders/%s/events"} {
			method, path, _ := strings.Cut(call, " ")
			send(ask{method: method, url: fmt.Sprintf(path, order), token: bob}, "404 order_not_found")
			for _, unknown := range []string{"1", "0", "00", "9223372036854775807", "9223372036854775808", "9999999999999999999"} {
				send(ask{method: method, url: fmt.Sprintf(path, unknown), token: ann}, "404 order_not_found")
			}
			for _, malformed := range malformedIDs {
				send(ask{method: method, url: fmt.Sprintf(path, malformed), token: ann}, "400 invalid_order_no")
			}
		}
		for _, unknown := range []string{"999999", "0", "9223372036854775807", "9999999999999999999"} {
			get("/v1/items/"+unknown, "", "404 item_not_found")
			send(ask{method: "POST", url: "/v1/items/" + unknown + "/orders", token: bob}, "404 item_not_found")
		}
		for _, malformed := range malformedIDs {
			get("/v1/items/"+malformed, "", "400 invalid_item_id")
			send(ask{method: "POST", url: "/v1/items/" + malformed + "/orders", token: bob}, "400 invalid_item_id")
		}

		// Bodies.
		orders := "/v1/items/" + item + "/orders"
		for want, bodies := range map[string][]string{
			"400 malformed_json": {
				"{", `{"quantity":1`, `{"quantity":1}{}`, `{"quantity":1} x`, "{\"quantity\":1}\x00", "\x00", "\xff",
				"{\"quantity\":\"\x00\"}", `{"quantity":01}`, `{"quantity":+1}`, `{'quantity':1}`, " ", strings.Repeat("[", 8000),
			},
			"422 invalid_body": {"[1]", "1", `"x"`, "null", "true", deep},
			"422 invalid_quantity": {
				`{"quantity":0}`, `{"quantity":-1}`, `{"quantity":1.5}`, `{"quantity":1e3}`, `{"quantity":"1"}`,
				`{"quantity":null}`, `{"quantity":true}`, `{"quantity":[]}`, `{"quantity":{}}`, `{"quantity":10001}`,
				`{"quantity":99999999999999999999}`, `{"quantity":` + deep + `}`,
			},
			"400 repeated_field": {`{"quantity":1,"quantity":2}`, `{"quantity":1,"quantity":1}`},
			"400 misspelt_field": {`{"Quantity":1}`, `{"quantity":1,"QUANTITY":1}`},
			"422 unknown_field": {
				`{"qty":1}`, `{"quantity":1,"user":"ann"}`, `{"quantity":1,"price_fen":1}`,
				`{"\u0000":1}`, `{"` + strings.Repeat("x", 1000) + `":1}`,
			},
		} {
			for _, body := range bodies {
				send(ask{method: "POST", url: orders, token: bob, header: asJSON, body: body}, want)
			}
		}
		for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/json+x", "\xff"} {
			send(ask{method: "POST", url: orders, token: bob, body: `{"quantity":1}`, header: map[string]string{"Content-Type": kind}},
				"415 unsupported_media_type")
		}
		for _, key := range []string{"a b", "a,b", strings.Repeat("k", 129), "é", `""`, `"`, "a\tb"} {
			send(ask{method: "POST", url: orders, token: bob, header: map[string]string{"Idempotency-Key": key}}, "400 invalid_idempotency_key")
		}
		for want, bodies := range map[string][]string{
			"400 malformed_json": {"", "{", `{"user":"a"} x`, `{"user":"a"}{"user":"b"}`, "{\"user\":\"\xff\"}"},
			"422 invalid_body":   {`["ann"]`, `"ann"`, "null", deep},
			"422 unknown_field":  {`{"user":"zoe","admin":true}`},
			"422 invalid_field": {
				`{}`, `{"user":7}`, `{"user":null}`, `{"user":""}`, `{"user":"a b"}`, `{"user":"a\u0000b"}`, `{"user":"é"}`,
				`{"user":"` + strings.Repeat("x", 65) + `"}`, `{"user":` + deep + `}`,
			},
		} {
			for _, body := range bodies {
				send(ask{method: "POST", url: "/v1/sessions", header: asJSON, body: body}, want)
			}
		}

		// Queries.
		for _, wait := range []string{"", "x", "5", "-1s", "31s", "1h", "%00", "9999999999999999999999s"} {
			get("/v1/orders/"+order+"?wait="+wait, ann, "400 invalid_wait")
		}
		for _, limit := range []string{"", "x", "0", "-1", "101", "1.5", "99999999999999999999", "%00"} {
			get("/v1/orders?limit="+limit, ann, "400 invalid_limit")
		}
		for _, before := range []string{"", "x", "-1", "0", "99999999999999999999", "%00"} {
			get("/v1/orders?before="+before, ann, "400 invalid_cursor")
		}
		get("/v1/orders/"+order+"/events", ann, "400 websocket_required")
		for origin, want := range map[string]string{"https://evil.example": "403 origin_not_allowed", "null": "403 origin_not_allowed"} {
			_, answer, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(p.base, "http")+"/v1/orders/"+order+"/events",
				http.Header{"Token": {ann}, "Origin": {origin}})
			if err == nil || answer == nil {
				t.Errorf("origin %s: %v", origin, err)
				continue
			}
			refused(t, "origin "+origin, readAnswer(t, answer), want)
		}

		// Addresses and methods.
		for call, want := range map[string]string{
			"GET /nowhere": "404 not_found", "GET /v1": "404 not_found", "GET /v1/sales/": "404 not_found", "GET /v2/sales": "404 not_found",
			"GET /metrics": "404 not_found", "GET /readyz": "404 not_found", "GET /debug/pprof/heap": "404 not_found",
			"POST /v1/admin/sales": "404 not_found", "GET /v1/admin/audit": "404 not_found", "GET /%00": "404 not_found",
			"POST /v1/items//orders": "400 invalid_item_id", "POST /v1/items/1/2/orders": "404 not_found",
			"PUT /v1/sales": "405 method_not_allowed", "POST /v1/me": "405 method_not_allowed", "GET /v1/sessions": "405 method_not_allowed",
			"GET /v1/items/1/orders": "405 method_not_allowed", "PATCH /v1/orders/1": "405 method_not_allowed",
			"FROB /v1/sales": "405 method_not_allowed", "DELETE /v1/items/1": "405 method_not_allowed",
		} {
			method, path, _ := strings.Cut(call, " ")
			send(ask{method: method, url: path, token: bob}, want)
		}

		// What no client sends.
		raw := func(text, want string) {
			t.Helper()
			refused(t, fmt.Sprintf("%.80q", text), sendRaw(t, p.base, text), want)
		}
		post := "POST " + orders + " HTTP/1.1\r\nHost: x\r\nToken: " + bob + "\r\n"
		raw("nonsense\r\n\r\n", "400 malformed_request")
		raw("\x16\x03\x01\x00\x05hello\r\n\r\n", "400 malformed_request")
		raw(post+"Content-Length: -1\r\n\r\n", "400 malformed_request")
		raw(post+"Content-Length: x\r\n\r\n", "400 malformed_request")
		raw(post+"X: "+strings.Repeat("x", 9<<10)+"\r\n\r\n", "431 headers_too_large")
		raw("GET /"+strings.Repeat("x", 9<<10)+" HTTP/1.1\r\nHost: x\r\n\r\n", "431 headers_too_large")
		large := `{"quantity":1,"x":"` + strings.Repeat("x", 100<<10) + `"}`
		raw(fmt.Sprintf("%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", post, jsonType, len(large), large), "413 body_too_large")
		raw(fmt.Sprintf("%sContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", post, jsonType, len(large), large), "413 body_too_large")
		raw(fmt.Sprintf("POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", jsonType, len(large), large), "413 body_too_large")
	})
}

// malformedIDs are no ids at all: not 1 to 19 digits.
var malformedIDs = []string{
	"x", "-1", "+1", "1.5", "0x1", "1e3", "%EF%BC%91", "1%00", "%00", "%FF", "1%20", "%201", "1'--", "..%2f1", "1,2",
	"99999999999999999999", "00000000000000000001", strings.Repeat("9", 1000),
}

// Protects the operators' side from bad input and from those who are not operators.
func TestAPI_BadAdminInput(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	item := i.sell(5, "").String()
	p := i.serve()
	shopperToken := i.tokens("shopper", 1)[0]
	locked := (&installation{t: t, env: append(slices.Clone(i.env), "ADMIN_TOKEN=", "DEV_LOGIN=false")}).serve()

	i.unmoved(p, nil, func() {
		send := func(a ask, want string) problemBody {
			t.Helper()
			a.url = p.ops + a.url
			return refused(t, a.String(), a.send(t), want)
		}
		const sale = `{"name":"n","opens_at_ms":1,"closes_at_ms":2,"items":[{"product":"p","price_fen":1,"stock":1}]}`
		for call, body := range map[string]string{
			"POST /v1/admin/sales": sale, "POST /v1/admin/sales/1/preheat": "", "GET /v1/admin/items/" + item: "",
			"POST /v1/admin/items/" + item + "/pause": "", "POST /v1/admin/items/" + item + "/resume": "",
			"POST /v1/admin/items/" + item + "/stock": `{"add":1}`, "GET /v1/admin/audit": "",
		} {
			method, path, _ := strings.Cut(call, " ")
			a := ask{method: method, url: path, header: asJSON, body: body}
			send(a, "401 missing_token")
			for _, bad := range []string{"nonsense", adminToken + "x", adminToken[1:], strings.ToUpper(adminToken), shopperToken, strings.Repeat("x", 300)} {
				a.token = bad
				send(a, "401 invalid_token")
			}
			a.url, a.token = locked.ops+path, adminToken
			refused(t, "without an admin token, "+a.String(), a.send(t), "403 admin_disabled")
		}
		login := ask{method: "POST", url: locked.base + "/v1/sessions", header: asJSON, body: `{"user":"zoe"}`}
		refused(t, login.String(), login.send(t), "404 not_found")

		admin := func(method, path, body, want string) problemBody {
			t.Helper()
			return send(ask{method: method, url: path, token: adminToken, header: asJSON, body: body}, want)
		}
		for _, id := range malformedIDs {
			admin("POST", "/v1/admin/sales/"+id+"/preheat", "", "400 invalid_sale_id")
			admin("GET", "/v1/admin/items/"+id, "", "400 invalid_item_id")
			admin("POST", "/v1/admin/items/"+id+"/pause", "", "400 invalid_item_id")
			admin("POST", "/v1/admin/items/"+id+"/stock", `{"add":1}`, "400 invalid_item_id")
		}
		for _, id := range []string{"999999", "0", "9223372036854775807", "9999999999999999999"} {
			admin("POST", "/v1/admin/sales/"+id+"/preheat", "", "404 sale_not_found")
			for _, call := range []string{"GET ", "POST /pause", "POST /resume", "POST /stock"} {
				method, path, _ := strings.Cut(call, " ")
				body := ""
				if path == "/stock" {
					body = `{"add":1}`
				}
				admin(method, "/v1/admin/items/"+id+path, body, "404 item_not_found")
			}
		}
		for _, body := range []string{
			`{}`, `{"add":0}`, `{"add":-1}`, `{"add":1.5}`, `{"add":"1"}`, `{"add":null}`, `{"add":[1]}`, `{"add":100000001}`,
			`{"add":99999999999999999999}`, `{"add":100000000}`, // the last would pass what an item may hold
		} {
			if p := admin("POST", "/v1/admin/items/"+item+"/stock", body, "422 invalid_field"); p.Field != "add" {
				t.Errorf("%s: field %q", body, p.Field)
			}
		}
		admin("POST", "/v1/admin/items/"+item+"/stock", "", "400 malformed_json")
		admin("POST", "/v1/admin/items/"+item+"/stock", `{"add":1,"total":9}`, "422 unknown_field")
		admin("GET", "/v1/admin/sales", "", "405 method_not_allowed")
		admin("POST", "/v1/admin/audit", "", "405 method_not_allowed")
		admin("GET", "/v1/admin/nothing", "", "404 not_found")
		admin("GET", "/v1/me", "", "404 not_found")

		// A sale with each of its members wrong.
		for _, c := range badSales {
			if p := admin("POST", "/v1/admin/sales", c.body(), "422 invalid_field"); c.field != p.Field {
				t.Errorf("%s: field %q, want %q", c.body(), p.Field, c.field)
			}
		}
		many := strings.Repeat(`{"product":"p","price_fen":1,"stock":1},`, 1001)
		admin("POST", "/v1/admin/sales", fmt.Sprintf(`{"name":"n","opens_at_ms":1,"closes_at_ms":2,"items":[%s]}`, strings.TrimSuffix(many, ",")), "422 invalid_field")
		for want, bodies := range map[string][]string{
			"400 malformed_json": {
				"", "{", sale + "x", sale + sale, strings.Replace(sale, `"n"`, "\"\xff\"", 1), strings.Replace(sale, `"n"`, "\"\x00\"", 1),
				strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), // deeper than encoding/json goes
			},
			"422 invalid_body":  {"[" + sale + "]", "null", "7", deep},
			"422 unknown_field": {strings.Replace(sale, `"name"`, `"x":1,"name"`, 1), strings.Replace(sale, `"product"`, `"user":"ann","product"`, 1)},
		} {
			for _, body := range bodies {
				admin("POST", "/v1/admin/sales", body, want)
			}
		}
		send(ask{method: "POST", url: "/v1/admin/sales", token: adminToken, body: sale}, "415 unsupported_media_type")
		huge := strings.Repeat(" ", 2<<20)
		refused(t, "2 MiB", sendRaw(t, p.ops, fmt.Sprintf("POST /v1/admin/sales HTTP/1.1\r\nHost: x\r\nToken: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			adminToken, jsonType, len(huge), huge)), "413 body_too_large")
	})
}

// badSale is a sale with one member that is not acceptable.
type badSale struct {
	field string // as the answer names it
	item  bool   // the member is one of the item
	name  string
	value string // JSON; "": left out
}

var badSales = []badSale{
	{"id", false, "id", `"7"`},
	{"id", true, "id", `"7"`},
	{"name", false, "name", ""},
	{"name", false, "name", `""`},
	{"name", false, "name", `7`},
	{"name", false, "name", `"a\u0000b"`},
	{"name", false, "name", `"a\ud800"`},
	{"name", false, "name", `"` + strings.Repeat("x", 201) + `"`},
	{"opens_at_ms", false, "opens_at_ms", ""},
	{"opens_at_ms", false, "opens_at_ms", "-1"},
	{"opens_at_ms", false, "opens_at_ms", `"1"`},
	{"opens_at_ms", false, "opens_at_ms", "1.5"},
	{"closes_at_ms", false, "closes_at_ms", ""},
	{"closes_at_ms", false, "closes_at_ms", "1"},
	{"closes_at_ms", false, "closes_at_ms", "9223372036854775807"},
	{"closes_at_ms", false, "closes_at_ms", "9223372036854775808"},
	{"items", false, "items", ""},
	{"items", false, "items", "[]"},
	{"items", false, "items", "null"},
	{"items", false, "items", "{}"},
	{"items[0].product", true, "product", ""},
	{"items[0].product", true, "product", `""`},
	{"items.product", true, "product", "7"},
	{"items[0].price_fen", true, "price_fen", ""},
	{"items[0].price_fen", true, "price_fen", "0"},
	{"items[0].price_fen", true, "price_fen", "-1"},
	{"items[0].price_fen", true, "price_fen", "10000000001"},
	{"items.price_fen", true, "price_fen", `"1"`},
	{"items.price_fen", true, "price_fen", "0.5"},
	{"items[0].points_price", true, "points_price", "-1"},
	{"items[0].points_price", true, "points_price", "10000000001"},
	{"items[0].stock", true, "stock", ""},
	{"items[0].stock", true, "stock", "0"},
	{"items[0].stock", true, "stock", "-1"},
	{"items[0].stock", true, "stock", "100000001"},
	{"items.stock", true, "stock", "1e30"},
	{"items[0].limit", true, "limit", "0"},
	{"items[0].limit", true, "limit", "-1"},
	{"items[0].limit", true, "limit", "10001"},
	{"items.limit", true, "limit", "4294967296.5"},
	{"items[0].pay_timeout_s", true, "pay_timeout_s", "0"},
	{"items[0].pay_timeout_s", true, "pay_timeout_s", "-1"},
	{"items[0].pay_timeout_s", true, "pay_timeout_s", "2592001"},
	{"items[0].pay_timeout_s", true, "pay_timeout_s", "18446744075"}, // nanoseconds would overflow to 1.3 s
}

func (b badSale) body() string {
	object := func(members map[string]string) string {
		var text []string
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if members[name] != "" {
				text = append(text, strconv.Quote(name)+":"+members[name])
			}
		}
		return "{" + strings.Join(text, ",") + "}"
	}
	item := map[string]string{"product": `"p"`, "price_fen": "1", "stock": "1"}
	if b.item {
		item[b.name] = b.value
	}
	sale := map[string]string{"name": `"n"`, "opens_at_ms": "1", "closes_at_ms": "2", "items": "[" + object(item) + "]"}
	if !b.item {
		sale[b.name] = b.value
	}
	return object(sale)
}
