package postgres

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flashsale"
)

// A shopper's cancellation gives the units back to stock and to the allowance, and owes the
// release, for both kinds of items.
func TestCancel(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	for _, limit := range []int{1, 3} {
		item := b.item(10, limit)
		order := b.order(item.ID, "ada", limit)
		b.persist(order)
		got, err := b.Cancel(b.ctx, order.OrderNo, "ada")
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != flashsale.Cancelled || got.Reason != ReasonShopper ||
			got.Quantity != limit || got.ItemID != item.ID || !got.UpdatedAt.After(got.CreatedAt) {
			t.Errorf("cancelled order is %+v", got)
		}
		b.check()
		if f := b.figures(item.ID); f.Stock != 10 || f.OwedUnits != int64(limit) {
			t.Errorf("stock %d, owed %d", f.Stock, f.OwedUnits)
		}
		if got := b.persist(b.order(item.ID, "ada", limit)); got[0] != "unpaid" {
			t.Errorf("buying again: %s", got)
		}
	}
}

// Every state but unpaid refuses the cancellation, by the shopper and by the timeout, and
// nothing moves; so does another user's order, which looks as if there were none.
func TestCancel_Refused(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	order := b.order(item.ID, "ada", 1)
	b.persist(order)
	b.due()
	for _, status := range []flashsale.Status{
		flashsale.Paid, flashsale.Refunding, flashsale.Refunded, flashsale.Cancelled, flashsale.Rejected,
	} {
		b.exec(`UPDATE orders SET status = $1`, string(status))
		got, err := b.Cancel(b.ctx, order.OrderNo, "ada")
		if !errors.Is(err, flashsale.ErrConflict) || got.Status != status {
			t.Errorf("%s: %+v, %v", status, got, err)
		}
		if due, err := b.CancelDue(b.ctx, 10); err != nil || len(due) > 0 {
			t.Errorf("%s: due %v, %v", status, due, err)
		}
	}
	b.exec(`UPDATE orders SET status = 'unpaid'`)
	for user, number := range map[string]flashsale.OrderNo{"bob": order.OrderNo, "ada": 4711} {
		if got, err := b.Cancel(b.ctx, number, user); !errors.Is(err, flashsale.ErrNotFound) || got.OrderNo != 0 {
			t.Errorf("order %s by %s: %+v, %v", number, user, got, err)
		}
	}
	b.check()
	if n := b.releases(); len(n) > 0 {
		t.Errorf("released: %v", n)
	}
}

// Units come back when the hold expires (museum 6), those due longest first, page by page; an
// order that is not due, or that somebody holds right now, stays.
func TestCancelDue(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item, many := b.item(10, 1), b.item(10, 3)
	if next, err := b.NextDeadline(b.ctx); err != nil || !next.IsZero() {
		t.Errorf("nothing unpaid: %s, %v", next, err)
	}
	orders := b.orders(item.ID, 5)
	orders = append(orders, b.order(many.ID, "ada", 2), b.order(many.ID, "ada", 1))
	b.persist(orders...)
	if got, err := b.CancelDue(b.ctx, 10); err != nil || len(got) > 0 {
		t.Errorf("nothing due: %v, %v", got, err)
	}
	next, err := b.NextDeadline(b.ctx)
	if until := time.Until(next); err != nil || until < 50*time.Minute || until > 70*time.Minute {
		t.Errorf("next deadline in %s, %v", until, err)
	}

	b.due(2, 3, 4, 6, 7)
	b.exec(`UPDATE orders SET pay_deadline = pay_deadline - order_no * interval '1 second' WHERE order_no <> 5`)
	tx := b.begin()
	if _, err := tx.Exec(b.ctx, `SELECT FROM orders WHERE order_no = 6 FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]flashsale.OrderNo{{4, 7}, {2, 3}, {}} {
		got, err := b.CancelDue(b.ctx, 2)
		if err != nil {
			t.Fatal(err)
		}
		var numbers []flashsale.OrderNo
		for _, result := range got {
			numbers = append(numbers, result.OrderNo)
			order := orders[result.OrderNo-1]
			if result != resultOf(&order, flashsale.Cancelled, ReasonPayTimeout) {
				t.Errorf("result %+v", result)
			}
		}
		if !slices.Equal(numbers, want) {
			t.Errorf("cancelled %v, want %v", numbers, want)
		}
		b.check()
	}
	if err := tx.Rollback(b.ctx); err != nil {
		t.Fatal(err)
	}
	if next, err := b.NextDeadline(b.ctx); err != nil || !next.Before(time.Now()) {
		t.Errorf("a passed deadline is the next: %s, %v", next, err)
	}
	if got, err := b.CancelDue(b.ctx, 2); err != nil || len(got) != 1 || got[0].OrderNo != 6 {
		t.Errorf("the order that was held: %v, %v", got, err)
	}
	b.check()
	if f := b.figures(item.ID); f.Stock != 8 || f.LiveUnits != 2 {
		t.Errorf("stock %d, live %d", f.Stock, f.LiveUnits)
	}
}

// 1,000 attempts on one order, by the shopper and by the timeout: one wins, one unit comes
// back, one release is owed.
func TestCancel_OneWinner(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	for _, limit := range []int{1, 2} {
		item := b.item(5, limit)
		order := b.order(item.ID, "ada", 1)
		b.persist(order)
		b.due(order.OrderNo)
		before := len(b.releases())
		var winners atomic.Int32
		var all sync.WaitGroup
		for attempt := range 1000 {
			all.Go(func() {
				if attempt%2 == 0 {
					due, err := b.CancelDue(b.ctx, 10)
					if err != nil {
						t.Error(err)
					}
					winners.Add(int32(len(due)))
					return
				}
				switch _, err := b.Cancel(b.ctx, order.OrderNo, "ada"); {
				case err == nil:
					winners.Add(1)
				case !errors.Is(err, flashsale.ErrConflict):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if winners.Load() != 1 {
			t.Errorf("%d winners", winners.Load())
		}
		if got := len(b.releases()) - before; got != 1 {
			t.Errorf("%d releases", got)
		}
		b.check()
		if f := b.figures(item.ID); f.Stock != 5 {
			t.Errorf("stock %d", f.Stock)
		}
	}
}

// Everything at once: persisting, redelivering, cancelling, timing out, restocking and auditing
// on the same items. Each snapshot in between adds up, and no unit is lost or made.
func TestLedger_Concurrent(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	items := []flashsale.Item{b.item(30, 1), b.item(30, 4), b.item(200, 1)}
	b.exec(`UPDATE items SET pay_timeout = '1 second'`)
	var batches [][]flashsale.Order
	for n := range 60 {
		var batch []flashsale.Order
		for i := range 20 {
			item := items[(n+i)%len(items)]
			batch = append(batch, b.order(item.ID, fmt.Sprintf("u%d", (n*7+i*3)%50), 1+i%min(2, item.Limit)))
		}
		batches = append(batches, batch)
	}
	again := func(operation func() error) {
		var err error
		for range 50 {
			if err = operation(); err == nil || errors.Is(err, flashsale.ErrPermanent) {
				break
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	var work sync.WaitGroup
	for worker := range 4 {
		work.Go(func() {
			for n := range batches {
				batch := batches[(n+worker*5)%len(batches)]
				again(func() error { _, err := b.Persist(b.ctx, batch); return err })
				first := batch[worker]
				again(func() error {
					_, err := b.Cancel(b.ctx, first.OrderNo, first.User)
					if errors.Is(err, flashsale.ErrConflict) {
						return nil
					}
					return err
				})
				if n%10 == worker {
					again(func() error { _, err := b.Restock(b.ctx, items[n%3].ID, 1); return err })
				}
				again(func() error { _, err := b.CancelDue(b.ctx, 7); return err })
			}
		})
	}
	done := make(chan struct{})
	go func() { work.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			b.checkUnits()
		}
	}
	b.check()
	var added int64
	for _, item := range items {
		added += b.figures(item.ID).Total - item.Total
	}
	if added != 24 {
		t.Errorf("%d units were added, want 24", added)
	}
}
