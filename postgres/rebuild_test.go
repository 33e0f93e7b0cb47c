package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"flashsale"
)

// Rebuild hands out all that Redis ought to hold, and strikes off what it included only if it
// was written: neither a fault nor an intact Redis changes the ledger.
func TestRebuild(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	b.exec(`UPDATE items SET generation = 1`)
	var orders []flashsale.Order
	for _, user := range []string{"ann", "bob", "eve"} {
		order := b.order(item.ID, user, 1)
		order.Generation, order.Sequence, order.IdempotencyKey = 1, int64(len(orders)+1), "key-"+user
		orders = append(orders, order)
	}
	b.persist(orders...)
	if _, err := b.Cancel(b.ctx, orders[2].OrderNo, "eve"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Restock(b.ctx, item.ID, 5); err != nil {
		t.Fatal(err)
	}

	rebuild := func(rebuilt bool, answer error) (state flashsale.RebuildState) {
		t.Helper()
		err := b.Rebuild(b.ctx, item.ID, func(s flashsale.RebuildState) (bool, error) {
			state = s
			return rebuilt, answer
		})
		if !errors.Is(err, answer) {
			t.Fatal(err)
		}
		return state
	}
	state := rebuild(true, errors.New("redis is away"))
	if state.Item.Stock != 13 || state.Item.Generation != 1 || len(state.Orders) != 3 || len(state.Owed) != 2 {
		t.Errorf("state %+v", state)
	}
	if o := state.Orders[0]; o.User != "ann" || o.IdempotencyKey != "key-ann" || o.Quantity != 1 || o.OrderNo != orders[0].OrderNo {
		t.Errorf("order %+v", o)
	}
	if o := state.Orders[2]; o.User != "eve" || o.Status != flashsale.Cancelled || o.IdempotencyKey != "key-eve" {
		t.Errorf("an order that is over is %+v: its key would be forgotten", o)
	}
	if last := state.Owed[len(state.Owed)-1]; last.Kind != flashsale.Restock || state.Restock < last.ID {
		t.Errorf("restock number %d is below %+v", state.Restock, last)
	}
	rebuild(false, nil)
	guarded, err := b.Guarded(b.ctx)
	if err != nil || len(guarded) != 1 || guarded[0].Generation != 1 || guarded[0].Sequence != 3 {
		t.Fatalf("guarded %+v %v", guarded, err)
	}
	rebuild(true, nil)
	guarded, err = b.Guarded(b.ctx)
	if err != nil || len(guarded) != 1 || guarded[0].Generation != 2 || guarded[0].Sequence != 0 {
		t.Fatalf("guarded %+v %v", guarded, err)
	}
	if figures, err := b.Figures(b.ctx); err != nil || figures.Outbox != 0 {
		t.Errorf("outbox of %d rows, %v", figures.Outbox, err)
	}
	if err := b.Rebuild(b.ctx, 4711, nil); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("no item: %v", err)
	}
}

// A look before a rebuild waits for nobody and holds nobody up, whatever locks there are.
func TestRebuildable_NoLocks(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	b.persist(b.orders(item.ID, 3)...)
	tx := b.begin()
	for _, sql := range []string{
		`SELECT FROM items WHERE id = $1 FOR UPDATE`, `SELECT FROM orders WHERE item_id = $1 FOR UPDATE`,
		`SELECT pg_advisory_xact_lock($1)`,
	} {
		key := int64(item.ID)
		if sql == `SELECT pg_advisory_xact_lock($1)` {
			key = relayLock
		}
		if _, err := tx.Exec(b.ctx, sql, key); err != nil {
			t.Fatal(err)
		}
	}
	state, err := b.Rebuildable(b.ctx, item.ID)
	if err != nil || len(state.Orders) != 3 || state.Item.Stock != 7 {
		t.Errorf("%+v, %v", state, err)
	}
	if _, err := b.Rebuildable(b.ctx, 4711); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("no item: %v", err)
	}
}

// Two orders with one sequence of a generation prove that Redis was rolled back. It is noticed in
// the transaction that stores the second, on every road, and stands until the item is rebuilt;
// both orders are good. Orders that come late or twice prove nothing.
func TestPersist_RolledBack(t *testing.T) { //nolint:tparallel // its cases share books
	t.Parallel()
	b := newBooks(t)
	for name, c := range map[string]struct {
		limit   int
		batches [][]int64 // sequences; a negative one is delivered again
		want    bool
	}{
		"in order":                {1, [][]int64{{1, 2}, {3}}, false},
		"late":                    {1, [][]int64{{1, 4}, {2, 3}}, false},
		"redelivered":             {1, [][]int64{{1, 2}, {-2, 3}}, false},
		"twice":                   {1, [][]int64{{1, 2, 3}, {3, 4}}, true},
		"twice in a batch":        {1, [][]int64{{1, 2, 2, 3}}, true},
		"twice, of many":          {3, [][]int64{{1, 2, 3}, {2}}, true},
		"twice, beside an old":    {1, [][]int64{{1, 2}, {-1, 2}}, true},
		"twice, beside a refused": {1, [][]int64{{1, 2}, {2, -2, 0}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			item := b.item(10, c.limit)
			b.exec(`UPDATE items SET generation = 1 WHERE id = $1`, int64(item.ID))
			bySequence := map[int64]flashsale.Order{}
			for _, sequences := range c.batches {
				var batch []flashsale.Order
				for _, sequence := range sequences {
					order, again := bySequence[-sequence]
					if !again {
						order = b.order(item.ID, fmt.Sprint("user", b.number.Load()), 1)
						order.Generation, order.Sequence = 1, sequence
						bySequence[sequence] = order
					}
					if sequence == 0 { // a duplicate of the first user: rejected
						order.User, order.Sequence = bySequence[1].User, 9
					}
					batch = append(batch, order)
				}
				b.persist(batch...)
			}
			rolledBack := func() bool {
				t.Helper()
				guarded, err := b.Guarded(b.ctx)
				if err != nil {
					t.Fatal(err)
				}
				return guarded[len(guarded)-1].RolledBack
			}
			if got := rolledBack(); got != c.want {
				t.Errorf("rolled back: %t, want %t", got, c.want)
			}
			err := b.Rebuild(b.ctx, item.ID, func(flashsale.RebuildState) (bool, error) { return true, nil })
			if err != nil || rolledBack() {
				t.Errorf("after the rebuild: rolled back: %t, %v", rolledBack(), err)
			}
		})
	}
}

// Guarded leaves out what Redis need not hold: items never loaded, and those long closed to
// which nothing is owed.
func TestGuarded(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	check := func(want int, why string) {
		t.Helper()
		guarded, err := b.Guarded(b.ctx)
		if err != nil || len(guarded) != want {
			t.Errorf("%s: %d guarded, %v", why, len(guarded), err)
		}
	}
	check(0, "never loaded")
	b.exec(`UPDATE items SET generation = 1`)
	check(1, "open")
	b.exec(`UPDATE items SET opens_at = now() - interval '3 days', closes_at = now() - interval '2 days'`)
	check(0, "long closed")
	if _, err := b.Restock(b.ctx, item.ID, 1); err != nil {
		t.Fatal(err)
	}
	check(1, "owed")
}

// DueSales finds what is to be loaded: open soon or already, not closed, never loaded.
func TestDueSales(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1) // open
	due := func(before time.Time) int {
		t.Helper()
		sales, err := b.DueSales(b.ctx, before)
		if err != nil {
			t.Fatal(err)
		}
		return len(sales)
	}
	if n := due(time.Now()); n != 1 {
		t.Errorf("%d due, want the open one", n)
	}
	b.exec(`UPDATE items SET opens_at = now() + interval '1 hour', closes_at = now() + interval '2 hours'`)
	if n := due(time.Now()); n != 0 {
		t.Errorf("%d due an hour too early", n)
	}
	if n := due(time.Now().Add(2 * time.Hour)); n != 1 {
		t.Errorf("%d due, want the next one", n)
	}
	b.exec(`UPDATE items SET generation = 1`)
	if n := due(time.Now().Add(2 * time.Hour)); n != 0 {
		t.Errorf("%d due although loaded (item %d)", n, item.ID)
	}
}

// An item may open later than its sale.
func TestCreateSale_ItemWindow(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	now := time.Now().UTC().Truncate(time.Millisecond)
	sale, err := b.CreateSale(b.ctx, flashsale.Sale{
		Name: "windows", OpensAt: now, ClosesAt: now.Add(time.Hour),
		Items: []flashsale.Item{
			{Product: "as the sale", PriceFen: 1, Total: 1, Limit: 1, PayTimeout: time.Minute},
			{Product: "later", PriceFen: 1, Total: 1, Limit: 1, PayTimeout: time.Minute, OpensAt: now.Add(time.Minute)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := sale.Items[0]; !got.OpensAt.Equal(now) || !got.ClosesAt.Equal(now.Add(time.Hour)) {
		t.Errorf("window %s to %s", got.OpensAt, got.ClosesAt)
	}
	if got := sale.Items[1]; !got.OpensAt.Equal(now.Add(time.Minute)) || !got.ClosesAt.Equal(now.Add(time.Hour)) {
		t.Errorf("window %s to %s", got.OpensAt, got.ClosesAt)
	}
}
