package postgres

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"flashsale"
	"flashsale/internal/devstack"
	"flashsale/internal/devstack/stacktest"
)

const benchOrders = 1_000 // orders an iteration, so that the benchmarks compare as they are

// benchBooks is a ledger on a PostgreSQL that syncs its log to disk: DATABASE_URL, which must
// be empty or ours, or one of its own.
func benchBooks(b *testing.B) *books {
	b.Helper()
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		stack, err := devstack.Start(context.Background(), devstack.Config{
			Dir: stacktest.Dir(b), Postgres: true,
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := stack.Stop(); err != nil {
				b.Error(err)
			}
		})
		url = stack.DatabaseURL()
	}
	books := newBooksAt(b, url)
	books.ctx = context.Background() // benchmarks may run longer than tests
	if n := books.count(`SELECT count(*) FROM pg_settings
		WHERE name IN ('fsync', 'full_page_writes') AND setting = 'on'`); n != 2 {
		b.Fatal("the benchmark needs a durable PostgreSQL: fsync and full_page_writes on")
	}
	books.number.Store(time.Now().UnixMicro() << 10) // beyond those of an earlier run
	return books
}

// benchPersist persists fresh orders in batches of size, of users in no order, as they come.
func benchPersist(b *testing.B, size, limit, items int) {
	books := benchBooks(b)
	ids := make([]flashsale.ItemID, items)
	for i := range ids {
		ids[i] = books.item(flashsale.StockMax, limit).ID
	}
	orders := make([]flashsale.Order, benchOrders)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for i := range orders {
			orders[i] = books.order(ids[i%items], "", 1)
			orders[i].User = fmt.Sprintf("user-%016x", uint64(orders[i].OrderNo)*0x9E3779B97F4A7C15)
		}
		b.StartTimer()
		for i := 0; i < len(orders); i += size {
			results, err := books.Persist(books.ctx, orders[i:i+size])
			if err != nil || results[0].Status != flashsale.Unpaid {
				b.Fatal(results, err)
			}
		}
	}
	perOrder := b.Elapsed() / time.Duration(b.N*benchOrders)
	b.ReportMetric(float64(perOrder)/float64(time.Microsecond), "µs/order")
}

// BenchmarkPersist_Batch1000 and BenchmarkPersist_OneByOne persist the same 1,000 orders: their
// ratio is what batching is worth.
func BenchmarkPersist_Batch1000(b *testing.B) { benchPersist(b, benchOrders, 1, 1) }

// BenchmarkPersist_OneByOne is one transaction an order.
func BenchmarkPersist_OneByOne(b *testing.B) { benchPersist(b, 1, 1, 1) }

// BenchmarkPersist_Batch1000Items spreads the batch over 20 items.
func BenchmarkPersist_Batch1000Items(b *testing.B) { benchPersist(b, benchOrders, 1, 20) }

// BenchmarkPersist_Batch1000Limit2 shows what counting holdings costs.
func BenchmarkPersist_Batch1000Limit2(b *testing.B) { benchPersist(b, benchOrders, 2, 1) }

// BenchmarkPersist_Redelivered is the careful road: a batch that is in the ledger already.
func BenchmarkPersist_Redelivered(b *testing.B) {
	books := benchBooks(b)
	orders := books.orders(books.item(flashsale.StockMax, 1).ID, benchOrders)
	books.persist(orders...)
	for b.Loop() {
		if _, err := books.Persist(books.ctx, orders); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRebuildable reads what a rebuild needs of an item with 1,000 orders, in tables of other
// items' orders: the cost is the item's, not the table's.
func BenchmarkRebuildable(b *testing.B) {
	for _, others := range []int{0, 30_000, 300_000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			books := benchBooks(b)
			item, other := books.item(flashsale.StockMax, 1), books.item(flashsale.StockMax, 1)
			books.persist(books.orders(item.ID, benchOrders)...)
			for range others / benchOrders {
				books.persist(books.orders(other.ID, benchOrders)...)
			}
			books.exec(`ANALYZE orders`)
			for b.Loop() {
				if state, err := books.Rebuildable(books.ctx, item.ID); err != nil || len(state.Orders) != benchOrders {
					b.Fatal(len(state.Orders), err)
				}
			}
		})
	}
}
