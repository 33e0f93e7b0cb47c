package engine

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// modelOrder is an order as the model holds it; a negative qty is one that is over.
type modelOrder struct {
	no  flashsale.OrderNo
	qty int
	key string
}

// model is what the scripts should do with one item, in plain Go.
type model struct {
	id           flashsale.ItemID
	stock, total int64
	limit        int
	paused       bool
	epoch, seq   int64
	restock      int64
	held         map[string][]modelOrder
}

const modelReleasesMax = 5

// decide is reserve.lua for one request of an open window.
func (m *model) decide(r Request) (outcome flashsale.Outcome, order flashsale.OrderNo) {
	units, over, last := 0, 0, flashsale.OrderNo(0)
	for _, o := range m.held[r.User] {
		if r.IdempotencyKey != "" && r.IdempotencyKey == o.key {
			if max(o.qty, -o.qty) != r.Quantity {
				return flashsale.KeyReused, o.no
			}
			return flashsale.Replayed, o.no
		}
		if o.qty < 0 {
			over++
			continue
		}
		units, last = units+o.qty, o.no
	}
	switch {
	case units > 0 && (m.paused || m.limit == 1):
		return flashsale.DuplicateOrder, last
	case m.paused:
		return flashsale.Paused, 0
	case units+r.Quantity > m.limit || over >= modelReleasesMax:
		return flashsale.LimitReached, last
	case m.stock < int64(r.Quantity):
		return flashsale.SoldOut, 0
	}
	return flashsale.Accepted, 0
}

// accept takes in an accepted request, whose number only the engine knows.
func (m *model) accept(r Request, no flashsale.OrderNo) {
	m.held[r.User] = append(m.held[r.User], modelOrder{no, r.Quantity, r.IdempotencyKey})
	m.stock -= int64(r.Quantity)
	m.seq++
}

func (m *model) release(orders []Held) (released int) {
	for _, h := range orders {
		n := slices.IndexFunc(m.held[h.User], func(o modelOrder) bool { return o.no == h.OrderNo && o.qty > 0 })
		if n < 0 {
			continue
		}
		o := &m.held[h.User][n]
		m.stock, o.qty = m.stock+int64(o.qty), -o.qty
		released++
	}
	if released > 0 {
		m.epoch++
	}
	return released
}

// TestModel has random runs over several items, releases, restocks and pauses done by the engine on
// a real Redis and by the model, and compares every answer and the whole state after each step.
// A failure prints the steps and the seed that repeats them. Runs go past the flags and
// windows, which are hints and may be behind.
func TestModel(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	users := rapid.SampledFrom([]string{"ann", "bob", "cat", "dan"})
	keys := rapid.SampledFrom([]string{"", "k1", "k2", "k3"})
	ctx := t.Context()
	rapid.Check(t, func(r *rapid.T) {
		var models []*model
		for n := range rapid.IntRange(1, 4).Draw(r, "items") {
			item := newItem(rapid.Int64Range(0, 6).Draw(r, fmt.Sprint("stock", n)), rapid.IntRange(1, 3).Draw(r, fmt.Sprint("limit", n)))
			if err := e.Preheat(ctx, item); err != nil {
				r.Fatal(err)
			}
			models = append(models, &model{
				id: item.ID, stock: item.Stock, total: item.Stock, limit: item.Limit, epoch: 1_000_000_000, held: map[string][]modelOrder{},
			})
		}
		one := rapid.SampledFrom(models)
		lane := e.lanes[0]
		r.Repeat(map[string]func(*rapid.T){
			"reserve": func(r *rapid.T) {
				var asked run
				groups := map[*model]*group{}
				for n := range rapid.IntRange(1, 8).Draw(r, "requests") {
					m := one.Draw(r, fmt.Sprint("item", n))
					g := groups[m]
					if g == nil {
						g = new(group)
						groups[m] = g
					}
					g.join(Request{
						Item: m.id, User: users.Draw(r, fmt.Sprint("user", n)),
						Quantity:       rapid.IntRange(1, 2).Draw(r, fmt.Sprint("quantity", n)),
						IdempotencyKey: keys.Draw(r, fmt.Sprint("key", n)),
					})
				}
				for _, m := range models {
					if g := groups[m]; g != nil {
						q := &itemQueue{item: m.id, text: m.id.String(), keys: e.queue(m.id).keys, lane: lane}
						asked.add(q, g)
					}
				}
				e.decide(lane, &asked)
				for _, m := range models {
					if groups[m] != nil {
						m.compare(r, groups[m])
					}
				}
			},
			"release": func(r *rapid.T) {
				m := one.Draw(r, "item")
				var some []Held
				for _, user := range slices.Sorted(maps.Keys(m.held)) {
					for _, o := range m.held[user] {
						some = append(some, Held{o.no, user}, Held{o.no, "eve"})
					}
				}
				if len(some) == 0 {
					r.Skip("nothing to release")
				}
				orders := rapid.SliceOfN(rapid.SampledFrom(some), 1, 4).Draw(r, "orders")
				got, err := e.Release(ctx, m.id, orders)
				if want := m.release(orders); err != nil || got != want {
					r.Fatalf("released %d %v, want %d", got, err, want)
				}
			},
			"restock": func(r *rapid.T) {
				m := one.Draw(r, "item")
				number, add := m.restock+rapid.Int64Range(0, 2).Draw(r, "step"), rapid.Int64Range(1, 3).Draw(r, "add")
				if number == 0 {
					r.Skip("numbers start at 1")
				}
				if err := e.Restock(ctx, m.id, number, add); err != nil {
					r.Fatal(err)
				}
				if number > m.restock {
					m.restock, m.stock, m.total, m.epoch = number, m.stock+add, m.total+add, m.epoch+1
				}
			},
			"pause": func(r *rapid.T) {
				m := one.Draw(r, "item")
				m.paused = rapid.Bool().Draw(r, "paused")
				change := e.Resume
				if m.paused {
					change = e.Pause
				}
				if err := change(ctx, m.id); err != nil {
					r.Fatal(err)
				}
			},
			"": func(r *rapid.T) {
				for _, m := range models {
					m.check(r, e)
				}
			},
		})
	})
}

// compare has the model decide what the engine has decided.
func (m *model) compare(r *rapid.T, g *group) {
	for n, request := range g.requests {
		got := g.decisions[n]
		outcome, order := m.decide(request)
		if outcome == flashsale.Accepted {
			order = got.reply.OrderNo
			m.accept(request, order)
		}
		if got.err != nil || got.reply.Outcome != outcome || got.reply.OrderNo != order {
			r.Fatalf("request %d %+v: %+v, want %s %d", n, request, got, outcome, order)
		}
	}
}

// check compares the state, and the invariants: conservation, and nobody over the limit.
func (m *model) check(r *rapid.T, e *Engine) {
	account, err := e.Item(r.Context(), m.id)
	if err != nil {
		r.Fatal(err)
	}
	if account.Stock != m.stock || account.Epoch != m.epoch || account.Sequence != m.seq || account.Restock != m.restock ||
		(account.State == StatePaused) != m.paused {
		r.Fatalf("account %+v, want %+v", account, m)
	}
	held, units := map[string][]modelOrder{}, int64(0)
	err = e.Buyers(r.Context(), m.id, func(user string, orders []flashsale.Order) error {
		mine := 0
		for _, o := range orders {
			held[user] = append(held[user], modelOrder{o.OrderNo, o.Quantity, o.IdempotencyKey})
			mine += o.Quantity
		}
		if mine > m.limit {
			return fmt.Errorf("%s holds %d units", user, mine)
		}
		units += int64(mine)
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	want := map[string][]modelOrder{}
	for user, orders := range m.held {
		if live := slices.DeleteFunc(slices.Clone(orders), func(o modelOrder) bool { return o.qty < 0 }); len(live) > 0 {
			want[user] = live
		}
	}
	if !maps.EqualFunc(held, want, slices.Equal) {
		r.Fatalf("held %v, want %v", held, want)
	}
	if account.Stock < 0 || account.Stock+units != m.total {
		r.Fatalf("%d in stock and %d held of %d", account.Stock, units, m.total)
	}
}
