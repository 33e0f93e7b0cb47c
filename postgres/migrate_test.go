package postgres

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// An empty database gets the schema once; migrating again, as a restart does, changes nothing
// (museum 10: a restart that created the sale anew with full stock).
func TestMigrate_Repeated(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(5, 1)
	b.persist(b.orders(item.ID, 2)...)
	if applied, err := b.Migrate(b.ctx); applied || err != nil {
		t.Errorf("second migration: applied %t, %v", applied, err)
	}
	if err := b.CheckSchema(b.ctx); err != nil {
		t.Error(err)
	}
	if f := b.figures(item.ID); f.Stock != 3 || f.LiveUnits != 2 {
		t.Errorf("stock %d, live %d", f.Stock, f.LiveUnits)
	}
}

// Processes that start together create the schema once, and all of them succeed.
func TestMigrate_Concurrent(t *testing.T) {
	t.Parallel()
	b := &books{t: t, ctx: t.Context(), url: stacktest.Postgres(t)}
	var applied atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		l := b.open(Config{MaxConns: 1})
		all.Go(func() {
			did, err := l.Migrate(b.ctx)
			if err != nil {
				t.Error(err)
			}
			if did {
				applied.Add(1)
			}
		})
	}
	all.Wait()
	if applied.Load() != 1 {
		t.Errorf("%d applied", applied.Load())
	}
}

// Somebody else's database, or another version's, is never touched, and the refusal says what
// to do.
func TestMigrate_Refusals(t *testing.T) {
	t.Parallel()
	const createVersionSQL = `CREATE TABLE schema_version (sha256 text PRIMARY KEY, applied_at timestamptz DEFAULT now())`
	for name, test := range map[string]struct{ sql, says string }{
		"other tables":         {`CREATE TABLE blog (id int); CREATE VIEW posts AS SELECT * FROM blog`, "blog, posts"},
		"other schema_version": {`CREATE TABLE schema_version (version int)`, "not ours"},
		"no version":           {createVersionSQL, "not ours"},
		"another version": {
			createVersionSQL + `; INSERT INTO schema_version VALUES ('0123456789abcdef')`,
			"version 0123456789ab, this program needs",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &books{t: t, ctx: t.Context(), url: stacktest.Postgres(t)}
			b.Ledger = b.open(Config{})
			b.exec(test.sql)
			applied, err := b.Migrate(b.ctx)
			if applied || !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("applied %t, %v", applied, err)
			}
			if err := b.CheckSchema(b.ctx); !errors.Is(err, ErrSchema) {
				t.Errorf("check: %v", err)
			}
			if n := b.count(`SELECT count(*) FROM pg_class WHERE relname = 'orders'`); n != 0 {
				t.Error("the refused database was touched")
			}
		})
	}
}

// A worker on an empty database is told to migrate.
func TestCheckSchema_Empty(t *testing.T) {
	t.Parallel()
	b := &books{t: t, ctx: t.Context(), url: stacktest.Postgres(t)}
	err := b.open(Config{}).CheckSchema(b.ctx)
	if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "flashsale migrate") {
		t.Errorf("check: %v", err)
	}
}

// The constraints hold even against statements that forget every rule (museum 3: one unit too
// many was sold because the code's comparison was wrong).
func TestSchema_Constraints(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(1, 1)
	b.persist(b.order(item.ID, "ada", 1))
	const insert = `INSERT INTO orders (order_no, item_id, amount_fen, amount_points, generation,
		sequence, reserved_at, pay_deadline, quantity, single, status, user_id) VALUES `
	for name, sql := range map[string]string{
		"items_stock":           `UPDATE items SET stock = stock - 1`,
		"orders_one_live_each":  insert + `(99, 1, 1, 1, 1, 1, 'now', 'now', 1, true, 'paid', 'ada')`,
		"orders_pkey":           insert + `(1, 7, 1, 1, 1, 1, 'now', 'now', 1, true, 'paid', 'bob')`,
		"orders_status":         `UPDATE orders SET status = 'pending'`,
		"orders_order_no":       `UPDATE orders SET order_no = 0`,
		"orders_quantity":       `UPDATE orders SET quantity = 0`,
		"holdings_within_limit": `INSERT INTO holdings VALUES (1, 'ada', 2, 1)`,
		"outbox_kind":           `INSERT INTO outbox (kind, item_id, quantity) VALUES ('drop', 1, 1)`,
	} {
		_, err := b.pool.Exec(b.ctx, sql)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Orders that hold nothing any more do not stand in the way of a live one.
	b.exec(`UPDATE orders SET status = 'cancelled'; UPDATE items SET stock = 1`)
	if got := b.persist(b.order(item.ID, "ada", 1)); got[0] != string(flashsale.Unpaid) {
		t.Errorf("after a cancellation: %s", got)
	}
}
