package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"flashsale"
)

// What a batch of good orders becomes, down to each column.
func TestPersist_Unpaid(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	orders := b.orders(item.ID, 3)
	orders[1].IdempotencyKey = "try-1"
	orders[0], orders[2] = orders[2], orders[0] // the batch need not be sorted
	if got := b.persist(orders...); !slices.Equal(got, []string{"unpaid", "unpaid", "unpaid"}) {
		t.Fatal(got)
	}
	for _, want := range orders {
		got, err := b.Order(b.ctx, want.OrderNo)
		if err != nil {
			t.Fatal(err)
		}
		if age := time.Since(got.CreatedAt); age < -time.Minute || age > time.Minute {
			t.Errorf("created at %s", got.CreatedAt)
		}
		want.Status, want.AmountFen, want.AmountPoints = flashsale.Unpaid, 990, 7
		want.ReservedAt = want.ReservedAt.UTC()
		want.CreatedAt, want.UpdatedAt = got.CreatedAt, got.CreatedAt
		want.PayDeadline = got.CreatedAt.Add(time.Hour)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	if f := b.figures(item.ID); f.Stock != 7 || f.LiveUnits != 3 || f.Sequence != 3 {
		t.Errorf("stock %d, live %d, sequence %d", f.Stock, f.LiveUnits, f.Sequence)
	}
	b.check()
}

// Every reason for a rejection, and every mix in one batch. All of them must leave the books in
// order and owe one release for each rejected order (museum 3 and 5).
func TestPersist_Outcomes(t *testing.T) {
	t.Parallel()
	const unknown = "unknown"
	type entry struct {
		item     string // single: limit 1, stock 2; many: limit 3, stock 7
		user     string
		quantity int
		want     string
	}
	for name, batches := range map[string][][]entry{
		"the last unit and one more": {{
			{"single", "a", 1, "unpaid"},
			{"single", "b", 1, "unpaid"},
			{"single", "c", 1, "rejected sold_out"},
		}},
		"duplicate in a batch": {{
			{"single", "a", 1, "unpaid"},
			{"single", "a", 1, "rejected duplicate_order"},
			{"single", "b", 1, "unpaid"},
		}},
		"duplicate of an earlier batch": {
			{{"single", "a", 1, "unpaid"}},
			{{"single", "a", 1, "rejected duplicate_order"}, {"single", "b", 1, "unpaid"}},
		},
		"duplicates leave the stock to others": {{
			{"single", "a", 1, "unpaid"},
			{"single", "a", 1, "rejected duplicate_order"},
			{"single", "a", 1, "rejected duplicate_order"},
			{"single", "b", 1, "unpaid"},
			{"single", "c", 1, "rejected sold_out"},
		}},
		"two units where one is allowed": {{
			{"single", "a", 2, "rejected limit_reached"}, {"single", "a", 1, "unpaid"},
		}},
		"unknown item among good orders": {{
			{"single", "a", 1, "unpaid"},
			{unknown, "a", 1, "rejected item_not_found"},
			{"many", "a", 2, "unpaid"},
		}},
		"up to the limit": {
			{{"many", "a", 1, "unpaid"}, {"many", "a", 2, "unpaid"}},
			{{"many", "a", 1, "rejected limit_reached"}, {"many", "b", 3, "unpaid"}},
		},
		"over the limit in one batch": {{
			{"many", "a", 2, "unpaid"},
			{"many", "a", 2, "rejected limit_reached"},
			{"many", "a", 1, "unpaid"},
			{"many", "a", 4, "rejected limit_reached"},
		}},
		"a rejected order uses up no limit": { // museum 5
			{{"many", "a", 3, "unpaid"}, {"many", "b", 3, "unpaid"}},
			{{"many", "c", 2, "rejected sold_out"}, {"many", "c", 1, "unpaid"}},
		},
		"a big order does not fit, a small one does": {
			{{"many", "a", 3, "unpaid"}, {"many", "b", 3, "unpaid"}, {"many", "c", 3, "rejected sold_out"}},
			{{"many", "d", 1, "unpaid"}, {"many", "e", 1, "rejected sold_out"}},
		},
		"several items, each with its own end": {{
			{"many", "a", 3, "unpaid"},
			{"single", "a", 1, "unpaid"},
			{"many", "b", 3, "unpaid"},
			{"single", "b", 1, "unpaid"},
			{"many", "c", 2, "rejected sold_out"},
			{"single", "c", 1, "rejected sold_out"},
			{"many", "c", 1, "unpaid"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBooks(t)
			items := map[string]flashsale.ItemID{
				"single": b.item(2, 1).ID, "many": b.item(7, 3).ID, unknown: 4711,
			}
			rejected := 0
			for n, batch := range batches {
				var orders []flashsale.Order
				var want []string
				for _, e := range batch {
					orders = append(orders, b.order(items[e.item], e.user, e.quantity))
					want = append(want, e.want)
					if strings.HasPrefix(e.want, "rejected") && e.item != unknown {
						rejected++
					}
				}
				for range 2 { // redelivered, it is what it was
					if got := b.persist(orders...); !slices.Equal(got, want) {
						t.Errorf("batch %d: got  %q\nwant %q", n, got, want)
					}
					b.check()
				}
			}
			if got := b.releases(); len(got) != rejected {
				t.Errorf("%d releases owed for %d rejected orders", len(got), rejected)
			}
		})
	}
}

// A process that has just started does not know which items allow more than one unit. It must
// count them all the same, and find it out.
func TestPersist_LimitNotKnownYet(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item, single := b.item(10, 3), b.item(10, 1)
	for _, want := range []string{"unpaid", "unpaid", "unpaid", "rejected limit_reached"} {
		b.Ledger = b.open(Config{})
		got := b.persist(b.order(item.ID, "ada", 1), b.order(single.ID, "bob", 1))
		if got[0] != want {
			t.Errorf("got %s, want %s", got[0], want)
		}
		b.check()
		if _, known := b.many.Load(item.ID); !known {
			t.Error("the limit is still not known")
		}
	}
}

// Redelivery reports the present state and neither takes units again nor revives an order,
// alone, among new orders, and twice in one batch.
func TestPersist_Redelivered(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	orders := b.orders(item.ID, 4)
	b.persist(orders[:3]...)
	if _, err := b.Cancel(b.ctx, orders[1].OrderNo, orders[1].User); err != nil {
		t.Fatal(err)
	}
	b.exec(`UPDATE orders SET status = 'paid' WHERE order_no = $1`, int64(orders[2].OrderNo))

	batch := []flashsale.Order{orders[3], orders[0], orders[1], orders[2], orders[3], orders[0]}
	want := []string{"unpaid", "unpaid", "cancelled shopper", "paid", "unpaid", "unpaid"}
	for range 2 {
		if got := b.persist(batch...); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	b.check()
	if f := b.figures(item.ID); f.Stock != 7 {
		t.Errorf("stock %d, want 7", f.Stock)
	}
	// The user whose order was cancelled may buy again.
	if got := b.persist(b.order(item.ID, orders[1].User, 1)); got[0] != "unpaid" {
		t.Error(got)
	}
	// A rejected order stays rejected when its release was carried out and the row deleted.
	twin := b.order(item.ID, orders[0].User, 1)
	b.persist(twin)
	b.exec(`DELETE FROM outbox`)
	if got := b.persist(twin); got[0] != "rejected duplicate_order" {
		t.Error(got)
	}
	if n := b.releases(); len(n) != 0 {
		t.Errorf("released again: %v", n)
	}
}

// One order_no for two purchases: the first that the ledger hears of keeps it, the other is
// rejected and its units are owed to its own user, once, whatever the owner of the number does
// and however often it is delivered. Its sequence counts.
func TestPersist_Collision(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item, other := b.item(10, 1), b.item(10, 1)
	first := b.order(item.ID, "ada", 1)
	b.persist(first)
	for name, change := range map[string]func(*flashsale.Order){
		"bob":   func(o *flashsale.Order) { o.User, o.Sequence = "bob", 70 },
		"other": func(o *flashsale.Order) { o.ItemID = other.ID },
	} {
		twin, good := first, b.order(item.ID, name, 1)
		change(&twin)
		good.User = "good-" + name
		for _, batch := range [][]flashsale.Order{{twin}, {good, twin}, {twin, first}, {first, twin}} {
			got := b.persist(batch...)
			for i, order := range batch {
				want := "unpaid"
				if order.User == twin.User && order.ItemID == twin.ItemID {
					want = "rejected number_taken"
				}
				if got[i] != want {
					t.Errorf("%s: order %d of %d is %s, want %s", name, i, len(batch), got[i], want)
				}
			}
		}
	}
	if f := b.figures(item.ID); f.Sequence != 70 || f.Stock != 7 {
		t.Errorf("sequence %d, stock %d", f.Sequence, f.Stock)
	}
	if _, err := b.Cancel(b.ctx, first.OrderNo, "ada"); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`SELECT count(*) FROM outbox WHERE kind = 'release' AND order_no = $1`,
		int64(first.OrderNo)); n != 3 {
		t.Errorf("%d releases are owed, want those of ada, bob and the other item", n)
	}
	b.exec(`DELETE FROM outbox`) // carried out
	twin := first
	twin.User = "bob"
	if got := b.persist(twin); got[0] != "rejected number_taken" {
		t.Error(got)
	}
	if n := b.releases(); len(n) != 0 {
		t.Errorf("released again: %v", n)
	}
	b.checkUnits()

	// Both new, in one batch.
	pair := b.orders(item.ID, 2)
	pair[1].OrderNo = pair[0].OrderNo
	if got := b.persist(pair...); !slices.Equal(got, []string{"unpaid", "rejected number_taken"}) {
		t.Error(got)
	}
	if order, err := b.Order(b.ctx, pair[0].OrderNo); err != nil || order.User != pair[0].User {
		t.Errorf("the first order is %+v, %v", order, err)
	}
}

// unstorableOf are the indexes that an error names.
func unstorableOf(err error) (indexes []int) {
	if bad, ok := errors.AsType[*flashsale.UnstorableError](err); ok {
		for _, order := range bad.Orders {
			indexes = append(indexes, order.Index)
		}
	}
	return indexes
}

// What PostgreSQL can never store is permanent, and nothing of its batch is half done: the
// good neighbours are stored when they come again (museum 8: a mark that outlived its
// transaction).
func TestPersist_Permanent(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	for name, spoil := range map[string]func(*flashsale.Order){
		"NUL in the user":    func(o *flashsale.Order) { o.User = "a\x00b" },
		"broken UTF-8":       func(o *flashsale.Order) { o.User = "a\xff" },
		"NUL in the key":     func(o *flashsale.Order) { o.IdempotencyKey = "k\x00" },
		"no user":            func(o *flashsale.Order) { o.User = "" },
		"long user":          func(o *flashsale.Order) { o.User = strings.Repeat("u", 65) },
		"no order_no":        func(o *flashsale.Order) { o.OrderNo = 0 },
		"negative item":      func(o *flashsale.Order) { o.ItemID = -1 },
		"no quantity":        func(o *flashsale.Order) { o.Quantity = 0 },
		"negative quantity":  func(o *flashsale.Order) { o.Quantity = -1 },
		"quantity too large": func(o *flashsale.Order) { o.Quantity = math.MaxInt32 + 1 },
		"no time":            func(o *flashsale.Order) { o.ReservedAt = time.Time{} },
		"time out of range":  func(o *flashsale.Order) { o.ReservedAt = time.UnixMilli(math.MaxInt64 / 2) },
	} {
		bad, good := b.order(item.ID, "bad", 1), b.order(item.ID, "good", 1)
		spoil(&bad)
		_, err := b.Persist(b.ctx, []flashsale.Order{good, bad, bad})
		if !errors.Is(err, flashsale.ErrPermanent) || !slices.Equal(unstorableOf(err), []int{1, 2}) {
			t.Errorf("%s: %v", name, err)
		}
		if known, err := b.LookUp(b.ctx, []flashsale.OrderNo{good.OrderNo}); err != nil || len(known) > 0 {
			t.Errorf("%s: half done: %v, %v", name, known, err)
		}
	}
	b.check()
	if f := b.figures(item.ID); f.Stock != 10 {
		t.Errorf("stock %d", f.Stock)
	}
	// An enormous quantity is no fault of the text: it is refused as over the limit.
	if got := b.persist(b.order(item.ID, "greedy", math.MaxInt32)); got[0] != "rejected limit_reached" {
		t.Error(got)
	}
}

// What somebody did to the schema, the rights or the settings is held against no order, however
// many of a batch it hits and whether the batch is of one: the orders wait, and are stored once it
// is mended.
func TestPersist_NotTheOrders(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	role := b.role()
	b.number.Store(100_000) // sequences beyond 16 bits
	for name, fault := range map[string]struct{ spoil, mend string }{
		"impossible CHECK": {
			`ALTER TABLE orders ADD CONSTRAINT broken CHECK (order_no < 0) NOT VALID`,
			`ALTER TABLE orders DROP CONSTRAINT broken`,
		},
		"CHECK on the amount": {
			`ALTER TABLE orders ADD CONSTRAINT broken CHECK (amount_fen < 100) NOT VALID`,
			`ALTER TABLE orders DROP CONSTRAINT broken`,
		},
		"CHECK on a length that half of the users keep": {
			`ALTER TABLE orders ADD CONSTRAINT broken CHECK (length(user_id) < 6) NOT VALID`,
			`ALTER TABLE orders DROP CONSTRAINT broken`,
		},
		"CHECK on one item": {
			`ALTER TABLE orders ADD CONSTRAINT broken CHECK (item_id % 2 = 0) NOT VALID`,
			`ALTER TABLE orders DROP CONSTRAINT broken`,
		},
		"CHECK on a kind of names": {
			`ALTER TABLE orders ADD CONSTRAINT broken CHECK (user_id !~ '[0-9]') NOT VALID`,
			`ALTER TABLE orders DROP CONSTRAINT broken`,
		},
		"CHECK on the outbox": {
			`ALTER TABLE outbox ADD CONSTRAINT broken CHECK (user_id = 'nobody') NOT VALID`,
			`ALTER TABLE outbox DROP CONSTRAINT broken`,
		},
		"dropped constraint": {
			`ALTER TABLE holdings DROP CONSTRAINT holdings_pkey`,
			`ALTER TABLE holdings ADD CONSTRAINT holdings_pkey PRIMARY KEY (item_id, user_id)`,
		},
		"narrowed text": {
			`ALTER TABLE orders ALTER user_id TYPE varchar(5)`,
			`ALTER TABLE orders ALTER user_id TYPE text COLLATE "C"`,
		},
		"narrowed number": {
			`ALTER TABLE orders ALTER reserved_at DROP NOT NULL, ALTER amount_fen TYPE smallint USING 1, ALTER sequence TYPE smallint`,
			`ALTER TABLE orders ALTER reserved_at SET NOT NULL, ALTER amount_fen TYPE bigint, ALTER sequence TYPE bigint`,
		},
		"column that must be filled": {
			`ALTER TABLE orders ADD shop text NOT NULL DEFAULT 'x'; ALTER TABLE orders ALTER shop DROP DEFAULT`,
			`ALTER TABLE orders DROP shop`,
		},
		"key that must be given": {
			`ALTER TABLE orders ADD CONSTRAINT broken CHECK (idempotency_key IS NOT NULL) NOT VALID`,
			`ALTER TABLE orders DROP CONSTRAINT broken`,
		},
		"renamed column": {
			`ALTER TABLE orders RENAME quantity TO amount`, `ALTER TABLE orders RENAME amount TO quantity`,
		},
		"column of another type": {
			`ALTER TABLE orders ALTER single DROP NOT NULL; ALTER TABLE orders RENAME single TO s2; ALTER TABLE orders ADD single point`,
			`ALTER TABLE orders DROP single; ALTER TABLE orders RENAME s2 TO single; ALTER TABLE orders ALTER single SET NOT NULL`,
		},
		"foreign key": {
			`CREATE TABLE users (id text PRIMARY KEY); ALTER TABLE orders ADD CONSTRAINT broken FOREIGN KEY (user_id) REFERENCES users NOT VALID`,
			`ALTER TABLE orders DROP CONSTRAINT broken`,
		},
		"trigger": {
			`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
			 CREATE TRIGGER broken BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION refuse()`,
			`DROP TRIGGER broken ON orders`,
		},
		"unique index": {
			`CREATE UNIQUE INDEX broken ON orders (quantity)`, `DROP INDEX broken`,
		},
		"right": {
			`REVOKE INSERT ON orders FROM shop`, `GRANT INSERT ON orders TO shop`,
		},
		"only reads": {
			`ALTER ROLE shop SET default_transaction_read_only = on`, `ALTER ROLE shop RESET default_transaction_read_only`,
		},
	} {
		single, many := b.item(1000, 1), b.item(1000, 3)
		orders := slices.Concat(b.orders(single.ID, 15), b.orders(many.ID, 15))
		orders[3].IdempotencyKey = "key-3"
		stale := b.order(single.ID, orders[0].User, 1) // to be rejected
		orders = append(orders, stale)
		b.exec(strings.ReplaceAll(fault.spoil, "shop", role))
		clerk := b.as(role)
		for _, batch := range [][]flashsale.Order{orders, orders[:1], orders[20:21], {orders[0], stale}} {
			_, err := clerk.Persist(b.ctx, batch)
			if err == nil && len(batch) == len(orders) {
				t.Errorf("%s: stored: the fault is none", name)
			}
			if errors.Is(err, flashsale.ErrPermanent) {
				t.Errorf("%s: batch of %d: %v", name, len(batch), err)
			}
		}
		b.exec(strings.ReplaceAll(fault.mend, "shop", role))
		results, err := b.as(role).Persist(b.ctx, orders)
		if err != nil {
			t.Fatalf("%s: once it is mended: %v", name, err)
		}
		for i, result := range results {
			if (result.Status == flashsale.Unpaid) != (i < 30) {
				t.Errorf("%s: order %d is %s once it is mended", name, i, result.Status)
			}
		}
		b.exec(`DELETE FROM orders; DELETE FROM holdings; DELETE FROM outbox`)
	}
}

// What PostgreSQL has against the text of one order is held against that order alone, among
// others or by itself, so that it does not stop its neighbours.
func TestPersist_OneOrderIsRefused(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(1000, 1)
	b.exec(`ALTER TABLE orders ADD CONSTRAINT broken CHECK (user_id <> 'mallory' AND idempotency_key <> 'poison')`)
	orders := b.orders(item.ID, 100)
	orders[17].User, orders[64].IdempotencyKey = "mallory", "poison"
	for _, test := range []struct {
		batch []flashsale.Order
		want  []int
	}{
		{orders, []int{17, 64}},
		{orders[17:18], []int{0}},
		{orders[64:65], []int{0}},
		{slices.Concat(orders[10:20], orders[17:18]), []int{7, 10}},
	} {
		_, err := b.Persist(b.ctx, test.batch)
		if got := unstorableOf(err); !slices.Equal(got, test.want) {
			t.Errorf("batch of %d: named %v, want %v: %v", len(test.batch), got, test.want, err)
		}
		if err != nil && !strings.Contains(err.Error(), "broken") {
			t.Errorf("the reason does not name the constraint: %v", err)
		}
	}
	if n := b.count(`SELECT count(*) FROM orders`); n != 0 {
		t.Errorf("%d orders were stored", n)
	}
	good := slices.Concat(orders[:17], orders[18:64], orders[65:])
	for i, got := range b.persist(good...) {
		if got != "unpaid" {
			t.Errorf("neighbour %d is %s", i, got)
		}
	}
	b.check()
}

// Waiting for a row that another transaction holds, and a cancelled caller, are transient: the
// batch is persisted when it comes again.
func TestPersist_Transient(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	orders := b.orders(item.ID, 2)
	impatient := b.open(Config{LockTimeout: 50 * time.Millisecond})
	tx := b.begin()
	if _, err := tx.Exec(b.ctx, lockItemsSQL, []int64{int64(item.ID)}); err != nil {
		t.Fatal(err)
	}
	if _, err := impatient.Persist(b.ctx, orders); err == nil || errors.Is(err, flashsale.ErrPermanent) {
		t.Errorf("lock timeout: %v", err)
	}
	if err := tx.Rollback(b.ctx); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if _, err := b.Persist(ctx, orders); err == nil || errors.Is(err, flashsale.ErrPermanent) {
		t.Errorf("cancelled: %v", err)
	}
	if got := b.persist(orders...); !slices.Equal(got, []string{"unpaid", "unpaid"}) {
		t.Error(got)
	}
	if results, err := b.Persist(b.ctx, nil); len(results) != 0 || err != nil {
		t.Errorf("empty batch: %v, %v", results, err)
	}
	b.check()
}

// Only sequences of the item's present generation count, on the fast road and on the careful
// one: an entry left over from before a rebuild must not hide that Redis fell back.
func TestPersist_Sequence(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(100, 1)
	b.exec(`UPDATE items SET generation = 2`)
	persist := func(user string, generation, sequence int64) {
		order := b.order(item.ID, user, 1)
		order.Generation, order.Sequence = generation, sequence
		b.persist(order)
	}
	for _, step := range []struct {
		user                       string
		generation, sequence, want int64
	}{
		{"a", 2, 5, 5}, {"b", 2, 3, 5}, {"c", 1, 90, 5}, {"a", 2, 6, 6}, {"a", 1, 91, 6}, {"d", 3, 1, 6},
	} {
		persist(step.user, step.generation, step.sequence)
		if f := b.figures(item.ID); f.Sequence != step.want {
			t.Errorf("after %+v: sequence %d", step, f.Sequence)
		}
	}
}

// What a Redis accepted before it lost its memory is rejected once the item was rebuilt, since
// its units are on sale again; a Redis that is a generation ahead of a lost commit is believed.
func TestPersist_OlderGeneration(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(2, 1)
	b.exec(`UPDATE items SET generation = 2`)
	var orders []flashsale.Order
	for i, generation := range []int64{1, 2, 3, 1} {
		order := b.order(item.ID, string(rune('a'+i)), 1)
		order.Generation = generation
		orders = append(orders, order)
	}
	want := []string{"rejected rebuilt", "unpaid", "unpaid", "rejected rebuilt"}
	if got := b.persist(orders...); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := b.persist(orders...); !slices.Equal(got, want) {
		t.Errorf("redelivered: %q, want %q", got, want)
	}
	b.check()
}

// Workers whose batches overlap, as after a claim, sell each unit once, agree on every order
// and never need more than a retry. One item sells out, another has a limit of 3, and users
// come again and again.
func TestPersist_Concurrent(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	single, many, large := b.item(40, 1), b.item(60, 3), b.item(100_000, 1)
	random := rand.New(rand.NewPCG(1, 2))
	var orders []flashsale.Order
	for range 600 {
		user := fmt.Sprintf("u%d", random.IntN(90))
		switch random.IntN(3) {
		case 0:
			orders = append(orders, b.order(single.ID, user, 1))
		case 1:
			orders = append(orders, b.order(many.ID, user, 1+random.IntN(3)))
		default:
			orders = append(orders, b.order(large.ID, user, 1))
		}
	}

	var (
		mu   sync.Mutex
		seen = make(map[flashsale.OrderNo]flashsale.Result)
		all  sync.WaitGroup
	)
	for worker := range 8 {
		random := rand.New(rand.NewPCG(7, uint64(worker)))
		mine := slices.Clone(orders)
		all.Go(func() {
			// Batches are near each other in time, so shuffle within a window only.
			for i := range mine {
				j := min(len(mine)-1, i+random.IntN(40))
				mine[i], mine[j] = mine[j], mine[i]
			}
			for batch := range slices.Chunk(mine, 1+random.IntN(80)) {
				var results []flashsale.Result
				err := errors.New("not tried")
				for try := 0; err != nil; try++ {
					results, err = b.Persist(b.ctx, batch)
					if errors.Is(err, flashsale.ErrPermanent) || try == 50 {
						t.Errorf("worker %d: %v", worker, err)
						return
					}
				}
				mu.Lock()
				for _, result := range results {
					if before, ok := seen[result.OrderNo]; ok && before != result {
						t.Errorf("workers disagree: %+v and %+v", before, result)
					}
					seen[result.OrderNo] = result
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	b.check()
	if len(seen) != len(orders) {
		t.Errorf("%d results for %d orders", len(seen), len(orders))
	}
	if f := b.figures(single.ID); f.Stock != 0 {
		t.Errorf("%d units stranded", f.Stock)
	}
}
