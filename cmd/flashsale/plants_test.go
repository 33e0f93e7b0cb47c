package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
	"flashsale/worker"
)

// field is an item of an installation at rest, into which a fault is planted: ann and bob hold a
// unit each, dan two units where he may, and eve has cancelled hers. No worker runs.
type field struct {
	flashsale.Item
	*garden
	ann, bob, dan, eve flashsale.OrderNo
}

// garden is the installation of all fields.
type garden struct {
	*installation
	rooms  *rooms
	redis  *redis.Client
	ledger *pgx.Conn
}

func (f *field) sql(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.ledger.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

func (f *field) account() string { return engine.ItemKey(0, f.ID) }
func (f *field) buyers() string  { return engine.BuyersKey(0, f.ID) }

// erase takes ann's order out of the ledger, and its unit back into the ledger's stock.
func (f *field) erase() {
	f.t.Helper()
	f.sql(`DELETE FROM orders WHERE order_no = $1`, int64(f.ann))
	f.sql(`UPDATE items SET stock = stock + 1 WHERE id = $1`, int64(f.ID))
	f.sql(`UPDATE holdings SET units = units - 1 WHERE item_id = $1 AND user_id = 'ann'`, int64(f.ID))
}

// give takes ann's order out of Redis, as if it had been released.
func (f *field) give() {
	ctx := f.t.Context()
	f.redis.HDel(ctx, f.buyers(), "ann")
	f.redis.HIncrBy(ctx, f.account(), "stock", 1)
	f.redis.HIncrBy(ctx, f.account(), "epoch", 1)
}

// buy has zoe buy a unit that no worker persists, and returns the id of its entry.
func (f *field) buy() (entry string) {
	f.t.Helper()
	reply, err := f.rooms.engine.Reserve(f.t.Context(), engine.Request{Item: f.ID, User: "zoe", Quantity: 1})
	if err != nil || reply.Outcome != flashsale.Accepted {
		f.t.Fatalf("reserve: %+v %v", reply, err)
	}
	last, err := f.redis.XRevRangeN(f.t.Context(), engine.OrdersKey(0), "+", "-", 1).Result()
	if err != nil || len(last) != 1 {
		f.t.Fatalf("%v %v", last, err)
	}
	return last[0].ID
}

// plant is a fault, and the invariants that must name its item.
type plant struct {
	name  string
	limit int // of the item; 0: 3
	do    func(f *field)
	want  []int
	line  string // part of a line
}

// plants are the faults that nobody may miss.
var plants = []plant{
	// Orders that were confirmed.
	{"order erased", 0, func(f *field) {
		f.sql(`DELETE FROM orders WHERE order_no = $1`, int64(f.ann))
	}, []int{2, 3, 4}, "sequence 1 is neither"},
	{"order erased with its unit", 0, func(f *field) { f.erase() }, []int{3, 4}, "sequence 1 is neither"},
	{"order erased in both stores", 0, func(f *field) { f.erase(); f.give() }, []int{4}, "sequence 1 is neither"},
	{"order erased in both stores, limit 1", 1, func(f *field) { f.erase(); f.give() }, []int{4}, "sequence 1 is neither"},
	{"last order erased in both stores", 1, func(f *field) {
		f.sql(`DELETE FROM orders WHERE order_no = $1`, int64(f.eve))
	}, []int{4}, "the ledger has seen the sequence"},
	{"order moved to another user", 1, func(f *field) {
		f.sql(`UPDATE orders SET user_id = 'mallory' WHERE order_no = $1`, int64(f.ann))
	}, []int{4}, "is of ann for 1 in Redis and of mallory"},
	{"amount changed", 0, func(f *field) {
		f.sql(`UPDATE orders SET amount_fen = 1 WHERE order_no = $1`, int64(f.bob))
	}, []int{4}, "costs 1 fen"},
	{"amount in points changed", 0, func(f *field) {
		f.sql(`UPDATE orders SET amount_points = 0 WHERE order_no = $1`, int64(f.bob))
	}, []int{4}, "and 0 points"},
	{"price changed", 0, func(f *field) {
		f.sql(`UPDATE items SET price_fen = price_fen + 1 WHERE id = $1`, int64(f.ID))
	}, []int{4}, "and 1 more"},
	{"quantity and amount changed", 0, func(f *field) {
		f.sql(`UPDATE orders SET quantity = 2, amount_fen = 2 * amount_fen, amount_points = 2 * amount_points
			WHERE order_no = $1`, int64(f.ann))
	}, []int{2, 3, 4}, "for 1 in Redis"},
	{"sequence changed", 0, func(f *field) {
		f.sql(`UPDATE orders SET sequence = 77 WHERE order_no = $1`, int64(f.ann))
	}, []int{3, 4}, "sequence 1 is neither"},
	{"generation changed", 0, func(f *field) {
		f.sql(`UPDATE orders SET generation = 0 WHERE order_no = $1`, int64(f.ann))
	}, []int{4}, "sequence 1 is neither"},
	{"generation ahead", 0, func(f *field) {
		f.sql(`UPDATE orders SET generation = 9 WHERE order_no = $1`, int64(f.ann))
	}, []int{4}, "is of generation 9"},
	{"idempotency key changed", 0, func(f *field) {
		f.sql(`UPDATE orders SET idempotency_key = 'other' WHERE order_no = $1`, int64(f.ann))
	}, []int{4}, "is of ann for 1 in Redis"},
	{"cancelled by hand", 0, func(f *field) {
		f.sql(`UPDATE orders SET status = 'cancelled' WHERE order_no = $1`, int64(f.ann))
	}, []int{2, 3, 4}, "which has ended"},
	{"cancelled by hand with its unit", 1, func(f *field) {
		f.sql(`UPDATE orders SET status = 'cancelled' WHERE order_no = $1`, int64(f.ann))
		f.sql(`UPDATE items SET stock = stock + 1 WHERE id = $1`, int64(f.ID))
	}, []int{3, 4}, "which has ended"},
	{"rejected by hand", 0, func(f *field) {
		f.sql(`UPDATE orders SET status = 'rejected' WHERE order_no = $1`, int64(f.ann))
	}, []int{2, 3, 4}, "rejected order"},
	{"revived by hand", 0, func(f *field) {
		f.sql(`UPDATE orders SET status = 'unpaid' WHERE order_no = $1`, int64(f.eve))
	}, []int{2, 3, 4}, "is not among the buyers"},
	{"order invented", 1, func(f *field) {
		f.sql(`INSERT INTO orders (order_no, item_id, amount_fen, amount_points, generation, sequence, reserved_at,
			pay_deadline, quantity, single, status, user_id)
			SELECT item_id, item_id, amount_fen, amount_points, generation, 99, reserved_at, pay_deadline,
			quantity, single, status, 'mallory' FROM orders WHERE order_no = $1`, int64(f.ann))
	}, []int{3, 4}, "Redis lost writes"},
	{"two orders of a user within another's limit", 1, func(f *field) {
		f.sql(`UPDATE orders SET user_id = 'ann', single = false WHERE order_no = $1`, int64(f.bob))
	}, []int{2, 4}, "1 users hold more than 1 units"},

	// The ledger's accounts.
	{"oversold by a smaller total", 0, func(f *field) {
		f.sql(`UPDATE items SET total = 2, stock = 0 WHERE id = $1`, int64(f.ID))
	}, []int{1, 3}, "oversold"},
	{"stock raised in the ledger", 0, func(f *field) {
		f.sql(`UPDATE items SET stock = stock + 1 WHERE id = $1`, int64(f.ID))
	}, []int{3}, "the ledger's stock"},
	{"stock lowered in the ledger", 0, func(f *field) {
		f.sql(`UPDATE items SET stock = stock - 1 WHERE id = $1`, int64(f.ID))
	}, []int{3}, "the ledger's stock"},
	{"total raised", 0, func(f *field) {
		f.sql(`UPDATE items SET total = total + 5, stock = stock + 5 WHERE id = $1`, int64(f.ID))
	}, []int{3}, "5 units stranded"},
	{"sequence of the item changed", 0, func(f *field) {
		f.sql(`UPDATE items SET sequence = sequence - 1 WHERE id = $1`, int64(f.ID))
	}, []int{4}, "the ledger has seen the sequence"},
	{"generation of the item changed", 0, func(f *field) {
		f.sql(`UPDATE items SET generation = 2 WHERE id = $1`, int64(f.ID))
	}, []int{3, 4}, "the ledger 2"},
	{"limit changed in the ledger", 0, func(f *field) {
		f.sql(`UPDATE items SET "limit" = 9 WHERE id = $1`, int64(f.ID))
	}, []int{4}, "limit is 3 in Redis and 9"},
	{"window changed in the ledger", 0, func(f *field) {
		f.sql(`UPDATE items SET closes_at = closes_at + interval '1 hour' WHERE id = $1`, int64(f.ID))
	}, []int{4}, "closes_at_ms is"},
	{"paused in the ledger alone", 0, func(f *field) {
		f.sql(`UPDATE items SET paused = true WHERE id = $1`, int64(f.ID))
	}, []int{4}, "state is open in Redis and paused"},
	{"holding raised", 0, func(f *field) {
		f.sql(`UPDATE holdings SET units = 3 WHERE item_id = $1 AND user_id = 'ann'`, int64(f.ID))
	}, []int{2}, "holdings"},
	{"holding erased", 0, func(f *field) {
		f.sql(`DELETE FROM holdings WHERE item_id = $1 AND user_id = 'ann'`, int64(f.ID))
	}, []int{2}, "holdings"},
	{"holdings exchanged", 0, func(f *field) {
		f.sql(`UPDATE holdings SET units = CASE user_id WHEN 'ann' THEN 2 ELSE 1 END
			WHERE item_id = $1 AND user_id IN ('ann', 'dan')`, int64(f.ID))
	}, []int{2}, "holdings"},

	// What is owed.
	{"outbox row erased", 0, func(f *field) {
		if _, err := f.rooms.ledger.Cancel(f.t.Context(), f.ann, "ann"); err != nil {
			f.t.Fatal(err)
		}
		f.sql(`DELETE FROM outbox WHERE order_no = $1`, int64(f.ann))
	}, []int{3, 4}, "which has ended"},
	{"release of a live order invented", 0, func(f *field) {
		f.sql(`INSERT INTO outbox (kind, item_id, order_no, quantity, user_id) VALUES ('release', $1, $2, 1, 'ann')`,
			int64(f.ID), int64(f.ann))
	}, []int{4}, "of the unpaid order"},
	{"release of another's order invented", 0, func(f *field) {
		f.sql(`INSERT INTO outbox (kind, item_id, order_no, quantity, user_id) VALUES ('release', $1, $2, 1, 'mallory')`,
			int64(f.ID), int64(f.ann))
	}, []int{4}, "of mallory back, which is not in the ledger"},
	{"restock invented", 0, func(f *field) {
		f.sql(`INSERT INTO outbox (kind, item_id, quantity) VALUES ('restock', $1, 5)`, int64(f.ID))
	}, []int{3}, "5 units too many"},
	{"restock erased", 0, func(f *field) {
		if _, err := f.rooms.ledger.Restock(f.t.Context(), f.ID, 5); err != nil {
			f.t.Fatal(err)
		}
		f.sql(`DELETE FROM outbox WHERE item_id = $1`, int64(f.ID))
	}, []int{3}, "5 units stranded"},

	// The account in Redis.
	{"stock raised in Redis", 0, func(f *field) { f.redis.HIncrBy(f.t.Context(), f.account(), "stock", 1) }, []int{3}, "1 units too many"},
	{"stock lowered in Redis", 0, func(f *field) { f.redis.HIncrBy(f.t.Context(), f.account(), "stock", -1) }, []int{3}, "1 units stranded"},
	{"limit changed in Redis", 0, func(f *field) { f.redis.HSet(f.t.Context(), f.account(), "limit", 5) }, []int{4}, "limit is 5 in Redis and 3"},
	{"opening changed in Redis", 0, func(f *field) { f.redis.HIncrBy(f.t.Context(), f.account(), "opens_at_ms", -1) }, []int{4}, "opens_at_ms is"},
	{"close changed in Redis", 0, func(f *field) { f.redis.HIncrBy(f.t.Context(), f.account(), "closes_at_ms", 1) }, []int{4}, "closes_at_ms is"},
	{"paused in Redis alone", 0, func(f *field) { f.redis.HSet(f.t.Context(), f.account(), "state", "paused") }, []int{4}, "state is paused in Redis and open"},
	{"sequence raised in Redis", 0, func(f *field) { f.redis.HIncrBy(f.t.Context(), f.account(), "seq", 2) }, []int{4}, "and 1 more"},
	{"sequence lowered in Redis", 0, func(f *field) { f.redis.HIncrBy(f.t.Context(), f.account(), "seq", -1) }, []int{3}, "Redis lost writes"},
	{"generation changed in Redis", 0, func(f *field) { f.redis.HSet(f.t.Context(), f.account(), "gen", 7) }, []int{3}, "Redis holds generation 7"},
	{"account deleted", 0, func(f *field) { f.redis.Del(f.t.Context(), f.account()) }, []int{3}, "not in Redis"},
	{"account without a limit", 0, func(f *field) { f.redis.HDel(f.t.Context(), f.account(), "limit") }, []int{3}, "cannot be read"},
	{"account of another type", 0, func(f *field) {
		f.redis.Set(f.t.Context(), f.account(), "nothing", 0)
	}, []int{3}, "cannot be read"},

	// Who holds what in Redis.
	{"buyers deleted", 0, func(f *field) { f.redis.Del(f.t.Context(), f.buyers()) }, []int{4}, "is not among the buyers"},
	{"buyer deleted", 1, func(f *field) { f.redis.HDel(f.t.Context(), f.buyers(), "bob") }, []int{4}, "of bob for 1 is not among the buyers"},
	{"foreign buyer", 1, func(f *field) { f.redis.HSet(f.t.Context(), f.buyers(), "mallory", "77 1 ") }, []int{4}, "mallory holds 1 units for order 77"},
	{"buyer of another's order", 1, func(f *field) {
		f.redis.HSet(f.t.Context(), f.buyers(), "mallory", f.ann.String()+" 1 ")
	}, []int{4}, "is of mallory for 1 in Redis and of ann"},
	{"units of a buyer changed", 0, func(f *field) {
		f.redis.HSet(f.t.Context(), f.buyers(), "ann", f.ann.String()+" 2 key-ann")
	}, []int{4}, "is of ann for 2 in Redis"},
	{"key of a buyer changed", 0, func(f *field) {
		f.redis.HSet(f.t.Context(), f.buyers(), "ann", f.ann.String()+" 1 other")
	}, []int{4}, "is of ann for 1 in Redis"},
	{"order twice in a buyer's hands", 0, func(f *field) {
		line := f.ann.String() + " 1 key-ann"
		f.redis.HSet(f.t.Context(), f.buyers(), "ann", line+","+line)
	}, []int{4}, "twice"},
	{"ended order in a buyer's hands", 0, func(f *field) {
		f.redis.HSet(f.t.Context(), f.buyers(), "eve", f.eve.String()+" 1 key-eve")
	}, []int{4}, "which has ended"},
	{"buyer unreadable", 0, func(f *field) { f.redis.HSet(f.t.Context(), f.buyers(), "ann", "garbage") }, []int{4}, "cannot be read"},
	{"buyers of another type", 0, func(f *field) {
		f.redis.Set(f.t.Context(), f.buyers(), "nobody", 0)
	}, []int{4}, "cannot be read"},

	// What waits.
	{"stream entry removed", 0, func(f *field) {
		f.redis.XDel(f.t.Context(), engine.OrdersKey(0), f.buy())
	}, []int{3, 4}, "sequence 5 is neither"},
	{"buyer of a waiting order deleted", 0, func(f *field) {
		f.buy()
		f.redis.HDel(f.t.Context(), f.buyers(), "zoe")
	}, []int{4}, "waits in the stream"},
	{"dead letter", 0, func(f *field) { f.die() }, []int{3}, "1 dead letters hold units"},
	{"dead letter removed", 0, func(f *field) {
		f.redis.XDel(f.t.Context(), engine.DeadKey(0), f.die())
	}, []int{3, 4}, "sequence 5 is neither"},
}

// die has zoe's order set aside, and returns the id of the dead letter.
func (f *field) die() (id string) {
	f.t.Helper()
	ctx := f.t.Context()
	entry := f.buy()
	found, err := f.redis.XRange(ctx, engine.OrdersKey(0), entry, entry).Result()
	if err != nil || len(found) != 1 {
		f.t.Fatalf("%v %v", found, err)
	}
	values := []string{"entry", entry, "reason", "planted"}
	for _, name := range []string{"item", "gen", "seq", "at_ms"} { // positions decide
		values = append(values, name, found[0].Values[name].(string))
		delete(found[0].Values, name)
	}
	for user, order := range found[0].Values {
		values = append(values, user, order.(string))
	}
	f.redis.XDel(ctx, engine.OrdersKey(0), entry)
	id, err = f.redis.XAdd(ctx, &redis.XAddArgs{Stream: engine.DeadKey(0), Values: values}).Result()
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

// Protects the audit from blindness: each kind of fault is planted on real stores, into an item of
// its own, and one audit names the item and the invariants that each breaks, and no other.
func TestAudit_Plants(t *testing.T) {
	t.Parallel()
	fields := newGarden(t, len(plants)+1, func(n int) int {
		if n == len(plants) || plants[n].limit == 0 {
			return 3
		}
		return plants[n].limit
	})
	untouched := fields[len(plants)]
	report := untouched.audit()
	if !report.OK || report.Moving || len(report.Items) != len(fields) {
		t.Fatalf("before the plants:\n%s", report)
	}
	for n, plant := range plants {
		plant.do(fields[n])
	}
	report = untouched.audit()
	for n, plant := range append(slices.Clone(plants), plant{name: "nothing"}) {
		broken, lines := report.of(fields[n].ID)
		if !slices.Equal(broken, plant.want) || !strings.Contains(lines, plant.line) {
			t.Errorf("%s: broken %v, want %v with %q:\n%s", plant.name, broken, plant.want, plant.line, lines)
		}
		if at := report.Items[n]; at.ItemID != fields[n].ID || at.OK != (len(plant.want) == 0) {
			t.Errorf("%s: %+v", plant.name, at)
		}
	}
}

// audited is a report with a look at one item.
type audited struct{ worker.Report }

func (r audited) of(item flashsale.ItemID) (broken []int, lines string) {
	for _, invariant := range r.Invariants {
		for _, line := range invariant.Broken {
			if !strings.HasPrefix(line, fmt.Sprintf("item %d: ", item)) {
				continue
			}
			lines += line + "\n"
			if !slices.Contains(broken, invariant.Number) {
				broken = append(broken, invariant.Number)
			}
		}
	}
	return broken, lines
}

func (g *garden) audit() audited {
	g.t.Helper()
	auditor, err := worker.NewAuditor(worker.AuditorConfig{
		Engine: g.rooms.engine, Ledger: g.rooms.ledger, RedisURL: g.rooms.redisURL, Settle: time.Millisecond,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	defer auditor.Close()
	report, err := auditor.Audit(g.t.Context(), worker.AuditScope{})
	if err != nil {
		g.t.Fatal(err)
	}
	return audited{report}
}

// newGarden makes n items with orders, all at rest.
func newGarden(t *testing.T, n int, limit func(n int) int) []*field {
	t.Helper()
	g := &garden{installation: newInstallation(t)}
	g.rooms = g.installation.rooms()
	t.Cleanup(g.rooms.close)
	options, err := redis.ParseURL(g.rooms.redisURL)
	if err != nil {
		t.Fatal(err)
	}
	g.redis = redis.NewClient(options)
	t.Cleanup(func() { _ = g.redis.Close() })
	if g.ledger, err = pgx.Connect(t.Context(), g.value("DATABASE_URL")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.ledger.Close(context.Background()) })
	sale := flashsale.Sale{Name: "garden", OpensAt: time.Now().Add(-time.Hour), ClosesAt: time.Now().Add(time.Hour)}
	for k := range n {
		sale.Items = append(sale.Items, flashsale.Item{
			Product: fmt.Sprintf("field %d", k), PriceFen: 990, PointsPrice: 7, Total: 50, Limit: limit(k), PayTimeout: time.Hour,
		})
	}
	if sale, err = g.rooms.ledger.CreateSale(t.Context(), sale); err != nil {
		t.Fatal(err)
	}
	if err := g.rooms.newPreheater().PreheatSale(t.Context(), sale.ID); err != nil {
		t.Fatal(err)
	}
	fields := make([]*field, n)
	for k, item := range sale.Items {
		fields[k] = &field{Item: item, garden: g}
	}
	g.cultivate(fields)
	return fields
}

// cultivate lets a worker run while the orders are made, and then no more.
func (g *garden) cultivate(fields []*field) {
	g.t.Helper()
	if err := g.rooms.openDesk(paying{}, nil); err != nil {
		g.t.Fatal(err)
	}
	w, err := g.rooms.newWorker(working{Consumer: "gardener", AuditEvery: -1, BatchSize: 100, PreheatBefore: -1})
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(g.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for _, f := range fields {
		f.ann, f.bob, f.dan, f.eve = f.order("ann", 1), f.order("bob", 1), f.order("dan", min(2, f.Limit)), f.order("eve", 1)
	}
	for _, f := range fields {
		stacktest.Eventually(g.t, patience, func() error {
			_, err := g.rooms.ledger.Cancel(g.t.Context(), f.eve, "eve")
			if errors.Is(err, flashsale.ErrConflict) {
				return nil // asked twice
			}
			return err
		})
	}
	w.Wake()
	stacktest.Eventually(g.t, patience, func() error {
		var left int
		if err := g.ledger.QueryRow(g.t.Context(), `SELECT count(*) FROM outbox`).Scan(&left); err != nil || left > 0 {
			return fmt.Errorf("%d outbox rows: %w", left, err)
		}
		return nil
	})
	stop()
	if err := <-done; err != nil {
		g.t.Fatal(err)
	}
}

func (f *field) order(user string, quantity int) flashsale.OrderNo {
	f.t.Helper()
	reply, err := f.rooms.engine.Reserve(f.t.Context(), engine.Request{
		Item: f.ID, User: user, Quantity: quantity, IdempotencyKey: "key-" + user,
	})
	if err != nil || reply.Outcome != flashsale.Accepted {
		f.t.Fatalf("reserve: %+v %v", reply, err)
	}
	return reply.OrderNo
}
