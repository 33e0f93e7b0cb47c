package worker

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// longOver makes it look as if the item had closed more than a day ago.
func (l *fakeLedger) longOver(id flashsale.ItemID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items[id].ClosesAt = time.Now().Add(-flashsale.KeptAfterClose - time.Second)
}

// inRedis reports which of an item's two keys Redis holds.
func (s *setup) inRedis(id flashsale.ItemID) int64 {
	s.t.Helper()
	n, err := s.client.Exists(s.t.Context(), engine.ItemKey(0, id), engine.BuyersKey(0, id)).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// A day after its close an item leaves Redis by itself, with its buyers and its series of metrics;
// one that is not over, or not right, stays. Afterwards the audit finds all of it in order, and
// whatever is changed of its orders.
func TestRetirer(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.ledger.addItem(2, 10)
	s.ledger.addItem(3, 10)
	s.sale(50, 20)
	s.persist()
	s.client.HSet(t.Context(), engine.BuyersKey(0, 3), "mallory", "77 1 ")
	s.ledger.longOver(1)
	s.ledger.longOver(3)
	s.client.HSet(t.Context(), engine.ItemKey(0, 3), "closes_at_ms", s.ledger.item(3).ClosesAt.UnixMilli())

	config := s.config()
	config.RetireEvery, config.AuditEvery = 10*time.Millisecond, 10*time.Millisecond
	w := s.start(config)
	stacktest.Eventually(t, patience, func() error {
		if n := s.inRedis(1); n > 0 {
			return fmt.Errorf("redis holds %d keys of the item", n)
		}
		if items, _ := s.ledger.Unsettled(t.Context(), 9); len(items) > 0 {
			return fmt.Errorf("not settled: %v", items)
		}
		return errors.Join(counted(w.metrics.retired, 1), counted(w.metrics.broken.WithLabelValues("4"), 1))
	})
	w.halt()
	if s.inRedis(2) != 1 || s.inRedis(3) != 2 {
		t.Errorf("redis holds %d keys of an item on sale, and %d of one with a foreign buyer", s.inRedis(2), s.inRedis(3))
	}
	if seal := s.ledger.seals[1][1]; seal.Orders != 20 || !s.ledger.settled[1] || s.ledger.settled[3] {
		t.Errorf("sealed: %+v, settled: %v", seal, s.ledger.settled)
	}

	s.client.Del(t.Context(), engine.BuyersKey(0, 3))
	a := s.auditor(time.Millisecond)
	report, err := a.Audit(t.Context(), AuditScope{})
	if err != nil || !report.OK || len(report.Items) != 2 {
		t.Errorf("audit of what is live: %v\n%s", err, report)
	}
	var progress AuditProgress
	scope := AuditScope{Full: true, Progress: func(p AuditProgress) { progress = p }}
	report, err = a.Audit(t.Context(), scope)
	if err != nil || !report.OK || len(report.Items) != 3 || progress != (AuditProgress{Items: 3, Orders: 20}) {
		t.Errorf("audit of all: %v, %+v\n%s", err, progress, report)
	}
	for no, order := range s.ledger.orders {
		order.User = "mallory"
		s.ledger.orders[no] = order
		break
	}
	report, err = a.Audit(t.Context(), scope)
	if err != nil {
		t.Fatal(err)
	}
	if numbers, lines := brokenBy(report); fmt.Sprint(numbers) != "[4]" {
		t.Errorf("broken %v\n%s", numbers, lines)
	}
}

// An item whose orders wait in the stream, or among the dead letters, is not over yet.
func TestRetirer_Waiting(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 3)
	s.ledger.longOver(1)
	config := s.config()
	metrics, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := newRetirer(config, s.auditor(time.Millisecond), newLocker(s.client), metrics)
	if err := r.pass(t.Context()); err != nil || s.inRedis(1) != 2 {
		t.Errorf("with orders in the stream: %d keys, %v", s.inRedis(1), err)
	}
	s.persist()
	for range 2 { // the second finds nothing
		if err := r.pass(t.Context()); err != nil || s.inRedis(1) != 0 {
			t.Errorf("at rest: %d keys, %v", s.inRedis(1), err)
		}
	}
	wantMetric(t, "retired", metrics.retired, 1)
}
