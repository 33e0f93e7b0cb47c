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

// modelOrder is an order as the model holds it.
type modelOrder struct {
	no  flashsale.OrderNo
	qty int
	key string
}

// model is what the scripts should do, in plain Go.
type model struct {
	stock, total int64
	limit        int
	paused       bool
	epoch, seq   int64
	restock      int64
	held         map[string][]modelOrder
	gone         []Held // released before
}

// decide is reserve.lua for one request of an open window.
func (m *model) decide(r Request) (outcome flashsale.Outcome, order flashsale.OrderNo) {
	units, last := 0, flashsale.OrderNo(0)
	for _, o := range m.held[r.User] {
		if r.IdempotencyKey != "" && r.IdempotencyKey == o.key {
			return flashsale.Replayed, o.no
		}
		units, last = units+o.qty, o.no
	}
	switch {
	case m.paused:
		return flashsale.Paused, 0
	case units > 0 && m.limit == 1:
		return flashsale.DuplicateOrder, last
	case units+r.Quantity > m.limit:
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
		n := slices.IndexFunc(m.held[h.User], func(o modelOrder) bool { return o.no == h.OrderNo })
		if n < 0 {
			continue
		}
		m.stock += int64(m.held[h.User][n].qty)
		if m.held[h.User] = slices.Delete(m.held[h.User], n, n+1); len(m.held[h.User]) == 0 {
			delete(m.held, h.User)
		}
		m.gone = append(m.gone, h)
		released++
	}
	if released > 0 {
		m.epoch++
	}
	return released
}

// TestModel has random batches, releases, restocks and pauses done by the engine on a real
// Redis and by the model, and compares every answer and the whole state after each step.
// A failure prints the steps and the seed that repeats them. Batches go past the flags and
// windows, which are hints and may be behind.
func TestModel(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	users := rapid.SampledFrom([]string{"ann", "bob", "cat", "dan"})
	keys := rapid.SampledFrom([]string{"", "k1", "k2", "k3"})
	ctx := t.Context()
	rapid.Check(t, func(r *rapid.T) {
		item := newItem(rapid.Int64Range(0, 6).Draw(r, "stock"), rapid.IntRange(1, 3).Draw(r, "limit"))
		if err := e.Preheat(ctx, item); err != nil {
			r.Fatal(err)
		}
		m := &model{
			stock: item.Stock, total: item.Stock, limit: item.Limit, epoch: 1_000_000_000, held: map[string][]modelOrder{},
		}
		l := e.lane(item.ID)
		r.Repeat(map[string]func(*rapid.T){
			"reserve": func(r *rapid.T) {
				b := new(batch)
				for n := range rapid.IntRange(1, 5).Draw(r, "requests") {
					b.join(Request{
						Item: item.ID, User: users.Draw(r, fmt.Sprint("user", n)),
						Quantity:       rapid.IntRange(1, 2).Draw(r, fmt.Sprint("quantity", n)),
						IdempotencyKey: keys.Draw(r, fmt.Sprint("key", n)),
					})
				}
				e.decide(l, b)
				for n, request := range b.requests {
					got := b.decisions[n]
					outcome, order := m.decide(request)
					if outcome == flashsale.Accepted {
						order = got.reply.OrderNo
						m.accept(request, order)
					}
					if got.err != nil || got.reply.Outcome != outcome || got.reply.OrderNo != order {
						r.Fatalf("request %d %+v: %+v, want %s %d", n, request, got, outcome, order)
					}
				}
			},
			"release": func(r *rapid.T) {
				some := slices.Clone(m.gone)
				for _, user := range slices.Sorted(maps.Keys(m.held)) {
					for _, o := range m.held[user] {
						some = append(some, Held{o.no, user}, Held{o.no, "eve"})
					}
				}
				if len(some) == 0 {
					r.Skip("nothing to release")
				}
				orders := rapid.SliceOfN(rapid.SampledFrom(some), 1, 4).Draw(r, "orders")
				got, err := e.Release(ctx, item.ID, orders)
				if want := m.release(orders); err != nil || got != want {
					r.Fatalf("released %d %v, want %d", got, err, want)
				}
			},
			"restock": func(r *rapid.T) {
				number, add := m.restock+rapid.Int64Range(0, 2).Draw(r, "step"), rapid.Int64Range(1, 3).Draw(r, "add")
				if number == 0 {
					r.Skip("numbers start at 1")
				}
				if err := e.Restock(ctx, item.ID, number, add); err != nil {
					r.Fatal(err)
				}
				if number > m.restock {
					m.restock, m.stock, m.total, m.epoch = number, m.stock+add, m.total+add, m.epoch+1
				}
			},
			"pause": func(r *rapid.T) {
				m.paused = rapid.Bool().Draw(r, "paused")
				change := e.Resume
				if m.paused {
					change = e.Pause
				}
				if err := change(ctx, item.ID); err != nil {
					r.Fatal(err)
				}
			},
			"": func(r *rapid.T) { m.check(r, e, item.ID) },
		})
	})
}

// check compares the state, and the invariants: conservation, and nobody over the limit.
func (m *model) check(r *rapid.T, e *Engine, item flashsale.ItemID) {
	account, err := e.Item(r.Context(), item)
	if err != nil {
		r.Fatal(err)
	}
	if account.Stock != m.stock || account.Epoch != m.epoch || account.Sequence != m.seq || account.Restock != m.restock ||
		(account.State == StatePaused) != m.paused {
		r.Fatalf("account %+v, want %+v", account, m)
	}
	held, units := map[string][]modelOrder{}, int64(0)
	err = e.Buyers(r.Context(), item, func(user string, orders []flashsale.Order) error {
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
	if !maps.EqualFunc(held, m.held, slices.Equal) {
		r.Fatalf("held %v, want %v", held, m.held)
	}
	if account.Stock < 0 || account.Stock+units != m.total {
		r.Fatalf("%d in stock and %d held of %d", account.Stock, units, m.total)
	}
}
