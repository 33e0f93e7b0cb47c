package worker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// fakeTrades ends so many payments at each call, after so many faults.
type fakeTrades struct {
	calls  chan int
	faults int
}

func (f *fakeTrades) CloseDue(ctx context.Context, limit int) (int, bool, error) {
	select {
	case f.calls <- limit:
	case <-ctx.Done():
	}
	if f.faults > 0 {
		f.faults--
		return 0, false, errors.New("gateway is away")
	}
	return 1, true, nil
}

// Payments are ended again and again, also after a fault, and whoever cancels is woken each time.
func TestCloser(t *testing.T) {
	t.Parallel()
	trades := &fakeTrades{calls: make(chan int), faults: 1}
	config := Config{Trades: trades, CancelEvery: time.Millisecond}.withDefaults()
	metrics, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	woken := newWake()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); newCloser(config, metrics, woken).run(ctx, t.Context()) }()
	for range 3 {
		select {
		case limit := <-trades.calls:
			if limit != closeBatch {
				t.Errorf("limit %d", limit)
			}
		case <-time.After(patience):
			t.Fatal("not called")
		}
	}
	select {
	case <-woken:
	case <-time.After(patience):
		t.Error("the canceller was not woken")
	}
	stop()
	for running := true; running; {
		select {
		case <-trades.calls:
		case <-done:
			running = false
		}
	}
	wantMetric(t, "faults", metrics.faults.WithLabelValues("closer"), 1)
}

// Results of a server's own reach whoever waits, as those of the worker do.
func TestHerald(t *testing.T) {
	t.Parallel()
	s := newSetupOn(t, stacktest.NewRedis(t).URL()) // its channels are its own
	config := s.config()
	herald, err := NewHerald(s.url, config.Logger)
	if err != nil {
		t.Fatal(err)
	}
	heard := s.client.PSubscribe(t.Context(), "fs:results:*")
	defer heard.Close()
	if _, err := heard.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	herald.Tell(t.Context(), []flashsale.Result{{OrderNo: 42, User: "ann", Status: flashsale.Paid}})
	message, err := heard.ReceiveTimeout(t.Context(), patience)
	if err != nil {
		t.Fatal(err)
	}
	want := "42 ann paid"
	if m, ok := message.(*redis.Message); !ok || m.Payload != want {
		t.Errorf("heard %v, want %s", message, want)
	}
	if err := herald.Close(); err != nil {
		t.Error(err)
	}
	herald.Tell(t.Context(), []flashsale.Result{{OrderNo: 42}}) // logged, no more
	if _, err := NewHerald("nowhere", config.Logger); err == nil {
		t.Error("a URL that is none is accepted")
	}
}
