package postgres

import (
	"errors"
	"testing"

	"flashsale"
)

// An export has every order of the sale once, of every state, in pages that stay small, and none of
// another sale; what fn refuses ends it.
func TestExportOrders(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(5_000, 1)
	b.persist(b.order(b.item(5, 1).ID, "other", 1))
	orders := b.orders(item.ID, 2*exportPage+7)
	orders[1].Sequence = orders[0].Sequence // as after a Redis that was rolled back
	b.persist(orders...)
	if _, err := b.Cancel(b.ctx, orders[3].OrderNo, orders[3].User); err != nil {
		t.Fatal(err)
	}
	seen := make(map[flashsale.OrderNo]flashsale.Status)
	err := b.ExportOrders(b.ctx, item.SaleID, func(page []flashsale.Order) error {
		if len(page) > exportPage {
			t.Errorf("a page of %d", len(page))
		}
		for _, order := range page {
			if seen[order.OrderNo] != "" {
				t.Errorf("order %s twice", order.OrderNo)
			}
			seen[order.OrderNo] = order.Status
		}
		return nil
	})
	if err != nil || len(seen) != len(orders) || seen[orders[3].OrderNo] != flashsale.Cancelled || seen[orders[4].OrderNo] != flashsale.Unpaid {
		t.Errorf("%d orders, %v", len(seen), err)
	}
	stop := errors.New("enough")
	if err := b.ExportOrders(b.ctx, item.SaleID, func([]flashsale.Order) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if err := b.ExportOrders(b.ctx, 4711, nil); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("no sale: %v", err)
	}
}
