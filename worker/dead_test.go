package worker

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

func (s *setup) deadLetters(t *testing.T) *DeadLetters {
	t.Helper()
	d, err := NewDeadLetters(DeadLettersConfig{Engine: s.engine, Ledger: s.ledger, RedisURL: s.url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// poison makes the ledger refuse the orders of users for ever, as long as it is told so.
func (s *setup) poison(users ...string) {
	s.ledger.onPersist = func(_ context.Context, orders []flashsale.Order) error {
		bad := &flashsale.UnstorableError{}
		for i, order := range orders {
			if slices.Contains(users, order.User) {
				bad.Orders = append(bad.Orders, flashsale.Unstorable{Index: i, Reason: "not storable"})
			}
		}
		if len(bad.Orders) > 0 {
			return bad
		}
		return nil
	}
}

// list wants exactly n dead letters.
func (s *setup) list(t *testing.T, d *DeadLetters, n int) []DeadLetter {
	t.Helper()
	letters, err := d.List(t.Context(), flashsale.DeadFilter{}, 100)
	if err != nil || len(letters) != n {
		t.Fatalf("%d dead letters, %v; want %d: %+v", len(letters), err, n, letters)
	}
	return letters
}

// A dead letter tells what it is. Once the cause is mended it is persisted as if nothing had
// happened; tried before that it comes back.
func TestDeadLetters_Retry(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 0)
	s.poison("ann")
	reply := s.ask(t, "ann", "the-key")
	s.ask(t, "bob", "")
	s.persist()
	d := s.deadLetters(t)
	letter := s.list(t, d, 1)[0]
	if len(letter.Fields) != 10 || letter.Fields[8] != "ann" || letter.Fields[9] != reply.OrderNo.String()+" 1 the-key" ||
		letter.Entry == "" || letter.Reason == "" || time.Since(letter.At) > time.Minute {
		t.Errorf("letter %+v", letter)
	}

	if err := d.Retry(t.Context(), letter.ID); err != nil {
		t.Fatal(err)
	}
	s.persist()
	again := s.list(t, d, 1)[0]
	if again.ID == letter.ID {
		t.Error("the letter never left")
	}
	if err := d.Retry(t.Context(), letter.ID); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("retried twice: %v", err)
	}

	s.ledger.onPersist = nil
	if err := d.Retry(t.Context(), again.ID); err != nil {
		t.Fatal(err)
	}
	s.persist()
	s.list(t, d, 0)
	if order, err := s.ledger.Order(t.Context(), reply.OrderNo); err != nil || order.Status != flashsale.Unpaid {
		t.Errorf("order %+v, %v", order, err)
	}
	s.wantClean(t)
}

// All letters go back at once, and those that come back meanwhile are not tried again; what
// holds no order is left.
func TestDeadLetters_RetryAll(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 0)
	s.poison("ann")
	for _, key := range []string{"1", "2", "3"} {
		s.client.HDel(t.Context(), engine.BuyersKey(0, 1), "ann")
		s.ask(t, "ann", key)
	}
	s.persist()
	s.client.XAdd(t.Context(), addArgs(engine.DeadKey(0), "a", "b"))
	d := s.deadLetters(t)
	s.list(t, d, 4)
	if retried, left, err := d.RetryAll(t.Context(), flashsale.DeadFilter{}); retried != 3 || left != 1 || err != nil {
		t.Errorf("retried %d, left %d, %v", retried, left, err)
	}
	s.persist()
	s.list(t, d, 4) // nothing was mended
	s.ledger.onPersist = nil
	if retried, left, err := d.RetryAll(t.Context(), flashsale.DeadFilter{}); retried != 3 || left != 1 || err != nil {
		t.Errorf("retried %d, left %d, %v", retried, left, err)
	}
	s.persist()
	s.list(t, d, 1)
	if got := len(s.ledger.orders); got != 3 {
		t.Errorf("the ledger has decided %d orders, want 3", got)
	}
}

// A dropped letter gives its units back, once, and its user may buy again.
func TestDeadLetters_Drop(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 0)
	s.poison("ann")
	s.ask(t, "ann", "")
	s.persist()
	s.client.XAdd(t.Context(), addArgs(engine.OrdersKey(0), "no", "order")) // nobody's
	s.persist()
	d := s.deadLetters(t)
	letters := s.list(t, d, 2)
	s.wantAccount(t, 49, 1, engine.StateOpen)

	if _, err := s.engine.Fence(t.Context(), 1, "fence"); err != nil {
		t.Fatal(err)
	}
	if err := d.Drop(t.Context(), letters[0].ID); !errors.Is(err, engine.ErrNotReady) {
		t.Errorf("behind a fence: %v", err)
	}
	s.list(t, d, 2)
	s.client.HSet(t.Context(), engine.ItemKey(0, 1), "state", engine.StateOpen)

	for _, letter := range letters {
		if err := d.Drop(t.Context(), letter.ID); err != nil {
			t.Fatal(err)
		}
		if err := d.Drop(t.Context(), letter.ID); !errors.Is(err, flashsale.ErrNotFound) {
			t.Errorf("dropped twice: %v", err)
		}
	}
	s.list(t, d, 0)
	s.wantAccount(t, 50, 1, engine.StateOpen)
	s.ledger.onPersist = nil
	if got := s.ask(t, "ann", ""); got.Outcome != flashsale.Accepted {
		t.Errorf("ann buys again: %s", got.Outcome)
	}
	s.persist()
	s.wantClean(t)
}

// The units of an order that the ledger holds are not given back with a spoiled copy of its
// entry; an order whose number another order has are; and an item that Redis does not hold
// keeps no letter from being dropped.
func TestDeadLetters_DropSpares(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 0)
	live := s.ask(t, "ann", "")
	s.persist()
	letter := func(reason, item, user, line string) {
		s.client.XAdd(t.Context(), addArgs(engine.DeadKey(0), "entry", "1-1", "reason", reason,
			"item", item, "gen", "1", "seq", "1", "at_ms", "x", user, line))
	}
	letter("at_ms unreadable", "1", "ann", live.OrderNo.String()+" 1 ")
	s.client.HSet(t.Context(), engine.BuyersKey(0, 1), "bob", live.OrderNo.String()+" 1 ")
	s.client.HIncrBy(t.Context(), engine.ItemKey(0, 1), "stock", -1)
	letter("number taken", "1", "bob", live.OrderNo.String()+" 1 ")
	letter("no item", "99", "cat", "123 1 ")
	d := s.deadLetters(t)
	for _, letter := range s.list(t, d, 3) {
		if err := d.Drop(t.Context(), letter.ID); err != nil {
			t.Errorf("%s: %v", letter.ID, err)
		}
	}
	s.list(t, d, 0)
	s.wantAccount(t, 49, 1, engine.StateOpen)
	if got := s.ask(t, "ann", ""); got.Outcome != flashsale.DuplicateOrder {
		t.Errorf("ann: %s", got.Outcome)
	}
	s.wantClean(t)
}

// Ids are checked before they come near Redis, and the list is bounded over the partitions.
func TestDeadLetters_Bounds(t *testing.T) {
	t.Parallel()
	s := newSetupOn(t, stacktest.Redis(t))
	d, err := NewDeadLetters(DeadLettersConfig{Engine: s.engine, Ledger: s.ledger, Partitions: 2, RedisURL: s.url})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, id := range []string{"", "1-1", "x/1-1", "0/", "0/-", "0/1", "0/(1-1", "0/1-1-1", "-1/1-1", "0/ 1-1"} {
		if err := d.Retry(t.Context(), id); !errors.Is(err, flashsale.ErrMalformedID) {
			t.Errorf("retry %q: %v", id, err)
		}
		if err := d.Drop(t.Context(), id); !errors.Is(err, flashsale.ErrMalformedID) {
			t.Errorf("drop %q: %v", id, err)
		}
	}
	if err := d.Retry(t.Context(), "2/1-1"); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("no such partition: %v", err)
	}
	for p := range 2 {
		for range 3 {
			s.client.XAdd(t.Context(), addArgs(engine.DeadKey(p), "a", "b"))
		}
	}
	for limit, want := range map[int]int{0: 0, 2: 2, 4: 4, 100: 6} {
		if letters, err := d.List(t.Context(), flashsale.DeadFilter{}, limit); err != nil || len(letters) != want {
			t.Errorf("limit %d: %d letters, %v", limit, len(letters), err)
		}
	}
	letters, err := d.List(t.Context(), flashsale.DeadFilter{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Retry(t.Context(), letters[5].ID); !errors.Is(err, flashsale.ErrConflict) {
		t.Errorf("not an entry of ours: %v", err)
	}
	if err := d.Drop(t.Context(), letters[5].ID); err != nil {
		t.Errorf("not an entry of ours: %v", err)
	}
}

// Protects what was not chosen from a bulk: by item, by reason, by id.
func TestDeadLetters_Bulk(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 0)
	s.poison("ann")
	for _, key := range []string{"1", "2", "3"} {
		s.client.HDel(t.Context(), engine.BuyersKey(0, 1), "ann")
		s.ask(t, "ann", key)
	}
	s.persist()
	s.client.XAdd(t.Context(), addArgs(engine.DeadKey(0), "entry", "1-1", "reason", "Foreign", "a", "b", "c", "d", "e", "f", "g", "h"))
	d := s.deadLetters(t)
	all := s.list(t, d, 4)
	for _, c := range []struct {
		filter flashsale.DeadFilter
		want   int
	}{
		{flashsale.DeadFilter{Item: 1}, 3},
		{flashsale.DeadFilter{Item: 2}, 0},
		{flashsale.DeadFilter{Reason: "foreign"}, 1},
		{flashsale.DeadFilter{IDs: []string{all[0].ID, "0/9-9"}}, 1},
		{flashsale.DeadFilter{Item: 1, Reason: "foreign"}, 0},
	} {
		if letters, err := d.List(t.Context(), c.filter, 100); err != nil || len(letters) != c.want {
			t.Errorf("%+v: %d letters, %v; want %d", c.filter, len(letters), err, c.want)
		}
	}
	if dropped, units, err := d.DropAll(t.Context(), flashsale.DeadFilter{IDs: []string{all[0].ID}}); dropped != 1 || units != 1 || err != nil {
		t.Errorf("dropped %d with %d units, %v", dropped, units, err)
	}
	s.list(t, d, 3)
	if dropped, _, err := d.DropAll(t.Context(), flashsale.DeadFilter{Reason: "foreign"}); dropped != 1 || err != nil {
		t.Errorf("dropped %d, %v", dropped, err)
	}
	if retried, _, err := d.RetryAll(t.Context(), flashsale.DeadFilter{Item: 1}); retried != 2 || err != nil {
		t.Errorf("retried %d, %v", retried, err)
	}
	s.list(t, d, 0)
}
