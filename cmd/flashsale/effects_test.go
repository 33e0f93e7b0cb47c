package main

import (
	"fmt"
	"net/http"
	"testing"
)

// Protects what shoppers and operators are told is done: without a worker, too, the units and the
// mark of a cancelled order are back, an item is paused, resumed or restocked, when the answer comes.
func TestEffects_StandWhenTold(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	w := i.work("w")
	p := i.serve()
	item := i.sell(2, "").String()
	tokens := i.tokens("shopper", 2)
	buy := func(token, want string) orderBody {
		t.Helper()
		r := (ask{method: "POST", url: p.base + "/v1/items/" + item + "/orders", token: token}).send(t)
		if want != "" {
			refused(t, "buy", r, want)
			return orderBody{}
		}
		if r.status != http.StatusAccepted {
			t.Fatalf("buy: %d %s", r.status, r.body)
		}
		return decode[orderBody](t, r)
	}
	order := buy(tokens[0], "")
	waitStatus(t, p, tokens[0], order.OrderNo, "unpaid")
	w.stop()

	account := func(method, path, body string) accountBody {
		t.Helper()
		r := (ask{method: method, url: p.ops + "/v1/admin/items/" + item + path, token: adminToken, header: asJSON, body: body}).send(t)
		if r.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, r.status, r.body)
		}
		return decode[accountBody](t, r)
	}
	r := (ask{method: "DELETE", url: p.base + "/v1/orders/" + order.OrderNo, token: tokens[0]}).send(t)
	if r.status != http.StatusOK {
		t.Fatalf("cancel: %d %s", r.status, r.body)
	}
	if got := account("GET", "", "").Redis.Stock; got != 2 {
		t.Errorf("stock in Redis %d right after the cancel, want the unit back", got)
	}
	if again := buy(tokens[0], ""); again.OrderNo == order.OrderNo {
		t.Error("told the cancelled order again")
	}
	if got := account("POST", "/pause", "").Redis.State; got != "paused" {
		t.Errorf("told paused, Redis is %s", got)
	}
	buy(tokens[1], "409 paused")
	if got := account("POST", "/stock", `{"add":3}`).Redis; got.Stock != 4 {
		t.Errorf("told restocked, Redis has %d", got.Stock)
	}
	if got := account("POST", "/resume", "").Redis.State; got != "open" {
		t.Errorf("told resumed, Redis is %s", got)
	}
	buy(tokens[1], "")
	var owed int
	if err := i.database().QueryRow(t.Context(), `SELECT count(*) FROM outbox`).Scan(&owed); err != nil || owed != 0 {
		t.Error(fmt.Errorf("%d effects are still owed: %w", owed, err))
	}
	i.work("w")
	i.auditClean()
}
