package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

func (s *setup) auditor(settle time.Duration) *Auditor {
	s.t.Helper()
	a, err := NewAuditor(AuditorConfig{Engine: s.engine, Ledger: s.ledger, RedisURL: s.url, Settle: settle})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = a.Close() })
	return a
}

// sale loads item 1 with the given stock and lets users buy, with or without a worker.
func (s *setup) sale(stock int64, users int) {
	s.t.Helper()
	s.ledger.addItem(1, stock)
	if err := NewPreheater(s.ledger, s.engine, nil).PreheatSale(s.t.Context(), 1); err != nil {
		s.t.Fatal(err)
	}
	for n := range users {
		reply, err := s.engine.Reserve(s.t.Context(), engine.Request{Item: 1, User: fmt.Sprintf("user-%d", n), Quantity: 1})
		if err != nil || reply.Outcome != flashsale.Accepted {
			s.t.Fatalf("reserve: %+v, %v", reply, err)
		}
	}
}

// brokenBy returns the numbers of the broken invariants and their lines.
func brokenBy(r Report) (numbers []int, lines string) {
	for _, i := range r.Invariants {
		if !i.OK {
			numbers = append(numbers, i.Number)
			lines += strings.Join(i.Broken, "\n") + "\n"
		}
	}
	return numbers, lines
}

// A sale that is persisted and at rest is clean, to the unit.
func TestAudit_Clean(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 20)
	s.ledger.addItem(2, 10) // never loaded
	w := s.start(s.config())
	s.waitDrained()
	report, err := s.auditor(time.Second).Audit(t.Context(), AuditScope{})
	if err != nil || !report.OK || report.Moving {
		t.Fatalf("%v\n%s", err, report)
	}
	w.halt()
	for _, item := range report.Items {
		if item.ItemID == 1 && (item.RedisStock != 30 || item.LiveUnits != 20 || item.Slack != 0) {
			t.Errorf("item 1: %+v", item)
		}
	}
	text, err := json.Marshal(report)
	if err != nil || !strings.Contains(string(text), `"item":"1"`) || !strings.Contains(string(text), `"number":6`) {
		t.Errorf("JSON %s, %v", text, err)
	}
}

// Orders that wait in the stream are accounted for; that they wait breaks only the rest.
func TestAudit_StreamCounts(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(2000, 1500) // more than a page
	report, err := s.auditor(50*time.Millisecond).Audit(t.Context(), AuditScope{})
	if err != nil {
		t.Fatal(err)
	}
	if numbers, lines := brokenBy(report); fmt.Sprint(numbers) != "[6]" {
		t.Errorf("broken %v\n%s", numbers, lines)
	}
	if report.Stream != 1500 || report.Items[0].StreamUnits != 1500 || report.Items[0].Gap != 0 {
		t.Errorf("report\n%s", report)
	}
}

// A sold-out flag that a node keeps up although there are units is found; one that only its last telling
// has, or that a node held up which tells no more, is none.
func TestAudit_Flags(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 20)
	w := s.start(s.config())
	s.waitDrained()
	w.halt()
	audit := func() (numbers []int, lines string) {
		t.Helper()
		report, err := s.auditor(50*time.Millisecond).Audit(t.Context(), AuditScope{})
		if err != nil {
			t.Fatal(err)
		}
		return brokenBy(report)
	}
	s.client.HSet(t.Context(), engine.FlagsKey, "ended/1", "7 1 1000000000", "odd/1", "7 1", "text/1", "seven one two")
	if numbers, lines := audit(); len(numbers) > 0 {
		t.Errorf("a node that has ended: broken %v\n%s", numbers, lines)
	}
	telling, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for told := 1; telling.Err() == nil; told++ {
			s.client.HSet(t.Context(), engine.FlagsKey, "stuck/1", fmt.Sprint(told, " 1 1000000000"))
			pause(telling, 100*time.Millisecond)
		}
	}()
	stacktest.Eventually(t, patience, func() error {
		return s.client.HGet(t.Context(), engine.FlagsKey, "stuck/1").Err()
	})
	if numbers, lines := audit(); fmt.Sprint(numbers) != "[6]" || !strings.Contains(lines, "item 1: node stuck/1 says sold out by epoch 1000000000, while 30 units") {
		t.Errorf("broken %v\n%s", numbers, lines)
	}
}

// Each planted break is found, named by its invariant and nothing else.
func TestAudit_Breaks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		plant func(s *setup)
		want  string // numbers
		line  string
	}{
		{"oversell", func(s *setup) {
			s.ledger.items[1].Total, s.ledger.items[1].Stock = 15, 0
			s.client.HSet(s.t.Context(), engine.ItemKey(0, 1), "stock", -5)
		}, "[1 3]", "oversold, 20 units in live orders of 15"},
		{"ledger account", func(s *setup) { s.ledger.items[1].Stock-- }, "[3]", "do not add up"},
		{"stranded", func(s *setup) {
			s.client.HIncrBy(s.t.Context(), engine.ItemKey(0, 1), "stock", -2)
		}, "[3]", "2 units stranded: redis 28 + live 20"},
		{"surplus", func(s *setup) {
			s.client.HIncrBy(s.t.Context(), engine.ItemKey(0, 1), "stock", 1)
		}, "[3]", "1 units too many"},
		{"lost", func(s *setup) { s.client.Del(s.t.Context(), engine.ItemKey(0, 1)) }, "[3]", "flashsale sale rebuild"},
		{"generation", func(s *setup) { s.ledger.items[1].Generation = 2 }, "[3]", "generation 1, the ledger 2"},
		{"rolled back", func(s *setup) {
			s.client.HSet(s.t.Context(), engine.ItemKey(0, 1), "seq", 7)
		}, "[3]", "Redis lost writes"},
		{"outbox", func(s *setup) {
			s.ledger.owe(flashsale.OutboxRow{Kind: flashsale.Pause, ItemID: 1})
		}, "[6]", "1 outbox rows"},
		{"dead letter", func(s *setup) {
			s.client.HIncrBy(s.t.Context(), engine.ItemKey(0, 1), "stock", -1)
			s.client.XAdd(s.t.Context(), &redis.XAddArgs{Stream: engine.DeadKey(0), Values: entryFields(999, 999)})
		}, "[3]", "1 dead letters hold units"},
		{"stream", func(s *setup) {
			s.client.HIncrBy(s.t.Context(), engine.ItemKey(0, 1), "stock", -1)
			s.client.XAdd(s.t.Context(), &redis.XAddArgs{Stream: engine.OrdersKey(0), Values: entryFields(999, 999)})
		}, "[6]", "1 stream entries (0 unreadable), 0 pending"},
		{"waiting", func(s *setup) {
			s.client.Set(s.t.Context(), engine.WaitingKey(0), 7, 0)
		}, "[6]", "fs:{0}:waiting says 7 orders, fs:{0}:orders holds 0"},
		{"waiting of a wrong type", func(s *setup) {
			s.client.Del(s.t.Context(), engine.WaitingKey(0))
			s.client.RPush(s.t.Context(), engine.WaitingKey(0), 7)
		}, "[6]", "fs:{0}:waiting is not a string"},
		{"waiting that is no number", func(s *setup) {
			s.client.Set(s.t.Context(), engine.WaitingKey(0), "seven", 0)
		}, "[6]", `fs:{0}:waiting is "seven"`},
		{"unreadable", func(s *setup) {
			s.client.XAdd(s.t.Context(), &redis.XAddArgs{Stream: engine.OrdersKey(0), Values: []string{"a", "b"}})
		}, "[6]", "1 unreadable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.sale(50, 20)
			w := s.start(s.config())
			s.waitDrained()
			w.halt()
			a := s.auditor(50 * time.Millisecond)
			if report, err := a.Audit(t.Context(), AuditScope{}); err != nil || !report.OK {
				t.Fatalf("before the plant: %v\n%s", err, report)
			}
			test.plant(s)
			report, err := a.Audit(t.Context(), AuditScope{})
			if err != nil {
				t.Fatal(err)
			}
			if numbers, lines := brokenBy(report); fmt.Sprint(numbers) != test.want || !strings.Contains(lines, test.line) {
				t.Errorf("broken %v\n%swant %s with %q", numbers, lines, test.want, test.line)
			}
		})
	}
}

// A release that stands although its row is not struck off counts twice, which is no gap.
func TestAudit_ReleaseBeforeStrike(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 1)
	w := s.start(s.config())
	s.waitDrained()
	w.halt()
	s.ledger.onOutbox = func() error { return errAway }
	for no, order := range s.ledger.orders {
		order.PayDeadline = time.Now()
		s.ledger.orders[no] = order
	}
	if _, err := s.ledger.CancelDue(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := newTestRelay(t, s.ledger, s.engine).pass(t.Context()); err == nil {
		t.Fatal("the row was struck off")
	}
	report, err := s.auditor(50*time.Millisecond).Audit(t.Context(), AuditScope{})
	if err != nil {
		t.Fatal(err)
	}
	if numbers, lines := brokenBy(report); fmt.Sprint(numbers) != "[6]" {
		t.Errorf("broken %v\n%s", numbers, lines)
	}
}

// An audit in the middle of a sale, with reservations, commits, cancellations and releases
// going on, never cries wolf; afterwards it is exact.
func TestAudit_LiveSale(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(200, 0)
	s.ledger.items[1].PayTimeout = 30 * time.Millisecond
	config := s.config()
	config.CancelEvery, config.RelayEvery, config.Linger = 5*time.Millisecond, 5*time.Millisecond, -1
	s.start(config)

	ctx, cancel := context.WithCancel(t.Context())
	var shoppers sync.WaitGroup
	for n := range 8 {
		shoppers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				user := fmt.Sprintf("user-%d-%d", n, i)
				if _, err := s.engine.Reserve(ctx, engine.Request{Item: 1, User: user, Quantity: 1}); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	a := s.auditor(20 * time.Millisecond)
	for range 40 {
		report, err := a.Audit(t.Context(), AuditScope{})
		if err != nil {
			t.Fatal(err)
		}
		if !report.OK {
			t.Errorf("in the sale:\n%s", report)
			break
		}
	}
	cancel()
	shoppers.Wait()
	stacktest.Eventually(t, patience, func() error { // until the last deadline has passed
		report, err := a.Audit(t.Context(), AuditScope{})
		if err != nil {
			return err
		}
		if !report.OK || report.Moving || report.Items[0].Slack != 0 || report.Items[0].RedisStock != 200 {
			return fmt.Errorf("after the sale:\n%s", report)
		}
		return nil
	})
}

// reports answers as Money, one report after another, and the last one for ever.
type reports []flashsale.MoneyReport

func (r *reports) Money(context.Context, flashsale.OrderNo) (flashsale.MoneyReport, error) {
	next := (*r)[0]
	if len(*r) > 1 {
		*r = (*r)[1:]
	}
	return next, nil
}

// Invariant 5 is judged when there is money to look at: sums at once, a contradiction once two
// looks in a row have it, because a payment under way looks like one.
func TestAudit_Money(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	fine := []flashsale.MoneyFigures{{Method: flashsale.Alipay, Received: 6, Held: 1, Refunding: 2, Refunded: 3}}
	wrong := []flashsale.MoneyFigures{{Method: flashsale.Points, Received: 7, Held: 1, Refunding: 2, Refunded: 3}}
	with := func(figures []flashsale.MoneyFigures, broken ...string) flashsale.MoneyReport {
		return flashsale.MoneyReport{Figures: figures, Broken: broken, Open: 2}
	}
	for name, c := range map[string]struct {
		money  reports
		broken int
	}{
		"sound":       {reports{with(fine)}, 0},
		"sums differ": {reports{with(wrong)}, 1},
		"seen once":   {reports{with(fine, "a"), with(fine, "b")}, 0},
		"seen twice":  {reports{with(fine, "a", "b"), with(fine, "b")}, 1},
	} {
		a := s.auditor(time.Millisecond)
		a.config.Money = &c.money
		report, err := a.Audit(t.Context(), AuditScope{})
		if err != nil {
			t.Fatal(err)
		}
		found := -1
		for n, invariant := range report.Invariants {
			if invariant.Number == moneyAddsUp {
				found = len(invariant.Broken)
				if n != len(report.Invariants)-2 {
					t.Errorf("%s: invariant 5 is the %dth line", name, n)
				}
			}
		}
		if found != c.broken || report.Paying != 2 || len(report.Money) != 1 {
			t.Errorf("%s: broken %d, want %d: %+v", name, found, c.broken, report)
		}
	}
}
