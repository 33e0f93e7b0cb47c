package postgres

import (
	"slices"
	"testing"
	"time"

	"flashsale"
)

// Protects pending orders from being looked for in too few items: everything that is or will be
// on sale is live, and what has closed for a day at most, however many sales are newer.
func TestLiveItems(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	var want []flashsale.ItemID
	now := time.Now()
	for _, window := range []struct {
		opens, closes time.Duration
		live          bool
	}{
		{-time.Hour, time.Hour, true},
		{time.Hour, 2 * time.Hour, true},
		{-48 * time.Hour, -24 * time.Hour, true},
		{-48 * time.Hour, -26 * time.Hour, false},
	} {
		sale, err := b.CreateSale(b.ctx, flashsale.Sale{
			Name: "sale", OpensAt: now.Add(window.opens), ClosesAt: now.Add(window.closes),
			Items: []flashsale.Item{{Product: "lamp", PriceFen: 990, Total: 1, Limit: 1, PayTimeout: time.Hour}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if window.live {
			want = append(want, sale.Items[0].ID)
		}
	}
	got, err := b.LiveItems(b.ctx)
	if slices.Sort(got); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: %v", got, want, err)
	}
}
