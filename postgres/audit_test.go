package postgres

import (
	"errors"
	"slices"
	"testing"

	"flashsale"
)

// An examination reads every order of the item and of no other, once, in the order of the
// sequences, as of one moment, whatever is committed meanwhile.
func TestExamine(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item, other := b.item(100_000, 1), b.item(10, 1)
	b.exec(`UPDATE items SET generation = 2 WHERE id = $1`, int64(item.ID))
	const n = 2*auditPage + 5 // more than two pages
	b.exec(`INSERT INTO orders (order_no, item_id, amount_fen, amount_points, generation, sequence, reserved_at,
			pay_deadline, quantity, single, status, user_id)
		SELECT $2 - s, $1, 990, 7, 1 + s % 2, s / 2, now(), now(), 1, true, 'unpaid', 'user' || s
		FROM generate_series(1, $2 - 1) s`, int64(item.ID), n+1)
	foreign := b.order(other.ID, "ann", 1)
	foreign.OrderNo = n + 10
	b.persist(foreign)
	b.exec(`INSERT INTO discarded VALUES ($1, 2, 77, 4711, now(), 3, 'eve', 'dropped')`, int64(item.ID))
	for range 2 { // the second changes nothing
		if err := b.Seal(b.ctx, item.ID, 1, flashsale.Seal{Orders: 5, Digest: -9}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Restock(b.ctx, item.ID, 5); err != nil {
		t.Fatal(err)
	}

	var last flashsale.Order
	seen, pages := 0, 0
	asked := []flashsale.OrderNo{foreign.OrderNo, n, n + 99}
	books, err := b.Examine(b.ctx, item.ID, asked, func(books *flashsale.ItemBooks, page []flashsale.Order) error {
		if pages++; pages == 1 {
			if len(page) != 0 || books.Generation != 2 {
				t.Errorf("first page of %d, books %+v", len(page), books)
			}
			b.exec(`UPDATE orders SET status = 'cancelled'`)
			b.exec(`UPDATE items SET stock = 1`)
			return nil
		}
		for _, order := range page {
			if order.Generation < last.Generation || order.Generation == last.Generation && order.Sequence < last.Sequence {
				t.Fatalf("order %+v comes after %+v", order, last)
			}
			if last = order; order.ItemID != item.ID || order.Status != flashsale.Unpaid {
				t.Fatalf("order %+v", order)
			}
			seen++
		}
		return nil
	})
	if err != nil || seen != n || pages != 4 {
		t.Errorf("%d orders in %d pages, %v", seen, pages, err)
	}
	discarded := []flashsale.Discarded{{OrderNo: 4711, User: "eve", Quantity: 3, Generation: 2, Sequence: 77}}
	if !books.Holdings || books.Stock != item.Stock+5 || len(books.Owed) != 1 || !slices.Equal(books.Discarded, discarded) {
		t.Errorf("books %+v", books)
	}
	if len(books.Unknown) != 2 || books.Unknown[n] || books.Seals[1] != (flashsale.Seal{Orders: 5, Digest: -9}) {
		t.Errorf("unknown %v, seals %v", books.Unknown, books.Seals)
	}
	if _, err := b.Examine(b.ctx, 4711, nil, nil); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("no item: %v", err)
	}
}

// Holdings are right when each user has what his live orders say, whoever has as much.
func TestExamine_Holdings(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(100, 5)
	b.persist(b.order(item.ID, "ann", 1), b.order(item.ID, "ann", 2), b.order(item.ID, "bob", 1))
	b.exec(`INSERT INTO holdings SELECT $1, 'user' || s, 0, 5 FROM generate_series(1, $2) s`, int64(item.ID), auditPage+1)
	for _, step := range []struct {
		change string
		want   bool
	}{
		{`UPDATE holdings SET units = units`, true},
		{`UPDATE holdings SET units = CASE user_id WHEN 'ann' THEN 1 ELSE 3 END WHERE units > 0`, false},
		{`UPDATE holdings SET units = CASE user_id WHEN 'ann' THEN 3 ELSE 1 END WHERE units > 0`, true},
		{`UPDATE holdings SET units = 1 WHERE user_id = 'user7'`, false},
		{`DELETE FROM holdings WHERE user_id IN ('user7', 'ann')`, false},
	} {
		b.exec(step.change)
		books, err := b.Examine(b.ctx, item.ID, nil, func(*flashsale.ItemBooks, []flashsale.Order) error { return nil })
		if err != nil || books.Holdings != step.want {
			t.Errorf("after %s: %v, want %v, %v", step.change, books.Holdings, step.want, err)
		}
	}
}

// The audit learns what became of orders, and whether their units are still owed; it lists the
// items that are in Redis, or all.
func TestLookUp(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item, gone := b.item(2, 1), b.item(2, 1)
	orders := b.orders(item.ID, 4)
	b.persist(orders[:3]...)
	if _, err := b.Cancel(b.ctx, orders[0].OrderNo, orders[0].User); err != nil {
		t.Fatal(err)
	}
	b.exec(`DELETE FROM outbox WHERE order_no = 3`)
	got, err := b.LookUp(b.ctx, []flashsale.OrderNo{1, 2, 3, 4})
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	for no, want := range map[flashsale.OrderNo]flashsale.OwedOrder{
		1: {Order: flashsale.Order{Status: flashsale.Cancelled}, Owed: true},
		2: {Order: flashsale.Order{Status: flashsale.Unpaid}},
		3: {Order: flashsale.Order{Status: flashsale.Rejected}},
	} {
		if got[no].Status != want.Status || got[no].Owed != want.Owed {
			t.Errorf("order %d: %+v, want %+v", no, got[no], want)
		}
	}
	if got, err := b.LookUp(b.ctx, nil); err != nil || len(got) > 0 {
		t.Errorf("of none: %v, %v", got, err)
	}

	b.exec(`UPDATE items SET retired_at = now() WHERE id = $1`, int64(gone.ID))
	for _, test := range []struct {
		after flashsale.ItemID
		limit int
		all   bool
		want  int
	}{{0, 9, false, 1}, {0, 9, true, 2}, {0, 1, true, 1}, {item.ID, 9, true, 1}, {gone.ID, 9, true, 0}} {
		if items, err := b.AuditItems(b.ctx, test.after, test.limit, test.all); err != nil || len(items) != test.want {
			t.Errorf("%+v: %v %v", test, items, err)
		}
	}
}
