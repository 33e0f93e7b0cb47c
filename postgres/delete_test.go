package postgres

import (
	"context"
	"errors"
	"testing"

	"flashsale"
)

// Protects orders from the removal of their sale: once the ledger holds one, also one that is
// over, or Redis says that it does, everything stays. Without any, nothing remains.
func TestDeleteSale(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	var removed []flashsale.ItemID
	remove := func(_ context.Context, id flashsale.ItemID) error {
		removed = append(removed, id)
		return nil
	}
	bought, clean := b.item(5, 1), b.item(5, 1)
	order := b.order(bought.ID, "ann", 1)
	b.persist(order)
	if _, err := b.Cancel(b.ctx, order.OrderNo, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.DeleteSale(b.ctx, bought.SaleID, remove); !errors.Is(err, flashsale.ErrConflict) || len(removed) > 0 {
		t.Errorf("with an order: %v, removed %v", err, removed)
	}
	pending := func(context.Context, flashsale.ItemID) error { return flashsale.ErrConflict }
	if _, err := b.DeleteSale(b.ctx, clean.SaleID, pending); !errors.Is(err, flashsale.ErrConflict) {
		t.Errorf("with a pending order: %v", err)
	}
	if _, err := b.SetPaused(b.ctx, clean.ID, true); err != nil { // owes Redis a pause
		t.Fatal(err)
	}
	sale, err := b.DeleteSale(b.ctx, clean.SaleID, remove)
	if err != nil || sale.ID != clean.SaleID || len(removed) != 1 || removed[0] != clean.ID {
		t.Errorf("deleted %+v, removed %v: %v", sale, removed, err)
	}
	for name, err := range map[string]error{
		"the sale":       func() error { _, err := b.Sale(b.ctx, clean.SaleID); return err }(),
		"the item":       func() error { _, err := b.Item(b.ctx, clean.ID); return err }(),
		"deleting again": func() error { _, err := b.DeleteSale(b.ctx, clean.SaleID, remove); return err }(),
	} {
		if !errors.Is(err, flashsale.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := b.count(`SELECT count(*) FROM outbox WHERE item_id = $1`, int64(clean.ID)); n > 0 {
		t.Errorf("%d effects are still owed to an item that is gone", n)
	}
}
