package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
	"flashsale/pay/alipay/sandbox"
)

// shop is an installation of real processes that takes points, and money at a local Alipay.
type shop struct {
	*installation
	box    *sandbox.Sandbox
	server atomic.Pointer[keeper] // which notices go to
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{installation: newInstallation(t)}
	s.withPoints()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	s.box = newBox(t, 1e-3, roundTripper(func(request *http.Request) (*http.Response, error) {
		server := s.server.Load()
		if server == nil {
			return nil, io.ErrUnexpectedEOF
		}
		request.URL.Host = strings.TrimPrefix(server.process().base, "http://")
		return transport.RoundTrip(request)
	}))
	s.env = append(s.env, "PUBLIC_URL=http://shop.example", "ALIPAY_SANDBOX=true",
		"ALIPAY_APP_ID="+s.box.AppID(), "ALIPAY_SELLER_ID="+s.box.SellerID(), "ALIPAY_GATEWAY="+s.box.GatewayURL(),
		"ALIPAY_PRIVATE_KEY="+s.box.AppPrivateKey(), "ALIPAY_PUBLIC_KEY="+s.box.PublicKey())
	return s
}

// buyer is a shopper with points and an unpaid order.
type buyer struct{ user, token, order string }

// buyers lets n new shoppers buy one unit each.
func (s *shop) buyers(prefix string, n int, item flashsale.ItemID, bases func() []string) []buyer {
	s.t.Helper()
	tokens := s.tokens(prefix, n)
	buyers := make([]buyer, n)
	r := s.rooms()
	defer r.close()
	err := parallel(n, n, func(k int) error {
		b := buyer{user: shopper(prefix, k), token: tokens[k]}
		if _, err := r.points.Grant(s.t.Context(), b.user, 7, "welcome-"+b.user); err != nil {
			return err
		}
		bought, err := insist(s.t.Context(), bases, item, b.token, "once")
		if err != nil || bought.status != http.StatusAccepted {
			return fmt.Errorf("%s: %s %w", b.user, bought.text, err)
		}
		b.order = bought.OrderNo
		buyers[k] = b
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return buyers
}

var jsonBody = map[string]string{"Content-Type": "application/json"}

// demand asks to pay or to refund, and again until there is an answer.
func (s *shop) demand(server *keeper, b buyer, what, body string, final ...int) (r response) {
	s.t.Helper()
	stacktest.Eventually(s.t, patience, func() error {
		var err error
		r, err = call(s.t.Context(), http.MethodPost, server.process().base+"/v1/orders/"+b.order+"/"+what, b.token, jsonBody, body)
		for _, status := range final {
			if err == nil && r.status == status {
				return nil
			}
		}
		return fmt.Errorf("%s of order %s: %d %s %w", what, b.order, r.status, r.text, err)
	})
	return r
}

// settlement is the answer to a request to pay.
type settlement struct {
	Status string `json:"status"`
	PayURL string `json:"pay_url"`
}

func settlementOf(t *testing.T, r response) (s settlement) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.text), &s); err != nil {
		t.Fatalf("answer %q: %v", r.text, err)
	}
	return s
}

// Protects points and money from a server that is killed with SIGKILL after any step of a payment
// or a refund: the shopper asks again or goes away, the worker finishes what was left, and the
// audit, across both databases, is clean.
func TestFaults_CrashOfPayment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		steps  []string
		method flashsale.Method
		refund bool
	}{
		{"points", []string{stepBegin, stepTry, stepDecide, stepConfirm, stepMove}, flashsale.Points, false},
		{"refund of points", []string{stepRefund, stepGiveBack, stepFinish}, flashsale.Points, true},
		{"money", []string{stepCharge, stepPay}, flashsale.Alipay, false},
		{"refund of money", []string{stepRefund, stepGiveBack, stepFinish}, flashsale.Alipay, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			rounds := faultRounds(t)
			item := s.sell(crashTries*rounds*len(c.steps), "points_price=7")
			s.work("w")
			for n := range rounds {
				for _, step := range c.steps {
					tries := 0
					for died := false; !died; tries++ {
						if tries == crashTries {
							t.Fatalf("round %d, %s: %d times nobody died, so nothing was tried", n, step, tries)
						}
						name := fmt.Sprintf("r%d-%s-%d", n, strings.ReplaceAll(step, " ", "-"), tries)
						died = s.crash(name, step, c.method, c.refund, n%2 == 0, item)
					}
				}
			}
			s.auditClean()
		})
	}
}

// crashTries is how often a crash is tried: a worker that looks after payments may be the one that
// takes the step, and then the server has no reason to die.
const crashTries = 5

// crash lets one shopper pay, or get his money back, at a server that dies after a step. It reports
// whether the server did.
func (s *shop) crash(name, step string, method flashsale.Method, refund, insisting bool, item flashsale.ItemID) (died bool) {
	s.t.Helper()
	name = strings.ReplaceAll(name, "'", "") // it becomes a user's
	server := s.keep(after(step)+":1", s.serve)
	defer server.end()
	s.server.Store(server)
	b := s.buyers(name, 1, item, func() []string { return []string{server.process().base} })[0]
	waitStatus(s.t, server.process(), b.token, b.order, "unpaid")

	want := "paid"
	if refund {
		want = "refunded"
	}
	ask := func(what, body string) {
		// The answer may be the connection's end.
		_, _ = call(s.t.Context(), http.MethodPost, server.process().base+"/v1/orders/"+b.order+"/"+what, b.token, jsonBody, body)
	}
	pay := fmt.Sprintf(`{"method":%q}`, method)
	switch {
	case method == flashsale.Alipay:
		s.visit(settlementOf(s.t, s.demand(server, b, "payments", pay, http.StatusOK)).PayURL)
		if err := s.box.Pay(b.order); err != nil {
			s.t.Fatal(err)
		}
	case !refund:
		ask("payments", pay)
		if insisting {
			s.demand(server, b, "payments", pay, http.StatusOK)
		}
	default:
		s.demand(server, b, "payments", pay, http.StatusOK)
	}
	if refund {
		waitPaid := func() error {
			r, err := call(s.t.Context(), http.MethodGet, server.process().base+"/v1/orders/"+b.order, b.token, nil, "")
			if err != nil || !strings.Contains(r.text, `"status":"paid"`) {
				return fmt.Errorf("%d %s %w", r.status, r.text, err)
			}
			return nil
		}
		stacktest.Eventually(s.t, patience, waitPaid)
		ask("refunds", `{"reason":"why not"}`)
		if insisting {
			s.demand(server, b, "refunds", "", http.StatusOK, http.StatusAccepted)
		}
	}
	stacktest.Eventually(s.t, patience, func() error {
		r, err := call(s.t.Context(), http.MethodGet, server.process().base+"/v1/orders/"+b.order, b.token, nil, "")
		if err != nil || !strings.Contains(r.text, `"status":"`+want+`"`) {
			return fmt.Errorf("%s: %d %s %w", name, r.status, r.text, err)
		}
		return nil
	})
	died = server.deaths.Load() > 0
	// A notice that is still on its way would make the next server die before its time.
	settling, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.box.Settled(settling); err != nil {
		s.t.Fatal(err)
	}
	s.server.Store(nil)

	r := s.rooms()
	defer r.close()
	wantBalance := int64(7)
	if method == flashsale.Points && !refund {
		wantBalance = 0
	}
	stacktest.Eventually(s.t, patience, func() error { // a confirm may be the worker's to make up for
		account, err := r.points.Account(s.t.Context(), b.user)
		if err != nil || account.Balance != wantBalance || account.Frozen != 0 {
			return fmt.Errorf("%s has %+v, %w, want %d", b.user, account, err, wantBalance)
		}
		return nil
	})
	if method == flashsale.Alipay && refund {
		if trade, err := s.box.Trade(b.order); err != nil || trade.RefundedFen() != trade.AmountFen {
			s.t.Errorf("%s: trade %+v, %v", name, trade, err)
		}
	}
	return died
}

// Protects a purchase as its shopper sees it, with real processes: buy, pay at Alipay's page, see
// it paid, get the money back, buy the same unit again, pay with points; operators see it all.
func TestPay_EndToEnd(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	item := s.sell(1, "points_price=7")
	s.work("w")
	server := &keeper{current: s.serve()}
	s.server.Store(server)
	base, ops := server.process().base, server.process().ops
	bases := func() []string { return []string{base} }
	b := s.buyers("ann", 1, item, bases)[0]
	waitStatus(t, server.process(), b.token, b.order, "unpaid")

	started := settlementOf(t, s.demand(server, b, "payments", `{"method":"alipay"}`, http.StatusOK))
	if started.Status != "unpaid" || !strings.HasPrefix(started.PayURL, s.box.GatewayURL()+"?") {
		t.Fatal(started)
	}
	s.visit(started.PayURL)
	if err := s.box.Pay(b.order); err != nil {
		t.Fatal(err)
	}
	waitStatus(t, server.process(), b.token, b.order, "paid")
	if r := s.demand(server, b, "refunds", `{"reason":"不要了"}`, http.StatusOK); !strings.Contains(r.text, `"status":"refunded"`) {
		t.Errorf("refund: %s", r.text)
	}
	seen, err := call(t.Context(), http.MethodGet, ops+"/v1/admin/orders/"+b.order+"/payments", adminToken, nil, "")
	if err != nil || !strings.Contains(seen.text, `"refund_no":"R`+b.order+`"`) || !strings.Contains(seen.text, `"charge":"paid"`) {
		t.Errorf("history: %s %v", seen.text, err)
	}

	stacktest.Eventually(t, patience, func() error { // the unit is back
		again, err := call(t.Context(), http.MethodPost, fmt.Sprintf("%s/v1/items/%s/orders", base, item), b.token, nil, "")
		if err != nil || again.status != http.StatusAccepted {
			return fmt.Errorf("buy again: %s %w", again.text, err)
		}
		b.order = again.OrderNo
		return nil
	})
	waitStatus(t, server.process(), b.token, b.order, "unpaid")
	if r := s.demand(server, b, "payments", `{"method":"points"}`, http.StatusOK); !strings.Contains(r.text, `"status":"paid"`) {
		t.Errorf("points: %s", r.text)
	}
	mine, err := call(t.Context(), http.MethodGet, base+"/v1/points", b.token, nil, "")
	if err != nil || !strings.HasPrefix(mine.text, `{"balance":0,"frozen":0,"entries":[{"type":"debit","points":-7,"balance":0,"order_no":"`+b.order+`"`) {
		t.Errorf("points: %s %v", mine.text, err)
	}
	granted, err := call(t.Context(), http.MethodPost, ops+"/v1/admin/points", adminToken, jsonBody, `{"user":"`+b.user+`","points":5,"ref":"gift"}`)
	if err != nil || granted.text != `{"balance":5,"frozen":0,"user":"`+b.user+`"}` {
		t.Errorf("grant: %s %v", granted.text, err)
	}
	s.auditClean()
	if out := s.command(exitOK, "audit"); !strings.Contains(out, "5  ok ") || !strings.Contains(out, "points: received 7 = held 7 + refunding 0 + refunded 0") {
		t.Errorf("audit: %s", out)
	}
}

// Protects production from a sandbox, and an operator from half a configuration.
func TestPay_RefusesSandbox(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for drop, want := range map[string]string{
		"ALIPAY_SANDBOX=": "AllowSandbox", "PUBLIC_URL=": "PUBLIC_URL is required", "ALIPAY_APP_ID=": "ALIPAY_APP_ID is missing",
	} {
		i := &installation{t: t}
		for _, line := range s.env {
			if !strings.HasPrefix(line, drop) {
				i.env = append(i.env, line)
			}
		}
		for _, command := range []string{"serve", "work"} {
			if out := i.command(exitFailed, command); !strings.Contains(out, want) {
				t.Errorf("%s without %s says %s", command, drop, out)
			}
		}
	}
}

// Protects a newcomer's first payment: what the demo prints works as it stands, typed into one
// shell, from the purchase to the points.
func TestDemo_Pay(t *testing.T) {
	t.Parallel()
	requireTools(t)
	d := startDemo(t, stacktest.Dir(t), "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--alipay-addr", "127.0.0.1:0")
	buy := d.lines()[1]
	_, block, _ := strings.Cut(d.output(), "Pay it, in one shell")
	block, _, ok := strings.Cut(block, "Log in as")
	var script strings.Builder
	for line := range strings.Lines(block) {
		if command, indented := strings.CutPrefix(line, "  "); indented {
			script.WriteString(command)
		}
	}
	if !ok || !strings.Contains(buy, "/orders") {
		t.Fatalf("not all said:\n%s", d.output())
	}
	out, err := shell(t.Context(), buy+"; sleep 1\n"+script.String())
	if err != nil {
		t.Fatal(err)
	}
	rest := out
	for _, want := range []string{
		`"status":"pending"`, "/gateway.do?", `"status":"TRADE_SUCCESS"`, `"status":"paid"`, `"status":"refunded"`,
		`"status":"unpaid"`, `"status":"paid"}`, `{"balance":9800,"frozen":0,"entries":[{"type":"debit","points":-200,`,
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("no %s after all before it:\n%s", want, out)
		}
		rest = after
	}
}
