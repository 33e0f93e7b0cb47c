package postgres

import (
	"slices"
	"testing"
)

// Whoever looks into a complaint finds the order by what the shopper can show him, and reads all
// that happened to it, in order.
func TestEvents(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(2, 1)
	orders := b.orders(item.ID, 3)
	b.persist(orders...) // the last is rejected
	stored, err := b.Order(b.ctx, orders[0].OrderNo)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Pay(b.ctx, trade(stored)); err != nil {
		t.Fatal(err)
	}
	receipt, err := b.StartRefund(b.ctx, stored.OrderNo, stored.User, "it is blue")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Cancel(b.ctx, orders[1].OrderNo, orders[1].User); err != nil {
		t.Fatal(err)
	}
	for n, want := range [][]string{
		{"reserved", "confirmed", "paid", "refund_asked_for"},
		{"reserved", "confirmed", "cancelled", "release_owed"},
		{"reserved", "rejected", "release_owed"},
	} {
		events, err := b.Events(b.ctx, orders[n].OrderNo)
		var got []string
		for _, event := range events {
			got = append(got, event.Event)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("order %d: %v, want %v, %v", n, events, want, err)
		}
	}
	if events, err := b.Events(b.ctx, 4711); err != nil || len(events) != 0 {
		t.Errorf("no order: %v %v", events, err)
	}
	for number, want := range map[string]int{trade(stored).TradeNo: 1, receipt.Refund.RefundNo: 1, "T4711": 0} {
		found, err := b.OfTrade(b.ctx, number)
		if err != nil || len(found) != want || want == 1 && found[0] != stored.OrderNo {
			t.Errorf("%s: %v %v", number, found, err)
		}
	}
}
