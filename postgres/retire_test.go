package postgres

import (
	"context"
	"testing"

	"flashsale"
)

// An item retires only while nothing is owed to it and nothing was persisted since it was looked
// at; from then on giving units back, pausing and restocking concern the ledger alone, and a
// rebuild brings it back.
func TestRetire(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	live, item := b.item(10, 1), b.item(10, 1)
	b.exec(`UPDATE items SET generation = 1`)
	orders := b.orders(item.ID, 3)
	for n := range orders {
		orders[n].Generation, orders[n].Sequence = 1, int64(n+1)
	}
	b.persist(orders...)
	retirable := func(want int) {
		t.Helper()
		if items, err := b.Retirable(b.ctx, 0, 9); err != nil || len(items) != want {
			t.Errorf("retirable: %v, %v", items, err)
		}
	}
	retire := func(sequence int64, want bool) {
		t.Helper()
		seals := map[int64]flashsale.Seal{1: {Orders: 3, Digest: 4}}
		if done, err := b.Retire(b.ctx, item.ID, 1, sequence, seals); err != nil || done != want {
			t.Errorf("retired %v, want %v, %v", done, want, err)
		}
	}
	retirable(0)
	b.exec(`UPDATE items SET opens_at = now() - interval '50 hours', closes_at = now() - interval '25 hours' WHERE id = $1`, int64(item.ID))
	retirable(1)
	if _, err := b.Cancel(b.ctx, orders[0].OrderNo, orders[0].User); err != nil {
		t.Fatal(err)
	}
	retirable(0)
	retire(3, false) // a release is owed
	b.exec(`DELETE FROM outbox`)
	retire(2, false) // an order came meanwhile
	retire(3, true)
	retire(3, false)
	retirable(0)

	if _, err := b.Cancel(b.ctx, orders[1].OrderNo, orders[1].User); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SetPaused(b.ctx, item.ID, true); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Restock(b.ctx, item.ID, 5); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`SELECT count(*) FROM outbox`); n != 0 {
		t.Errorf("%d effects are owed to an item that is not in Redis", n)
	}
	if f := b.figures(item.ID); f.Stock != 14 || f.LiveUnits != 1 {
		t.Errorf("stock %d, live %d", f.Stock, f.LiveUnits)
	}
	if _, err := b.SetPaused(b.ctx, live.ID, true); err != nil || b.count(`SELECT count(*) FROM outbox`) != 1 {
		t.Errorf("a live item is owed nothing: %v", err)
	}

	// Its orders leave the index that guards those on sale, and are found all the same.
	if items, err := b.Unsettled(b.ctx, 9); err != nil || len(items) != 1 || items[0] != item.ID {
		t.Errorf("unsettled: %v, %v", items, err)
	}
	pages := 0
	rest := func(context.Context) error { pages++; return nil }
	for range 2 { // the second finds nothing
		if err := b.Settle(b.ctx, item.ID, 2, rest); err != nil || pages != 2 {
			t.Errorf("settled in %d pages: %v", pages, err)
		}
	}
	if items, err := b.Unsettled(b.ctx, 9); err != nil || len(items) != 0 {
		t.Errorf("unsettled: %v, %v", items, err)
	}
	b.exec(`UPDATE items SET closes_at = now() + interval '1 hour' WHERE id = $1`, int64(live.ID))
	for _, user := range []string{orders[2].User, orders[2].User} {
		b.persist(b.order(live.ID, user, 1)) // the second is rejected
	}
	mine, err := b.Orders(b.ctx, orders[2].User, 0, 2)
	if err != nil || len(mine) != 2 || mine[0].OrderNo < mine[1].OrderNo {
		t.Errorf("the newest two: %+v, %v", mine, err)
	}
	older, err := b.Orders(b.ctx, orders[2].User, mine[1].OrderNo, 9)
	if err != nil || len(older) != 1 || older[0].OrderNo != orders[2].OrderNo {
		t.Errorf("older: %+v, %v", older, err)
	}
	if n := b.count(`SELECT count(*) FROM orders WHERE settled <> (item_id = $1)`, int64(item.ID)); n != 0 {
		t.Errorf("%d orders are settled that should not, or not", n)
	}

	err = b.Rebuild(b.ctx, item.ID, func(flashsale.RebuildState) (bool, error) { return true, nil })
	if err != nil || b.count(`SELECT count(*) FROM items WHERE retired_at IS NULL`) != 2 {
		t.Errorf("rebuilt, but not back: %v", err)
	}
	if n := b.count(`SELECT count(*) FROM orders WHERE settled`); n != 0 {
		t.Errorf("%d orders of an item that came back are not guarded", n)
	}
}
