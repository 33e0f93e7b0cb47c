package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"flashsale/internal/devstack/stacktest"
)

// Protects the arithmetic: a burst, then one each interval, for each key on its own, and an honest
// wait for who asks too much.
func TestRate(t *testing.T) {
	t.Parallel()
	now := time.Hour
	r := newRate("orders", 10, 0, nil)
	take := func(key uint64) (int, time.Duration) { return r.take(key|key<<40, now) }
	for n := range 40 {
		if left, wait := take(1); wait > 0 || left != 39-n {
			t.Fatalf("request %d: %d left, wait %v", n, left, wait)
		}
	}
	for range 3 { // asking again does not make it longer
		if _, wait := take(1); wait != 100*time.Millisecond {
			t.Errorf("one too many waits %v", wait)
		}
	}
	if _, wait := take(2); wait > 0 {
		t.Errorf("another one waits %v", wait)
	}
	now += 100 * time.Millisecond
	if left, wait := take(1); left != 0 || wait > 0 {
		t.Errorf("after the wait: %d left, wait %v", left, wait)
	}
	now += time.Minute
	if left, _ := take(1); left != 39 {
		t.Errorf("after a minute: %d left", left)
	}
	if off := newRate("off", -1, 10, nil); !off.byUser(nil, "ann") || !off.byAddr(nil) {
		t.Error("a negative limit limits")
	}
}

// Protects honest keys from a crowd that is over the limit, in a table that does not grow.
func TestRate_Crowd(t *testing.T) {
	t.Parallel()
	const hostile, honest = 1000, 20_000
	now := time.Hour
	r := newRate("orders", 10, 0, nil)
	random := rand.New(rand.NewPCG(1, 2))
	for range hostile {
		key := random.Uint64()
		for {
			if _, wait := r.take(key, now); wait > 0 {
				break
			}
		}
	}
	refused := 0
	for range honest {
		if _, wait := r.take(random.Uint64(), now); wait > 0 {
			refused++
		}
	}
	if refused > honest/1000 {
		t.Errorf("%d of %d honest ones are refused", refused, honest)
	}
}

// Protects the others from one who asks too much: he is told how long to wait, by every limited
// call, and nobody else is.
func TestRates_User(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Rates = Rates{UserOrders: 1, UserReads: 1, UserPays: 1} })
	b.ledger.set(newOrder("ann"))
	for _, call := range []string{"POST /v1/items/7/orders", "GET /v1/orders", "DELETE /v1/orders/1"} {
		method, path, _ := strings.Cut(call, " ")
		for n := range 5 {
			response := b.call(method, path, "", as("ann")...)
			header := func(name string) string { return string(response.Header.Peek(name)) }
			refused := response.StatusCode() == 429
			if refused != (n == 4) || !strings.HasSuffix(header("RateLimit-Policy"), `";q=4;w=4`) {
				t.Fatalf("%s: request %d: %d\n%s", call, n, response.StatusCode(), response.Header.String())
			}
			want := fmt.Sprintf(`";r=%d`, max(0, 3-n))
			if refused {
				want += ";t=1"
			}
			if !strings.HasSuffix(header("RateLimit"), want) || refused != (header("Retry-After") == "1") ||
				refused && code(response) != "429 too_many_requests" {
				t.Errorf("%s: request %d: RateLimit %s, want …%s, Retry-After %s", call, n, header("RateLimit"), want, header("Retry-After"))
			}
		}
		if got := b.call(method, path, "", as("bob")...).StatusCode(); got == 429 {
			t.Errorf("%s: another user pays for it", call)
		}
	}
}

// Protects from one address that asks for all, as the proxy in front of us tells it, and protects
// those behind a proxy that nobody told us of.
func TestRates_Addr(t *testing.T) {
	t.Parallel()
	get := func(r *running, from string) int {
		status, _ := r.request(t, "GET", "/v1/sales", "X-Forwarded-For", from)
		return status
	}
	limited := start(t, func(c *Config) {
		c.Rates.AddrReads = 1
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	for n := range 5 {
		if status := get(limited, "203.0.113.1"); (status == 429) != (n == 4) {
			t.Errorf("request %d: %d", n, status)
		}
	}
	if status := get(limited, "203.0.113.2"); status != 200 {
		t.Errorf("another address: %d", status)
	}
	r := newRates(Rates{}, nil)
	if r.addrReads.neighbour || !limited.rates.addrReads.neighbour {
		t.Error("this host counts as a client by default, or does not where the limit was set")
	}
}

// Protects lanes and Redis from made-up items: the engine is never asked about them, however
// many connections ask, and their user may look for a few only.
func TestRates_UnknownItems(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Rates.UserUnknown = 5 })
	b.rates.unknowns.clock = func() time.Duration { return time.Hour }
	answers := map[string]int{}
	for id := range 100 {
		answers[code(b.call("POST", fmt.Sprint("/v1/items/", 1000+id, "/orders"), "", as("ann")...))]++
	}
	if len(b.redis.asked) > 0 || answers["404 item_not_found"] != 20 || answers["429 too_many_requests"] != 80 {
		t.Errorf("answers %v, the engine was asked %d times", answers, len(b.redis.asked))
	}
	if b.ledger.lookups > 20 {
		t.Errorf("the ledger was asked %d times", b.ledger.lookups)
	}
	if got := code(b.call("POST", "/v1/items/7/orders", "", as("ann")...)); got != "202" {
		t.Errorf("a real item: %s", got)
	}
}

// Protects the slots of long polls from one user.
func TestRates_Waiters(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.WaitersPerUserMax = 1 })
	order, other := newOrder("ann"), newOrder("bob")
	b.ledger.set(order)
	b.ledger.set(other)
	done := make(chan int, 2)
	wait := func(user, no string) {
		done <- b.call("GET", "/v1/orders/"+no+"?wait=30s", "", as(user)...).StatusCode()
	}
	waiting := func(n int) {
		t.Helper()
		stacktest.Eventually(t, testTimeout, func() error {
			if len(b.waiters) != n {
				return fmt.Errorf("%d wait, want %d", len(b.waiters), n)
			}
			return nil
		})
	}
	go wait("ann", order.OrderNo.String())
	waiting(1)
	response := b.call("GET", "/v1/orders/"+order.OrderNo.String()+"?wait=30s", "", as("ann")...)
	if got := code(response); got != "429 too_many_waiters" {
		t.Errorf("a second one of ann's: %s", got)
	}
	go wait("bob", other.OrderNo.String())
	waiting(2)
	close(b.draining)
	if first, second := receive(t, done), receive(t, done); first != 200 || second != 200 {
		t.Errorf("answered %d and %d", first, second)
	}
	if len(b.waiting.byUser) > 0 {
		t.Errorf("still held: %v", b.waiting.byUser)
	}
}

// Protects the admin token from guesses: they are few, and an operator reads of them.
func TestRates_AdminGuesses(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	b := setup(t, func(c *Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
		c.Rates.AdminGuess = 1
	})
	for n := range 6 {
		want := "401 invalid_token"
		if n > 3 {
			want = "429 too_many_requests"
		}
		if got := code(b.callOps("GET", "/v1/admin/items/7", "", "Token", "guess")); got != want {
			t.Errorf("guess %d: got %s, want %s", n, got, want)
		}
	}
	if !strings.Contains(log.String(), `"wrong admin token"`) || strings.Contains(log.String(), "guess\"") {
		t.Errorf("log: %s", log.String())
	}
	if got := code(b.callOps("GET", "/v1/admin/items/7", "", bearer...)); got != "200" {
		t.Errorf("the operator: %s", got)
	}
}

func BenchmarkRate(b *testing.B) {
	r := newRate("orders", 1e9, 0, nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for key := uint64(0); pb.Next(); key++ {
			r.take(key%100_000*0x9e3779b97f4a7c15, time.Hour)
		}
	})
}
