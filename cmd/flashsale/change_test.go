package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"flashsale"
)

// Protects a sale that is changed while it sells: units added and taken away, down to what is held, and
// the limit up and down to what anybody holds stand in both stores when the answer comes, nobody's order
// is touched, and the audit is clean. What must not change any more is refused.
func TestChange_WhileItSells(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	i.work("w")
	p := i.serve()
	item := i.sell(10, "")
	tokens := i.tokens("shopper", 5)
	buy := func(token, want string) {
		t.Helper()
		r := (ask{method: "POST", url: p.base + "/v1/items/" + item.String() + "/orders", token: token}).send(t)
		if want != "" {
			refused(t, "buy", r, want)
			return
		}
		if r.status != http.StatusAccepted {
			t.Fatalf("buy: %d %s", r.status, r.body)
		}
		waitStatus(t, p, token, decode[orderBody](t, r).OrderNo, "unpaid")
	}
	change := func(body, want string) (got accountBody) {
		t.Helper()
		r := (ask{method: "PATCH", url: p.ops + "/v1/admin/items/" + item.String(), token: adminToken, header: asJSON, body: body}).send(t)
		if want != "" {
			refused(t, body, r, want)
			return got
		}
		if r.status != http.StatusOK {
			t.Fatalf("%s: %d %s", body, r.status, r.body)
		}
		return decode[accountBody](t, r)
	}
	for _, token := range tokens[:3] {
		buy(token, "")
	}
	if got := change(`{"stock":3}`, ""); got.Total != 3 || got.Stock != 0 || got.Redis.Stock != 0 {
		t.Errorf("down to what is held: %+v", got)
	}
	buy(tokens[3], "409 sold_out")
	change(`{"stock":2}`, "409 not_changeable")
	if got := change(`{"stock":6}`, ""); got.Total != 6 || got.Redis.Stock != 3 {
		t.Errorf("up again: %+v", got)
	}
	buy(tokens[0], "409 duplicate_order")
	if got := change(`{"limit":2}`, ""); got.Redis.Limit != 2 {
		t.Errorf("limit: %+v", got)
	}
	buy(tokens[0], "")
	change(`{"limit":1}`, "409 not_changeable")
	closes := time.Now().Add(2 * time.Hour).UnixMilli()
	if got := change(fmt.Sprintf(`{"closes_at_ms":%d}`, closes), ""); got.Redis.ClosesAtMS != closes {
		t.Errorf("closes at %d in Redis, want %d", got.Redis.ClosesAtMS, closes)
	}
	for body, want := range map[string]string{
		`{"price_fen":5}`: "409 not_changeable", `{"opens_at_ms":1}`: "409 not_changeable", `{"points_price":5}`: "409 not_changeable",
		`{}`: "422 invalid_field", `{"limit":0}`: "422 invalid_field", `{"stock":1000000000}`: "422 invalid_field",
		`{"closes_at_ms":1000000000000}`: "422 invalid_field", `{"colour":1}`: "422 unknown_field",
	} {
		change(body, want)
	}
	sale := saleOf(t, i, item)
	i.expect(nil, exitOK, "REDIS_STOCK", "sale", "change", sale.String(), "--item="+item.String(), "--stock=5")
	i.expect(nil, exitFailed, "units are held", "sale", "change", sale.String(), "--item="+item.String(), "--stock=1")
	buy(tokens[3], "")
	buy(tokens[4], "409 sold_out")
	rebuild := ask{method: "POST", url: p.ops + "/v1/admin/items/" + item.String() + "/rebuild", token: adminToken, header: asJSON, body: `{"dry_run":true}`}
	if r := rebuild.send(t); r.status != http.StatusOK || !strings.Contains(r.body, `"redis_stock":0`) {
		t.Errorf("dry run: %d %s", r.status, r.body)
	}
	i.auditClean()
}

// Protects what is changed before the opening, loaded and not, and the whole window of a sale.
func TestChange_BeforeItOpens(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	p := i.serve()
	i.command(exitOK, "sale", "create", "--name=later", "--opens-at=1h", "--item=product=a,price_fen=100,stock=5", "--item=product=b,price_fen=100,stock=5")
	opens := time.Now().Add(30 * time.Minute).UnixMilli()
	for _, preheated := range []bool{false, true} {
		if preheated {
			i.command(exitOK, "sale", "preheat", "1")
			opens += 1000
		}
		r := (ask{method: "PATCH", url: p.ops + "/v1/admin/sales/1", token: adminToken, header: asJSON, body: fmt.Sprintf(`{"opens_at_ms":%d}`, opens)}).send(t)
		if r.status != http.StatusOK || !strings.Contains(r.body, fmt.Sprintf(`"opens_at_ms":%d`, opens)) {
			t.Fatalf("window: %d %s", r.status, r.body)
		}
		r = (ask{method: "PATCH", url: p.ops + "/v1/admin/items/2", token: adminToken, header: asJSON, body: `{"price_fen":250,"points_price":3,"limit":4,"stock":9}`}).send(t)
		got := decode[accountBody](t, r)
		if r.status != http.StatusOK || got.PriceFen != 250 || got.Limit != 4 || got.Total != 9 || got.OpensAtMS != opens {
			t.Errorf("item: %d %s", r.status, r.body)
		}
		if preheated && (got.Redis == nil || got.Redis.Limit != 4 || got.Redis.Stock != 9 || got.Redis.OpensAtMS != opens) {
			t.Errorf("in Redis: %s", r.body)
		}
	}
	i.auditClean()
}

func saleOf(t *testing.T, i *installation, item flashsale.ItemID) flashsale.SaleID {
	t.Helper()
	r := i.rooms()
	defer r.close()
	found, err := r.ledger.Item(t.Context(), item)
	if err != nil {
		t.Fatal(err)
	}
	return found.SaleID
}
