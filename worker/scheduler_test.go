package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// plan puts an item of a sale of its own, with the same number, into the ledger.
func (l *fakeLedger) plan(id flashsale.ItemID, opensAt, closesAt time.Time) {
	l.addItem(id, 10)
	l.mu.Lock()
	defer l.mu.Unlock()
	item := l.items[id]
	item.SaleID, item.OpensAt, item.ClosesAt = flashsale.SaleID(id), opensAt, closesAt
}

func (s *setup) newScheduler(t *testing.T, before time.Duration) *scheduler {
	t.Helper()
	metrics, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	config := s.config()
	config.PreheatBefore = before
	return newScheduler(config, newLocker(s.client), metrics, newWake())
}

func (s *setup) loaded(t *testing.T, id flashsale.ItemID) bool {
	t.Helper()
	_, err := s.engine.Item(t.Context(), id)
	if err != nil && !errors.Is(err, flashsale.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// What opens soon is loaded, and what is open already; what opens later or is over is not.
func TestScheduler_Due(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	now := time.Now()
	delete(s.ledger.items, 1)
	s.ledger.plan(2, now.Add(time.Minute), now.Add(time.Hour))
	s.ledger.plan(3, now.Add(-time.Minute), now.Add(time.Hour))
	s.ledger.plan(4, now.Add(10*time.Minute), now.Add(time.Hour))
	s.ledger.plan(5, now.Add(-time.Hour), now.Add(-time.Minute))
	scheduler := s.newScheduler(t, 5*time.Minute)
	for range 2 {
		if err := scheduler.pass(t.Context(), t.Context()); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[flashsale.ItemID]bool{2: true, 3: true, 4: false, 5: false} {
			if got := s.loaded(t, id); got != want {
				t.Errorf("item %d loaded: %v, want %v", id, got, want)
			}
		}
	}
	wantMetric(t, "preheated", scheduler.metrics.preheated, 2)
}

// countingLedger counts the loads of each item.
type countingLedger struct {
	*fakeLedger
	loads atomic.Int32
}

func (l *countingLedger) Load(ctx context.Context, id flashsale.ItemID, fn func(flashsale.Item, bool) error) error {
	l.loads.Add(1)
	return l.fakeLedger.Load(ctx, id, fn)
}

// Many workers load a sale once.
func TestScheduler_OneWorker(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	ledger := &countingLedger{fakeLedger: s.ledger}
	var workers sync.WaitGroup
	for range 8 {
		scheduler := s.newScheduler(t, time.Minute)
		scheduler.config.Ledger = ledger
		scheduler.preheater = NewPreheater(ledger, s.engine, nil)
		workers.Go(func() {
			if err := scheduler.pass(t.Context(), t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	workers.Wait()
	if got := ledger.loads.Load(); got != 1 || !s.loaded(t, 1) {
		t.Errorf("loaded %d times", got)
	}
}

// A worker loads by itself what is announced while it runs, tries again when the ledger comes
// back, and does not let one sale's fault keep the others.
func TestWorker_PreheatsOnSchedule(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	now := time.Now()
	s.client.HSet(t.Context(), engine.BuyersKey(0, 2), "ann", "1 1 ") // refuses item 2 for ever
	s.ledger.plan(2, now, now.Add(time.Hour))
	s.ledger.setAway(true)
	config := s.config()
	config.PreheatBefore = PreheatBeforeMin
	w := s.start(config)
	stacktest.Eventually(t, patience, func() error {
		if s.loaded(t, 1) {
			t.Fatal("loaded without the ledger")
		}
		return counted(w.metrics.faults.WithLabelValues("scheduler"), 1)
	})
	s.ledger.plan(3, now.Add(time.Second), now.Add(time.Hour))
	s.ledger.setAway(false)
	w.Wake()
	stacktest.Eventually(t, patience, func() error {
		if !s.loaded(t, 1) || !s.loaded(t, 3) {
			return errors.New("not loaded")
		}
		return nil
	})
	if s.loaded(t, 2) {
		t.Error("item 2 was loaded over its buyers")
	}
	s.ledger.plan(4, now, now.Add(time.Hour))
	w.Wake()
	stacktest.Eventually(t, patience, func() error {
		if !s.loaded(t, 4) {
			return errors.New("not loaded")
		}
		return nil
	})
	reply, err := s.engine.Reserve(t.Context(), engine.Request{Item: 4, User: "ann", Quantity: 1})
	if err != nil || reply.Outcome != flashsale.Accepted {
		t.Errorf("reserve: %+v, %v", reply, err)
	}
}
