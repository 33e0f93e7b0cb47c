package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// paidOrders is how many orders of the cancelled sale are paid: FLASHSALE_PAID asks for more.
func paidOrders() int {
	if n, err := strconv.Atoi(os.Getenv("FLASHSALE_PAID")); err == nil {
		return n
	}
	return 150
}

// Protects everybody's money when a sale is cancelled as a whole: with a worker that is killed in the
// middle, and another that goes on, every paid order is refunded once and every unpaid one cancelled,
// nobody can buy, pay or resume any more, and the audit is whole.
func TestFaults_CancelSale(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	paid := paidOrders()
	const unpaid, crowd = 20, 50
	item := s.sell(paid+unpaid+1, "points_price=7")
	worker := s.keep(after(stepFinish)+":"+strconv.Itoa(paid/3), func() *process { return s.work("w") })
	defer worker.end()
	server := &keeper{current: s.serve()}
	s.server.Store(server)
	bases := func() []string { return []string{server.process().base} }
	var buyers []buyer
	for first := 0; first < paid+unpaid; first += crowd {
		n := min(crowd, paid+unpaid-first)
		some := s.buyers(fmt.Sprintf("b%d", first), n, item, bases)
		buyers = append(buyers, some...)
		err := parallel(n, n, func(k int) error {
			if first+k >= paid {
				return nil
			}
			s.demand(server, some[k], "payments", `{"method":"points"}`, http.StatusOK)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	waitStatus(t, server.process(), buyers[paid].token, buyers[paid].order, "unpaid")

	r := s.rooms()
	sales, err := r.ledger.Sales(t.Context(), flashsale.SalesQuery{Limit: 1, Items: 100})
	r.close()
	if err != nil {
		t.Fatal(err)
	}
	path := server.process().ops + "/v1/admin/sales/" + sales[0].ID.String() + "/cancel"
	ask := func(method, url, token string) response {
		t.Helper()
		answer, err := call(t.Context(), method, url, token, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	if got := ask(http.MethodGet, path, adminToken); got.status != http.StatusNotFound || !strings.Contains(got.text, "sale_not_cancelled") {
		t.Errorf("before: %s", got.text)
	}
	for range 2 {
		if got := ask(http.MethodPost, path, adminToken); got.status != http.StatusAccepted {
			t.Fatalf("cancel: %d %s", got.status, got.text)
		}
	}
	last := buyers[paid] // in time with his payment, or not
	if got, err := call(t.Context(), http.MethodPost, server.process().base+"/v1/orders/"+last.order+"/payments", last.token, jsonBody, `{"method":"points"}`); err != nil || got.status != http.StatusConflict {
		t.Errorf("paying in a cancelled sale: %s %v", got.text, err)
	}
	want := fmt.Sprintf(`"unpaid":0,"paid":0,"refunding":0,"refused":0,"refunded":%d,"cancelled":%d}`, paid, unpaid)
	const refunding = 30 * time.Millisecond // of each, beside other tests and under the detector
	stacktest.Eventually(t, patience+time.Duration(paid)*refunding, func() error {
		got := ask(http.MethodGet, path, adminToken)
		if !strings.Contains(got.text, `"state":"done"`) || !strings.Contains(got.text, want) {
			return errors.New(got.text)
		}
		return nil
	})
	if worker.deaths.Load() != 1 {
		t.Errorf("the worker died %d times, so nothing was tried", worker.deaths.Load())
	}
	ops := server.process().ops + "/v1/admin/items/" + item.String()
	if got := ask(http.MethodPost, ops+"/resume", adminToken); got.status != http.StatusConflict || !strings.Contains(got.text, "sale_cancelled") {
		t.Errorf("resume: %s", got.text)
	}
	stacktest.Eventually(t, patience, func() error { // once the pause has reached Redis
		got := ask(http.MethodPost, server.process().base+"/v1/items/"+item.String()+"/orders", last.token)
		if got.status != http.StatusConflict || !strings.Contains(got.text, `"paused"`) {
			return errors.New(got.text)
		}
		return nil
	})
	if out := s.command(exitOK, "sale", "cancel", sales[0].ID.String()); !strings.Contains(out, "done") {
		t.Errorf("sale cancel says %s", out)
	}
	exported := ask(http.MethodGet, server.process().ops+"/v1/admin/sales/"+sales[0].ID.String()+"/orders?format=csv", adminToken).text
	if out := s.command(exitOK, "sale", "export", sales[0].ID.String()); out != exported || strings.Count(out, ",refunded,") != paid || strings.Count(out, ",cancelled,") != unpaid {
		t.Errorf("export: %d and %d bytes\n%.300s", len(out), len(exported), out)
	}
	s.auditClean()
	r = s.rooms()
	defer r.close()
	figures, err := r.points.Figures(t.Context())
	if err != nil || figures.Refunded != int64(7*paid) || figures.Debited != int64(7*paid) || figures.Held != 0 || len(figures.Mismatches) > 0 {
		t.Errorf("points: %+v, %v", figures, err)
	}
}
