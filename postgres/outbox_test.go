package postgres

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"flashsale"
)

// relay runs Outbox with an fn that carries out the rows that it is told to, and returns the
// ids that it was handed.
func (b *books) relay(limit int, carryOut func(flashsale.OutboxRow) bool) (handed []int64, handled int) {
	b.t.Helper()
	handled, err := b.Outbox(b.ctx, limit, func(rows []flashsale.OutboxRow) (done []int64, err error) {
		for _, row := range rows {
			handed = append(handed, row.ID)
			if carryOut(row) {
				done = append(done, row.ID)
			}
		}
		return done, nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return handed, handled
}

func all(flashsale.OutboxRow) bool { return true }

// Each kind of effect arrives whole and in order, again until it is done, and never after.
func TestOutbox(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 3)
	order := b.order(item.ID, "ada", 2)
	b.persist(order, b.order(item.ID, "bob", 4))
	if _, err := b.Cancel(b.ctx, order.OrderNo, "ada"); err != nil {
		t.Fatal(err)
	}
	for _, paused := range []bool{true, false} {
		if got, err := b.SetPaused(b.ctx, item.ID, paused); err != nil || got.Paused != paused {
			t.Fatal(got, err)
		}
	}
	if _, err := b.Restock(b.ctx, item.ID, 5); err != nil {
		t.Fatal(err)
	}
	want := []flashsale.OutboxRow{
		{ID: 1, Kind: flashsale.Release, ItemID: item.ID, OrderNo: 2, User: "bob", Quantity: 4},
		{ID: 2, Kind: flashsale.Release, ItemID: item.ID, OrderNo: 1, User: "ada", Quantity: 2},
		{ID: 3, Kind: flashsale.Pause, ItemID: item.ID},
		{ID: 4, Kind: flashsale.Resume, ItemID: item.ID},
		{ID: 5, Kind: flashsale.Restock, ItemID: item.ID, Quantity: 5},
	}
	if f := b.figures(item.ID); f.OwedUnits != 4+2+5 {
		t.Errorf("%d units owed", f.OwedUnits)
	}
	for range 2 { // nothing done: the same again
		handled, err := b.Outbox(b.ctx, 10, func(rows []flashsale.OutboxRow) ([]int64, error) {
			if !reflect.DeepEqual(rows, want) {
				t.Errorf("got  %+v\nwant %+v", rows, want)
			}
			return nil, nil
		})
		if handled != 0 || err != nil {
			t.Error(handled, err)
		}
	}
	if handed, handled := b.relay(2, all); handled != 2 || !slices.Equal(handed, []int64{1, 2}) {
		t.Errorf("handed %v, handled %d", handed, handled)
	}
	// An error after some were done keeps what was done.
	cause := errors.New("redis is away")
	handled, err := b.Outbox(b.ctx, 10, func(rows []flashsale.OutboxRow) ([]int64, error) {
		return []int64{rows[0].ID}, cause
	})
	if handled != 1 || !errors.Is(err, cause) {
		t.Error(handled, err)
	}
	if handed, handled := b.relay(10, all); handled != 2 || !slices.Equal(handed, []int64{4, 5}) {
		t.Errorf("handed %v, handled %d", handed, handled)
	}
	if handed, _ := b.relay(10, all); len(handed) > 0 {
		t.Errorf("after everything: %v", handed)
	}
	if f := b.figures(item.ID); f.OwedUnits != 0 {
		t.Errorf("%d units owed", f.OwedUnits)
	}
}

// Two relays at once would carry the rows of an item out of order: the second one is told that
// there is nothing to do, and works when the first is through.
func TestOutbox_OneRelay(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	if _, err := b.Restock(b.ctx, item.ID, 5); err != nil {
		t.Fatal(err)
	}
	other := b.open(Config{})
	_, handled := b.relay(10, func(flashsale.OutboxRow) bool {
		handled, err := other.Outbox(b.ctx, 10, func([]flashsale.OutboxRow) ([]int64, error) {
			t.Error("two relays at work")
			return nil, nil
		})
		if handled != 0 || err != nil {
			t.Error(handled, err)
		}
		return false
	})
	if handled != 0 {
		t.Errorf("handled %d", handled)
	}
	handled, err := other.Outbox(b.ctx, 10, func(rows []flashsale.OutboxRow) ([]int64, error) {
		return []int64{rows[0].ID}, nil
	})
	if handled != 1 || err != nil {
		t.Error(handled, err)
	}
}

// A relay that is told to stop while it works, or that dies, loses no row and leaves no lock.
func TestOutbox_Interrupted(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	for range 2 {
		if _, err := b.Restock(b.ctx, item.ID, 5); err != nil {
			t.Fatal(err)
		}
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		b.relay(10, func(flashsale.OutboxRow) bool { panic("relay") })
	}()
	ctx, cancel := context.WithCancel(b.ctx)
	handled, err := b.Outbox(ctx, 1, func(rows []flashsale.OutboxRow) ([]int64, error) {
		cancel() // what is carried out by now is still taken off
		return []int64{rows[0].ID}, nil
	})
	if handled != 1 || err != nil {
		t.Error(handled, err)
	}
	if handed, _ := b.relay(10, all); !slices.Equal(handed, []int64{2}) {
		t.Errorf("handed %v", handed)
	}
}

// An item that cannot take its rows now (it is being rebuilt) does not hold up the others, and
// gets its turn, in order, when they are drained.
func TestOutbox_BlockedItem(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	blocked, other := b.item(10, 1), b.item(10, 1)
	for n := range 12 {
		item := blocked
		if n >= 6 {
			item = other
		}
		if _, err := b.Restock(b.ctx, item.ID, 1); err != nil {
			t.Fatal(err)
		}
	}
	ready := func(row flashsale.OutboxRow) bool { return row.ItemID == other.ID }
	for _, want := range [][]int64{{1, 2, 3, 4}, {7, 8, 9, 10}, {11, 12}, {1, 2, 3, 4}} {
		if handed, _ := b.relay(4, ready); !slices.Equal(handed, want) {
			t.Errorf("handed %v, want %v", handed, want)
		}
	}
	var got []int64
	for range 4 {
		handed, _ := b.relay(4, all)
		got = append(got, handed...)
	}
	if !slices.Equal(got, []int64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("once ready: %v", got)
	}
}

// Restocks of one item are numbered in the order of their commits, however many come at once:
// Redis takes a number below the last one for done, and its units would be lost.
func TestRestock_NumbersAscend(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	const restocks = 40
	errs := make(chan error, restocks)
	for range restocks {
		go func() {
			_, err := b.Restock(b.ctx, item.ID, 1)
			errs <- err
		}()
	}
	var last int64
	for finished := 0; finished < restocks; {
		select {
		case err := <-errs:
			if err != nil {
				t.Fatal(err)
			}
			finished++
		default:
		}
		b.relay(3, func(row flashsale.OutboxRow) bool {
			if row.ID <= last {
				t.Errorf("restock %d appeared after %d", row.ID, last)
			}
			last = row.ID
			return true
		})
	}
	if f := b.figures(item.ID); f.Total != 50 || f.Stock != 50 {
		t.Errorf("total %d, stock %d", f.Total, f.Stock)
	}
}

// What is asked of stock that cannot be is refused without a trace.
func TestStock_Refused(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	for _, add := range []int64{0, -1, flashsale.StockMax, flashsale.StockMax + 1} {
		if _, err := b.Restock(b.ctx, item.ID, add); !errors.Is(err, flashsale.ErrConflict) {
			t.Errorf("restock by %d: %v", add, err)
		}
	}
	if _, err := b.Restock(b.ctx, 4711, 1); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("restock of no item: %v", err)
	}
	if _, err := b.SetPaused(b.ctx, 4711, true); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("pause of no item: %v", err)
	}
	if f := b.figures(item.ID); f.Total != 10 || f.Stock != 10 || f.OwedUnits != 0 {
		t.Errorf("%+v", f)
	}
}

// What is owed to one item can be carried out at once by whoever has just changed it: in order, without
// what others are owed, struck off where it was done, and never while a relay is at work.
func TestItemOutbox(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item, other := b.item(10, 1), b.item(10, 1)
	for _, id := range []flashsale.ItemID{item.ID, other.ID} {
		for _, paused := range []bool{true, false} {
			if _, err := b.SetPaused(b.ctx, id, paused); err != nil {
				t.Fatal(err)
			}
		}
	}
	var kinds []flashsale.OutboxKind
	carry := func(n int, fault error) func([]flashsale.OutboxRow) ([]int64, error) {
		return func(rows []flashsale.OutboxRow) (done []int64, err error) {
			kinds = nil
			for _, row := range rows {
				if kinds = append(kinds, row.Kind); row.ItemID != item.ID {
					t.Errorf("handed out %+v", row)
				}
			}
			for _, row := range rows[:n] {
				done = append(done, row.ID)
			}
			return done, fault
		}
	}
	relaying, relayed := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_, err := b.Outbox(b.ctx, 10, func([]flashsale.OutboxRow) ([]int64, error) {
			close(relaying)
			<-relayed
			return nil, nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-relaying
	impatient := b.open(Config{LockTimeout: 50 * time.Millisecond})
	if err := impatient.ItemOutbox(b.ctx, item.ID, carry(2, nil)); err == nil || kinds != nil {
		t.Errorf("beside a relay: %v, handed out %v", err, kinds)
	}
	close(relayed)
	all.Wait()

	fault := errors.New("away")
	if err := b.ItemOutbox(b.ctx, item.ID, carry(1, fault)); !errors.Is(err, fault) {
		t.Error(err)
	}
	if !slices.Equal(kinds, []flashsale.OutboxKind{flashsale.Pause, flashsale.Resume}) {
		t.Errorf("handed out %v", kinds)
	}
	if err := b.ItemOutbox(b.ctx, item.ID, carry(1, nil)); err != nil || !slices.Equal(kinds, []flashsale.OutboxKind{flashsale.Resume}) {
		t.Errorf("then %v, %v", kinds, err)
	}
	if n := b.count(`SELECT count(*) FROM outbox`); n != 2 {
		t.Errorf("%d rows are left, want the other item's", n)
	}
}
