package postgres

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

func TestMain(m *testing.M) {
	// Each step of the model test is a few round trips. The command line can ask for more.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(stacktest.Suite(m))
}

const testTimeout = 3 * time.Minute

// books is a migrated ledger in a database of the test's own, and what tests ask of it.
type books struct {
	*Ledger
	t      testing.TB
	ctx    context.Context //nolint:containedctx // lives as long as the test
	url    string
	number atomic.Int64 // the last order_no given
}

func newBooks(t testing.TB) *books {
	t.Helper()
	return newBooksAt(t, stacktest.Postgres(t))
}

func newBooksAt(t testing.TB, url string) *books {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	b := &books{t: t, ctx: ctx, url: url}
	b.Ledger = b.open(Config{MaxConns: 12})
	if _, err := b.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

// open opens a further ledger on the same database, as another process would.
func (b *books) open(config Config) *Ledger {
	b.t.Helper()
	config.URL = b.url
	ledger, err := Open(b.ctx, config)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(ledger.Close)
	return ledger
}

// item creates a sale with one open item.
func (b *books) item(stock int64, limit int) flashsale.Item {
	b.t.Helper()
	now := time.Now()
	sale, err := b.CreateSale(b.ctx, flashsale.Sale{
		Name: "sale", OpensAt: now.Add(-time.Hour), ClosesAt: now.Add(time.Hour),
		Items: []flashsale.Item{{
			Product: "lamp", PriceFen: 990, PointsPrice: 7, Total: stock, Limit: limit,
			PayTimeout: time.Hour,
		}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return sale.Items[0]
}

// order makes a pending order with the next order_no.
func (b *books) order(item flashsale.ItemID, user string, quantity int) flashsale.Order {
	n := b.number.Add(1)
	return flashsale.Order{
		OrderNo: flashsale.OrderNo(n), ItemID: item, User: user, Quantity: quantity,
		Generation: 0, Sequence: n, Status: flashsale.Pending,
		ReservedAt: time.UnixMilli(1_700_000_000_000 + n%1_000_000),
	}
}

func (b *books) orders(item flashsale.ItemID, n int) []flashsale.Order {
	orders := make([]flashsale.Order, n)
	for i := range orders {
		orders[i] = b.order(item, "", 1)
		orders[i].User = fmt.Sprintf("user%d", orders[i].OrderNo)
	}
	return orders
}

// persist persists and returns "status reason" of each order.
func (b *books) persist(orders ...flashsale.Order) []string {
	b.t.Helper()
	results, err := b.Persist(b.ctx, orders)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(results) != len(orders) {
		b.t.Fatalf("%d results for %d orders", len(results), len(orders))
	}
	texts := make([]string, len(results))
	for i, result := range results {
		if result.OrderNo != orders[i].OrderNo || result.User != orders[i].User {
			b.t.Fatalf("result %d is %+v, the order %+v", i, result, orders[i])
		}
		texts[i] = string(result.Status)
		if result.Reason != "" {
			texts[i] += " " + result.Reason
		}
	}
	return texts
}

// role makes a role that may do what a worker does, and no more. Roles are the whole server's, so
// it has a name of its own.
func (b *books) role() (name string) {
	b.t.Helper()
	name = fmt.Sprintf("shop%d", roles.Add(1))
	b.exec(`CREATE ROLE ` + name + ` LOGIN;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ` + name)
	return name
}

var roles atomic.Int64

// as opens the ledger as another role does.
func (b *books) as(role string) *Ledger {
	b.t.Helper()
	config, err := pgx.ParseConfig(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	ledger, err := Open(b.ctx, Config{MaxConns: 2, URL: fmt.Sprintf(
		"host=%s port=%d user=%s database=%s sslmode=disable", config.Host, config.Port, role, config.Database)})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(ledger.Close)
	return ledger
}

func (b *books) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.pool.Exec(b.ctx, sql, args...); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

func (b *books) count(sql string, args ...any) (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.ctx, sql, args...).Scan(&n); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// begin opens a transaction that ends with the test, so that a failure cannot keep its
// connection, for which Close would wait.
func (b *books) begin() pgx.Tx {
	b.t.Helper()
	tx, err := b.pool.Begin(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := tx.Rollback(context.Background()); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			b.t.Error(err)
		}
	})
	return tx
}

// due lets the pay deadline of orders pass, or of all for none.
func (b *books) due(orders ...flashsale.OrderNo) {
	b.t.Helper()
	b.exec(`UPDATE orders SET pay_deadline = now() - interval '1 second'
		WHERE cardinality($1::bigint[]) = 0 OR order_no = ANY ($1)`, int64s(orders))
}

// releases are the orders whose release is owed, in the order of the outbox.
func (b *books) releases() []int64 {
	b.t.Helper()
	rows, _ := b.pool.Query(b.ctx, `SELECT order_no FROM outbox WHERE kind = 'release' ORDER BY id`)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		b.t.Fatal(err)
	}
	return numbers
}

// figures returns one item's.
func (b *books) figures(item flashsale.ItemID) flashsale.ItemFigures {
	b.t.Helper()
	figures, err := b.Figures(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range figures.Items {
		if f.ID == item {
			return f
		}
	}
	b.t.Fatalf("no figures for item %s", item)
	return flashsale.ItemFigures{}
}

// check proves what holds after every commit: stock and live units add up to the total, nobody
// is over the limit, holdings say what the orders say, and the units of each rejected or
// cancelled order of a known item are owed (tests that carry releases out do not call it).
func (b *books) check() {
	b.t.Helper()
	b.checkUnits()
	if n := b.count(`SELECT count(*) FROM orders o JOIN items i ON i.id = o.item_id
		FULL JOIN outbox x ON x.order_no = o.order_no AND x.kind = 'release'
		WHERE (o.status IN ('rejected', 'cancelled')) <> (x.id IS NOT NULL)
		   OR x.quantity <> o.quantity OR x.user_id <> o.user_id OR x.item_id <> o.item_id
		   OR o.order_no IS NULL AND x.kind = 'release'`); n != 0 {
		b.t.Errorf("%d orders whose release is not owed exactly once", n)
	}
}

func (b *books) checkUnits() {
	b.t.Helper()
	figures, err := b.Figures(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range figures.Items {
		if f.Stock+f.LiveUnits != f.Total || f.Stock < 0 || f.UsersOverLimit != 0 {
			b.t.Errorf("item %s: total %d, stock %d, live %d, users over the limit %d",
				f.ID, f.Total, f.Stock, f.LiveUnits, f.UsersOverLimit)
		}
	}
	if n := b.count(`SELECT count(*) FROM orders o JOIN items i ON i.id = o.item_id
		WHERE o.status <> 'rejected' AND o.single <> (i."limit" = 1)`); n != 0 {
		b.t.Errorf("%d orders are guarded by the wrong rule", n)
	}
	if n := b.count(`SELECT count(*) FROM (
			SELECT item_id, user_id, sum(quantity) AS units FROM orders
			WHERE NOT single AND status IN ('unpaid', 'paid', 'refunding') GROUP BY 1, 2
		) o FULL JOIN holdings h USING (item_id, user_id)
		WHERE coalesce(o.units, 0) <> coalesce(h.units, 0)`); n != 0 {
		b.t.Errorf("%d holdings differ from the orders", n)
	}
}
