package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"flashsale"
)

// model is the ledger in plain Go, one order after the other.
type model struct {
	items  map[flashsale.ItemID]*modelItem
	orders map[flashsale.OrderNo]*modelOrder
	owed   []int64 // orders whose release is in the outbox, in any order
}

type modelItem struct{ total, stock, limit int }

type modelOrder struct {
	flashsale.Order
	status, reason string
}

func (m *model) live(item flashsale.ItemID, user string) (units int) {
	for _, o := range m.orders {
		if o.ItemID == item && o.User == user && flashsale.Status(o.status).Live() {
			units += o.Quantity
		}
	}
	return units
}

// persist decides the orders of a batch by order_no. First everything that a unique index or
// the item's row refuses; an order that is refused for the stock afterwards still was in the
// way of the same user's next one.
func (m *model) persist(batch []flashsale.Order) []string {
	sorted := slices.Clone(batch)
	slices.SortStableFunc(sorted, func(a, b flashsale.Order) int { return cmp.Compare(a.OrderNo, b.OrderNo) })
	tried := make(map[string]bool)
	for _, order := range sorted {
		if m.orders[order.OrderNo] != nil {
			continue
		}
		stored := &modelOrder{Order: order, status: "unpaid"}
		item, ok := m.items[order.ItemID]
		key := fmt.Sprint(order.ItemID, order.User)
		switch {
		case !ok:
			stored.reason = "item_not_found"
		case order.Quantity > item.limit:
			stored.reason = "limit_reached"
		case item.limit == 1 && (tried[key] || m.live(order.ItemID, order.User) > 0):
			stored.reason = "duplicate_order"
		case m.live(order.ItemID, order.User)+order.Quantity > item.limit:
			stored.reason = "limit_reached"
		case order.Quantity > item.stock:
			stored.reason = "sold_out"
			tried[key] = true
		default:
			item.stock -= order.Quantity
		}
		if stored.reason != "" {
			stored.status = "rejected"
			if ok {
				m.owed = append(m.owed, int64(order.OrderNo))
			}
		}
		m.orders[order.OrderNo] = stored
	}
	texts := make([]string, len(batch))
	for i, order := range batch {
		stored := m.orders[order.OrderNo]
		texts[i] = stored.status
		if stored.reason != "" {
			texts[i] += " " + stored.reason
		}
	}
	return texts
}

func (m *model) cancel(o *modelOrder, reason string) {
	o.status, o.reason = "cancelled", reason
	m.items[o.ItemID].stock += o.Quantity
	m.owed = append(m.owed, int64(o.OrderNo))
}

// Random steps on the ledger and on the model: the same answers, and after every step the same
// stock, with stock + live = total. A failing run prints the seed that repeats it.
func TestLedger_Model(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	b.Ledger = b.open(Config{MaxConns: 1}) // no step needs a second connection while it holds one
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			items:  make(map[flashsale.ItemID]*modelItem),
			orders: make(map[flashsale.OrderNo]*modelOrder),
		}
		b.exec(`DELETE FROM orders; DELETE FROM holdings; DELETE FROM outbox; DELETE FROM items`)
		ids := []flashsale.ItemID{4711}
		for _, limit := range []int{1, 1, 3} {
			stock := rapid.IntRange(1, 12).Draw(t, "stock")
			item := b.item(int64(stock), limit)
			m.items[item.ID] = &modelItem{total: stock, stock: stock, limit: limit}
			ids = append(ids, item.ID)
		}
		var pending []flashsale.Order // every order ever made, to be redelivered
		known := rapid.Custom(func(t *rapid.T) flashsale.Order { return rapid.SampledFrom(pending).Draw(t, "order") })
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				figures, err := b.Figures(b.ctx)
				if err != nil || len(figures.Items) != len(m.items) {
					t.Fatal(figures, err)
				}
				for _, f := range figures.Items {
					id, item := f.ID, m.items[f.ID]
					if int(f.Total) != item.total || int(f.Stock) != item.stock ||
						f.Stock+f.LiveUnits != f.Total || f.UsersOverLimit != 0 {
						t.Fatalf("item %s: ledger %+v, model %+v", id, f, item)
					}
				}
				releases := b.releases()
				slices.Sort(releases)
				slices.Sort(m.owed)
				if !slices.Equal(releases, m.owed) {
					t.Fatalf("owed: ledger %v, model %v", releases, m.owed)
				}
			},
			"persist": func(t *rapid.T) {
				var batch []flashsale.Order
				for range rapid.IntRange(1, 8).Draw(t, "size") {
					if len(pending) > 0 && rapid.IntRange(0, 4).Draw(t, "redeliver") == 0 {
						batch = append(batch, known.Draw(t, "known"))
						continue
					}
					quantity := 1
					if rapid.IntRange(0, 3).Draw(t, "large") == 0 {
						quantity = rapid.IntRange(1, 4).Draw(t, "quantity")
					}
					order := b.order(rapid.SampledFrom(ids).Draw(t, "item"),
						rapid.StringMatching("[a-f]").Draw(t, "user"), quantity)
					pending, batch = append(pending, order), append(batch, order)
				}
				batch = rapid.Permutation(batch).Draw(t, "batch")
				want := m.persist(batch)
				if got := b.persist(batch...); !slices.Equal(got, want) {
					t.Fatalf("batch %+v:\ngot  %q\nwant %q", batch, got, want)
				}
			},
			"cancel": func(t *rapid.T) {
				if len(pending) == 0 {
					t.Skip("no order yet")
				}
				order := known.Draw(t, "order")
				stored := m.orders[order.OrderNo]
				_, err := b.Cancel(b.ctx, order.OrderNo, order.User)
				if (err == nil) != (stored.status == "unpaid") ||
					err != nil && !errors.Is(err, flashsale.ErrConflict) {
					t.Fatalf("cancel %s order: %v", stored.status, err)
				}
				if err == nil {
					m.cancel(stored, ReasonShopper)
				}
			},
			"timeout": func(t *rapid.T) {
				var due []flashsale.OrderNo
				for _, order := range pending {
					if rapid.Bool().Draw(t, "due") {
						due = append(due, order.OrderNo)
					}
				}
				if len(due) == 0 {
					t.Skip("nothing due")
				}
				b.due(due...)
				results, err := b.CancelDue(b.ctx, 1000)
				if err != nil {
					t.Fatal(err)
				}
				// Orders that were due before and not unpaid then may not come back to life.
				for _, result := range results {
					stored := m.orders[result.OrderNo]
					if stored.status != "unpaid" || !slices.Contains(due, result.OrderNo) {
						t.Fatalf("timeout of %s order %s", stored.status, result.OrderNo)
					}
					m.cancel(stored, ReasonPayTimeout)
				}
				for _, number := range due {
					if m.orders[number].status == "unpaid" {
						t.Fatalf("order %s is due and still unpaid", number)
					}
				}
			},
			"restock": func(t *rapid.T) {
				id := rapid.SampledFrom(ids[1:]).Draw(t, "item")
				add := rapid.IntRange(1, 3).Draw(t, "add")
				if _, err := b.Restock(b.ctx, id, int64(add)); err != nil {
					t.Fatal(err)
				}
				m.items[id].total += add
				m.items[id].stock += add
			},
			"relay": func(t *rapid.T) {
				b.relay(rapid.IntRange(1, 5).Draw(t, "limit"), func(row flashsale.OutboxRow) bool {
					m.owed = slices.DeleteFunc(m.owed, func(n int64) bool { return n == int64(row.OrderNo) })
					return true
				})
			},
		})
	})
	b.checkUnits()
}
