package worker

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// An item of which more is sold, or on sale, than there is gets paused, in the ledger and
// through the relay in Redis, once; stranded units pause nothing, nor does a worker that was
// told not to.
func TestAuditWatcher_Pauses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		plant func(s *setup)
		off   bool
		gap   float64
		want  bool
	}{
		{"surplus", func(s *setup) { s.client.HIncrBy(s.t.Context(), engine.ItemKey(0, 1), "stock", 3) }, false, 3, true},
		{"oversold", func(s *setup) {
			s.ledger.items[1].Total, s.ledger.items[1].Stock = 15, 0
			s.client.HSet(s.t.Context(), engine.ItemKey(0, 1), "stock", -5)
		}, false, 0, true},
		{"stranded", func(s *setup) { s.client.HIncrBy(s.t.Context(), engine.ItemKey(0, 1), "stock", -3) }, false, -3, false},
		{"turned off", func(s *setup) { s.client.HIncrBy(s.t.Context(), engine.ItemKey(0, 1), "stock", 3) }, true, 3, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.sale(50, 20)
			s.persist()
			test.plant(s)
			config := s.config()
			config.AuditEvery = 10 * time.Millisecond
			if test.off {
				config.PauseOnOversell = new(false)
			}
			w := s.start(config)
			broken := "3"
			if test.gap == 0 {
				broken = "1"
			}
			stacktest.Eventually(t, patience, func() error { return counted(w.metrics.broken.WithLabelValues(broken), 1) })
			wantMetric(t, "gap", w.metrics.gap.WithLabelValues("1"), test.gap)
			if test.want {
				asked := 0
				stacktest.Eventually(t, patience, func() error { // who holds nothing: each time somebody else
					asked++
					if got := s.ask(t, "passer-by-"+strconv.Itoa(asked), ""); got.Outcome != flashsale.Paused {
						return fmt.Errorf("%s, want paused", got.Outcome)
					}
					return nil
				})
				stacktest.Eventually(t, patience, func() error {
					if owed := s.ledger.owed(); len(owed) > 0 {
						return errors.New("the pause is owed")
					}
					return nil
				})
			}
			w.halt()
			if got := s.ledger.item(1).Paused; got != test.want {
				t.Errorf("paused %v, want %v", got, test.want)
			}
			if test.want {
				wantMetric(t, "pauses", w.metrics.paused, 1)
			}
		})
	}
}

// An item behind a fence is nobody's oversell: its sum is not judged, but it is not at rest.
func TestAudit_Fenced(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 20)
	s.persist()
	s.client.Del(t.Context(), engine.ItemKey(0, 1))
	if _, err := s.engine.Fence(t.Context(), 1, "fence"); err != nil {
		t.Fatal(err)
	}
	report, err := s.auditor(50*time.Millisecond).Audit(t.Context(), AuditScope{})
	if err != nil {
		t.Fatal(err)
	}
	if numbers, lines := brokenBy(report); len(numbers) != 1 || numbers[0] != atRest {
		t.Errorf("broken %v\n%s", numbers, lines)
	}
}
