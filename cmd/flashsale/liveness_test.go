package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// Protects the shop from waiting for its worst item. Redis restarts under 1,000 items, 20 of them
// open, with one of each fault: an account and a buyers hash of a wrong type, an entry in the hands
// of a worker that died, an entry in nobody's hands. The open items sell again at once, the others
// follow, and every order that was accepted is confirmed.
func TestLiveness_RestartOfRedis(t *testing.T) {
	t.Parallel()
	const items, open = 1000, 20
	redis := stacktest.NewRedis(t, "--appendfsync", "always")
	i := newInstallationOn(t, redis.URL())
	r := i.rooms()
	defer r.close()
	ids := sellMany(t, r, items, open)
	node, worker := i.serve(), i.work("w")
	bases := func() []string { return []string{node.base} }
	tokens := i.tokens("live", open+3)
	buy := func(token string, item flashsale.ItemID) response {
		t.Helper()
		answer, err := insist(t.Context(), bases, item, token, "only")
		if err != nil || answer.status != http.StatusAccepted {
			t.Fatalf("item %s: %s %v", item, answer.text, err)
		}
		return answer
	}
	buy(tokens[open], ids[0])
	i.auditClean()
	worker.kill()
	var waiting []response
	for k, how := range []string{"dead", "gone"} { // one entry each, delivered to a consumer that is no more
		waiting = append(waiting, buy(tokens[open+1+k], ids[k]))
		redisCLI(t, redis, "XREADGROUP", "GROUP", "workers", how, "COUNT", "1", "STREAMS", "fs:{0}:orders", ">")
	}
	redisCLI(t, redis, "XGROUP", "DELCONSUMER", "fs:{0}:orders", "workers", "gone")
	redisCLI(t, redis, "SET", "fs:{0}:item:"+ids[2].String(), "not ours")
	redisCLI(t, redis, "SET", "fs:{0}:buyers:"+ids[3].String(), "not ours")
	redis.Kill()
	if err := redis.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	worker = i.work("x")

	began := time.Now()
	if err := parallel(open, open, func(k int) error {
		answer, err := insist(t.Context(), bases, ids[k], tokens[k], "only")
		if err == nil && answer.status != http.StatusAccepted {
			err = errors.New(answer.text)
		}
		return err
	}); err != nil {
		t.Fatalf("%v\n%s", err, worker.log())
	}
	sold := time.Since(began)
	stacktest.Eventually(t, patience, func() error {
		for item, look := range r.engine.Look(t.Context(), ids) {
			if look.Err != nil || !look.Vouched || look.Account.State != "open" {
				return fmt.Errorf("item %s: %+v", item, look)
			}
		}
		return nil
	})
	t.Logf("of %d items the %d open ones sold again %s after Redis was back (goal 3s), all %s after (goal 15s)",
		items, open, sold.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	for k, order := range waiting {
		confirmed := node.base + "/v1/orders/" + order.OrderNo + "?item=" + ids[k].String()
		stacktest.Eventually(t, patience, func() error {
			answer, err := call(t.Context(), http.MethodGet, confirmed, tokens[open+1+k], nil, "")
			if err == nil && answer.status != http.StatusOK {
				err = fmt.Errorf("order %s: %d %s", order.OrderNo, answer.status, answer.text)
			}
			return err
		})
	}
	if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "redis-cli", "-u", redis.URL(), "KEYS", "fs:{0}:aside:*").CombinedOutput(); err != nil || len(out) < 10 {
		t.Errorf("what was of a wrong type is not kept: %s %v", out, err)
	}
}

// sellMany creates and loads items of which some are open.
func sellMany(t *testing.T, r *rooms, items, open int) (ids []flashsale.ItemID) {
	t.Helper()
	now := time.Now()
	for ids == nil || len(ids) < items {
		opensAt, count := now.Add(time.Hour), min(items-len(ids), 100)
		if ids == nil {
			opensAt, count = now.Add(-time.Minute), open
		}
		sale := flashsale.Sale{Name: "many", OpensAt: opensAt, ClosesAt: now.Add(3 * time.Hour)}
		for n := range count {
			sale.Items = append(sale.Items, flashsale.Item{
				Product: fmt.Sprint("thing ", len(ids)+n), PriceFen: 100, Total: 50, Stock: 50, Limit: 1, PayTimeout: time.Hour,
			})
		}
		created, err := r.ledger.CreateSale(t.Context(), sale)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.preheat(t.Context(), created.ID); err != nil {
			t.Fatal(err)
		}
		for _, item := range created.Items {
			ids = append(ids, item.ID)
		}
	}
	return ids
}
