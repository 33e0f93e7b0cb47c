package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// startHub runs a hub on a Redis of its own, so that channels can be counted.
func startHub(t *testing.T) (*hub, redis.UniversalClient) {
	t.Helper()
	url := stacktest.NewRedis(t).URL()
	return startHubOn(t, url), connect(t, url)
}

func startHubOn(t *testing.T, url string) *hub {
	t.Helper()
	h, err := newHub(url, slog.New(slog.DiscardHandler), &faultLog{logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		receive(t, done)
	})
	return h
}

func connect(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	client, err := newSubscriber(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// publish sends results as the worker does.
func publish(t testing.TB, client redis.UniversalClient, results ...flashsale.Result) {
	t.Helper()
	for _, result := range results {
		payload := strings.TrimRight(fmt.Sprintf("%s %s %s %s", result.OrderNo, result.User, result.Status, result.Reason), " ")
		if err := client.Publish(t.Context(), engine.ResultsChannel(result.OrderNo), payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// heard counts the channels that Redis delivers to somebody.
func heard(t testing.TB, client redis.UniversalClient, want int) {
	t.Helper()
	stacktest.Eventually(t, testTimeout, func() error {
		channels, err := client.PubSubChannels(t.Context(), "fs:results:*").Result()
		if err == nil && len(channels) != want {
			err = fmt.Errorf("%d channels are heard, want %d", len(channels), want)
		}
		return err
	})
}

// Protects that nothing is missed: once the first event has come, everything published
// reaches every watch of the order, and of no other.
func TestHub_Delivers(t *testing.T) {
	t.Parallel()
	h, client := startHub(t)
	first, second, other := h.watch(7001), h.watch(7001), h.watch(7002)
	defer other.stop()
	for _, w := range []*watch{first, second, other} {
		if event := receive(t, w.events); event.Status != "" {
			t.Fatalf("first event is %+v, want the reminder to read the state", event)
		}
	}
	want := flashsale.Result{OrderNo: 7001, User: "ann", Status: flashsale.Unpaid}
	publish(t, client, want)
	for _, w := range []*watch{first, second} {
		if got := receive(t, w.events); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	publish(t, client, flashsale.Result{OrderNo: 7002, User: "bob", Status: flashsale.Rejected, Reason: "duplicate"})
	if got := receive(t, other.events); got.Status != flashsale.Rejected || got.Reason != "duplicate" {
		t.Errorf("got %+v", got)
	}
	first.stop()
	second.stop()
}

// Protects the point of shards: a node hears a channel only while somebody waits on it.
func TestHub_SubscribesOnDemand(t *testing.T) {
	t.Parallel()
	h, client := startHub(t)
	heard(t, client, 0)
	a, b := h.watch(7001), h.watch(7001)
	heard(t, client, 1)
	a.stop()
	a.stop() // twice is once
	receive(t, b.events)
	heard(t, client, 1)
	b.stop()
	heard(t, client, 0)
	// Coming back while the unsubscription is under way must end subscribed.
	for range 50 {
		h.watch(7001).stop()
	}
	again := h.watch(7001)
	receive(t, again.events)
	publish(t, client, flashsale.Result{OrderNo: 7001, Status: flashsale.Paid})
	if got := receive(t, again.events); got.Status != flashsale.Paid {
		t.Errorf("got %+v", got)
	}
	again.stop()
	heard(t, client, 0)
	stacktest.Eventually(t, testTimeout, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.shards) > 0 {
			return fmt.Errorf("%d channels kept", len(h.shards))
		}
		return nil
	})
}

// Protects against a subscription that breaks: it is renewed, and every watch is told to read
// the state, because messages may have been missed.
func TestHub_Reconnects(t *testing.T) {
	t.Parallel()
	h, client := startHub(t)
	w := h.watch(7001)
	defer w.stop()
	receive(t, w.events)
	if err := client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	if event := receive(t, w.events); event.Status != "" {
		t.Errorf("after the break: %+v, want the reminder", event)
	}
	publish(t, client, flashsale.Result{OrderNo: 7001, Status: flashsale.Paid})
	if got := receive(t, w.events); got.Status != flashsale.Paid {
		t.Errorf("got %+v", got)
	}
}

// Protects the others from one who does not read: the full queue ends that watch only.
func TestHub_SlowWatch(t *testing.T) {
	t.Parallel()
	h, client := startHub(t)
	slow, quick := h.watch(7001), h.watch(7001)
	defer slow.stop()
	defer quick.stop()
	receive(t, quick.events)
	for n := range watchQueue + 1 {
		publish(t, client, flashsale.Result{OrderNo: 7001, Reason: strconv.Itoa(n), Status: flashsale.Unpaid})
		if got := receive(t, quick.events); got.Reason != strconv.Itoa(n) {
			t.Fatalf("quick got %+v, want %d", got, n)
		}
	}
	for range watchQueue {
		receive(t, slow.events)
	}
	if _, ok := <-slow.events; ok {
		t.Error("the slow watch was not ended")
	}
}

// Protects against nonsense on a channel.
func TestHub_IgnoresNonsense(t *testing.T) {
	t.Parallel()
	h, client := startHub(t)
	w := h.watch(7001)
	defer w.stop()
	receive(t, w.events)
	for _, payload := range []string{"", "{", "7001", "7001 ann", "x ann paid"} {
		if err := client.Publish(t.Context(), engine.ResultsChannel(7001), payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, client, flashsale.Result{OrderNo: 7001, Status: flashsale.Paid})
	if got := receive(t, w.events); got.Status != flashsale.Paid {
		t.Errorf("got %+v", got)
	}
}

// Protects that no password of a malformed address reaches a log.
func TestNewHub_BadURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"redis://u:secret@host:port/0", "http://u:secret@host", ":secret"} {
		_, err := newHub(url, slog.New(slog.DiscardHandler), nil)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
}

// Protects the order of states: what comes late is not shown.
func TestLeadsTo(t *testing.T) {
	t.Parallel()
	all := []flashsale.Status{
		flashsale.Pending, flashsale.Unpaid, flashsale.Paid, flashsale.Refunding,
		flashsale.Refunded, flashsale.Cancelled, flashsale.Rejected,
	}
	want := map[flashsale.Status]string{
		flashsale.Pending: "unpaid paid refunding refunded cancelled rejected", flashsale.Unpaid: "paid refunding refunded cancelled",
		flashsale.Paid: "refunding refunded", flashsale.Refunding: "refunded",
	}
	for _, from := range all {
		var got []string
		for _, to := range all {
			if leadsTo(from, to) {
				got = append(got, string(to))
			}
		}
		if strings.Join(got, " ") != want[from] {
			t.Errorf("%s leads to %v, want %s", from, got, want[from])
		}
	}
}

// Protects the long poll: it answers when the state changes, by push or, with every message
// lost, by reading again.
func TestWait_AnswersOnChange(t *testing.T) {
	t.Parallel()
	for name, pushed := range map[string]bool{"pushed": true, "message lost": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := stacktest.Redis(t)
			r := start(t, func(c *Config) {
				c.RedisURL = url
				if !pushed {
					c.RereadAfter = 50 * time.Millisecond
				}
			})
			client := connect(t, url)
			order := newOrder("ann")
			r.ledger.set(order)
			answered := make(chan string, 1)
			go func() {
				_, body := r.request(t, "GET", "/v1/orders/"+order.OrderNo.String()+"?wait=20s", as("ann")...)
				answered <- body
			}()
			stacktest.Eventually(t, testTimeout, func() error {
				if pushed && r.hub.channels() == 0 {
					return errors.New("not heard yet")
				}
				if len(r.waiters) == 0 {
					return errors.New("not waiting yet")
				}
				return nil
			})
			order.Status = flashsale.Paid
			r.ledger.set(order)
			if pushed {
				publish(t, client, flashsale.Result{OrderNo: order.OrderNo, User: "ann", Status: flashsale.Paid})
			}
			if body := receive(t, answered); !strings.Contains(body, `"status":"paid"`) {
				t.Errorf("got %s", body)
			}
		})
	}
}

// Protects the ends of a long poll: the time, a state that is final already, and the bound.
func TestWait_Ends(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.WaitersMax = 1 })
	order := newOrder("ann")
	b.ledger.set(order)
	path := "/v1/orders/" + order.OrderNo.String()
	if got := string(b.call("GET", path+"?wait=10ms", "", as("ann")...).Body()); !strings.Contains(got, `"status":"unpaid"`) {
		t.Errorf("time over: %s", got)
	}
	b.waiters <- struct{}{}
	if got := code(b.call("GET", path+"?wait=10s", "", as("ann")...)); got != "503 overloaded" {
		t.Errorf("all places taken: %s", got)
	}
	order.Status = flashsale.Cancelled
	b.ledger.set(order)
	if got := string(b.call("GET", path+"?wait=30s", "", as("ann")...).Body()); !strings.Contains(got, `"status":"cancelled"`) {
		t.Errorf("final: %s", got)
	}
}

// Protects what a node hears: of ten nodes on which many shoppers wait, hardly more than the one where
// an order is watched hears its result.
func TestHub_HearsItsOwn(t *testing.T) {
	t.Parallel()
	const nodes, waiting = 10, 100 // shoppers a node
	url := stacktest.NewRedis(t).URL()
	client := connect(t, url)
	hubs := make([]*hub, nodes)
	for n := range hubs {
		hubs[n] = startHubOn(t, url)
	}
	order := func(n, i int) flashsale.OrderNo { return flashsale.OrderNo(int64(1+n*waiting+i) << 22) }
	var watches []*watch
	for n, h := range hubs {
		for i := range waiting {
			w := h.watch(order(n, i))
			watches = append(watches, w)
		}
	}
	defer func() {
		for _, w := range watches {
			w.stop()
		}
	}()
	for _, w := range watches {
		receive(t, w.events)
	}
	for n := range hubs {
		for i := range waiting {
			publish(t, client, flashsale.Result{OrderNo: order(n, i), User: "ann", Status: flashsale.Unpaid})
		}
	}
	for _, w := range watches {
		receive(t, w.events)
	}
	var heard float64
	for _, h := range hubs {
		heard += testutil.ToFloat64(h.heard)
	}
	if got := heard / (nodes * waiting); got < 1 || got > 1.1 {
		t.Errorf("%.2f nodes hear a result", got)
	}
}
