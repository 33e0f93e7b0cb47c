package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// fakeEngine writes down what the relay asks for.
type fakeEngine struct {
	Engine // what the relay does not ask for
	faults map[flashsale.ItemID]error
	calls  []string
}

func (e *fakeEngine) call(item flashsale.ItemID, format string, args ...any) error {
	if err := e.faults[item]; err != nil {
		return err
	}
	e.calls = append(e.calls, fmt.Sprintf("%d:", item)+fmt.Sprintf(format, args...))
	return nil
}

func (e *fakeEngine) Release(_ context.Context, item flashsale.ItemID, orders []engine.Held) (int, error) {
	return len(orders), e.call(item, "release %v", orders)
}

func (e *fakeEngine) Restock(_ context.Context, item flashsale.ItemID, number, add int64) error {
	return e.call(item, "restock #%d +%d", number, add)
}

func (e *fakeEngine) Pause(_ context.Context, item flashsale.ItemID) error {
	return e.call(item, "pause")
}

func (e *fakeEngine) Resume(_ context.Context, item flashsale.ItemID) error {
	return e.call(item, "resume")
}

func newTestRelay(t *testing.T, ledger *fakeLedger, engine Engine) *relay {
	t.Helper()
	metrics, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	config := Config{Ledger: ledger, Engine: engine, Logger: slog.New(slog.DiscardHandler), RelayEvery: time.Second}
	return newRelay(config, metrics, newWake())
}

func release(item flashsale.ItemID, no flashsale.OrderNo) flashsale.OutboxRow {
	return flashsale.OutboxRow{Kind: flashsale.Release, ItemID: item, OrderNo: no, User: "u" + no.String(), Quantity: 1}
}

// Rows of an item are carried out in order, releases in a row by one call; an item that is not
// ready keeps its rows and holds up no other.
func TestRelay_Order(t *testing.T) {
	t.Parallel()
	ledger := newFakeLedger()
	for _, row := range []flashsale.OutboxRow{
		release(1, 11), release(9, 91), release(1, 12),
		{Kind: flashsale.Pause, ItemID: 1},
		{Kind: flashsale.Restock, ItemID: 2, Quantity: 50},
		release(1, 13),
		{Kind: flashsale.Resume, ItemID: 1},
		{Kind: flashsale.Restock, ItemID: 9, Quantity: 1},
	} {
		ledger.owe(row)
	}
	e := &fakeEngine{faults: map[flashsale.ItemID]error{9: fmt.Errorf("release item 9: %w", engine.ErrNotReady)}}
	r := newTestRelay(t, ledger, e)
	if more, err := r.pass(t.Context()); more || err != nil {
		t.Fatalf("pass: %v, %v", more, err)
	}
	want := []string{
		"1:release [{11 u11} {12 u12}]", "1:pause", "1:release [{13 u13}]", "1:resume", "2:restock #5 +50",
	}
	if !slices.Equal(e.calls, want) {
		t.Errorf("calls\n%q, want\n%q", e.calls, want)
	}
	left := ledger.owed()
	if len(left) != 2 || left[0].ItemID != 9 || left[1].ItemID != 9 {
		t.Errorf("outbox %+v; want both rows of item 9", left)
	}
	wantMetric(t, "outbox waiting", r.metrics.outboxWaiting, 2)

	// The rows are carried out, in order, once the item is ready.
	e.calls, e.faults = nil, nil
	if _, err := r.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"9:release [{91 u91}]", "9:restock #8 +1"}; !slices.Equal(e.calls, want) {
		t.Errorf("calls %q, want %q", e.calls, want)
	}
	if left := ledger.owed(); len(left) != 0 {
		t.Errorf("outbox %+v", left)
	}
}

// An item that Redis refuses does not hold up others; a Redis that does not answer ends the
// pass, which holds a transaction. What was done before is struck off in both cases.
func TestRelay_Faults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fault error
		want  []string
	}{
		{engine.ErrUnavailable, []string{"1:pause", "3:pause"}},
		{engine.ErrUnknown, []string{"1:pause"}},
	} {
		ledger := newFakeLedger()
		for item := range flashsale.ItemID(3) {
			ledger.owe(flashsale.OutboxRow{Kind: flashsale.Pause, ItemID: item + 1})
		}
		e := &fakeEngine{faults: map[flashsale.ItemID]error{2: test.fault}}
		r := newTestRelay(t, ledger, e)
		if _, err := r.pass(t.Context()); !errors.Is(err, test.fault) {
			t.Errorf("pass: %v, want %v", err, test.fault)
		}
		if !slices.Equal(e.calls, test.want) || len(ledger.owed()) != 3-len(test.want) {
			t.Errorf("%v: calls %q, outbox %v", test.fault, e.calls, ledger.owed())
		}
	}
}

// A relay that dies after the effect and before the row is struck off repeats the effect, and
// the units come back once.
func TestRelay_CrashRepeats(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.ledger.addItem(2, 10)
	if err := NewPreheater(s.ledger, s.engine, nil).PreheatSale(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	reply, err := s.engine.Reserve(t.Context(), engine.Request{Item: 2, User: "ann", Quantity: 1})
	if err != nil || reply.Outcome != flashsale.Accepted {
		t.Fatalf("reserve: %+v, %v", reply, err)
	}
	s.ledger.owe(flashsale.OutboxRow{Kind: flashsale.Release, ItemID: 2, OrderNo: reply.OrderNo, User: "ann", Quantity: 1})
	s.ledger.owe(flashsale.OutboxRow{Kind: flashsale.Restock, ItemID: 2, Quantity: 5})
	r := newTestRelay(t, s.ledger, s.engine)
	s.ledger.onOutbox = func() error { return errAway }
	for range 3 {
		if _, err := r.pass(t.Context()); !errors.Is(err, errAway) {
			t.Fatalf("pass: %v", err)
		}
	}
	s.ledger.onOutbox = nil
	if _, err := r.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	account, err := s.engine.Item(t.Context(), 2)
	if err != nil || account.Stock != 15 || len(s.ledger.owed()) != 0 {
		t.Errorf("stock %d, outbox %v, %v; want 15 and nothing", account.Stock, s.ledger.owed(), err)
	}
}

// A wake-up carries a row out at once, and without one the poll does.
func TestRelay_Wakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ledger := newFakeLedger()
		e := &fakeEngine{}
		r := newTestRelay(t, ledger, e)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx, t.Context()) }()
		synctest.Wait()

		began := time.Now()
		ledger.mu.Lock()
		ledger.owe(release(1, 1))
		ledger.mu.Unlock()
		r.wake.set()
		synctest.Wait()
		if len(ledger.owed()) != 0 || time.Since(began) != 0 {
			t.Errorf("woken: outbox %v after %s", ledger.owed(), time.Since(began))
		}

		ledger.mu.Lock()
		ledger.owe(release(1, 2))
		ledger.mu.Unlock()
		time.Sleep(r.config.RelayEvery) // of the bubble's clock
		synctest.Wait()
		if len(ledger.owed()) != 0 {
			t.Errorf("polled: outbox %v", ledger.owed())
		}

		// What the last batch of a consumer owes is carried out before the end.
		ledger.mu.Lock()
		ledger.owe(release(1, 3))
		ledger.mu.Unlock()
		cancel()
		<-done
		if len(ledger.owed()) != 0 {
			t.Errorf("stopped: outbox %v", ledger.owed())
		}
	})
}

// Orders are cancelled at their deadline, whether it is a second or an hour away, also when
// the order appears while the canceller sleeps, and the relay is woken.
func TestCanceller_Deadlines(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			ledger := newFakeLedger()
			ledger.items[1].PayTimeout = timeout
			type told struct {
				after   time.Duration
				results []flashsale.Result
			}
			tells := make(chan told, 10)
			var began time.Time
			metrics, err := newMetrics(nil)
			if err != nil {
				t.Fatal(err)
			}
			c := newCanceller(Config{Ledger: ledger, Logger: slog.New(slog.DiscardHandler), CancelEvery: time.Second},
				func(_ context.Context, results []flashsale.Result) { tells <- told{time.Since(began), results} },
				metrics, newWake(), newWake())
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); c.run(ctx, t.Context()) }()

			time.Sleep(300 * time.Millisecond) // of the bubble's clock: in the middle of a wait
			began = time.Now()
			ledger.store([]flashsale.Order{{OrderNo: 5, ItemID: 1, User: "ann", Quantity: 1}})
			got := <-tells
			if got.after < timeout || got.after > timeout+cancelPauseMin {
				t.Errorf("cancelled after %s, want %s", got.after, timeout)
			}
			want := flashsale.Result{OrderNo: 5, User: "ann", Status: flashsale.Cancelled, Reason: "pay_timeout"}
			if len(got.results) != 1 || got.results[0] != want {
				t.Errorf("told %+v", got.results)
			}
			select {
			case <-c.relayWake:
			default:
				t.Error("relay was not woken")
			}
			cancel()
			<-done
			if len(tells) != 0 {
				t.Error("told again")
			}
		})
	}
}

// A worker cancels what is not paid, tells it, and gives the units back.
func TestWorker_PayTimeout(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.ledger.addItem(2, 1)
	s.ledger.items[2].PayTimeout = 50 * time.Millisecond
	if err := NewPreheater(s.ledger, s.engine, nil).PreheatSale(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancelled := make(chan flashsale.Result, 10)
	config := s.config()
	config.OnResults = func(results []flashsale.Result) {
		for _, r := range results {
			if r.Status == flashsale.Cancelled {
				cancelled <- r
			}
		}
	}
	w := s.start(config)
	for _, user := range []string{"ann", "bob"} { // bob gets the unit that ann did not pay
		var reply engine.Reply
		stacktest.Eventually(t, patience, func() (err error) {
			reply, err = s.engine.Reserve(t.Context(), engine.Request{Item: 2, User: user, Quantity: 1})
			if err == nil && reply.Outcome != flashsale.Accepted {
				err = fmt.Errorf("%s: %s", user, reply.Outcome)
			}
			return err
		})
		select {
		case r := <-cancelled:
			if r.OrderNo != reply.OrderNo || r.User != user {
				t.Errorf("cancelled %+v, want order %d of %s", r, reply.OrderNo, user)
			}
		case <-time.After(patience):
			t.Fatalf("order of %s is not cancelled", user)
		}
	}
	s.waitDrained()
	w.halt()
	if owed := s.ledger.owed(); len(owed) != 0 {
		t.Errorf("outbox %v after the stop", owed)
	}
}
