package postgres

import (
	_ "embed"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// schema1 is the text that version1 is the hash of.
//
//go:embed testdata/schema_1.sql
var schema1 string

// catalogSQL describes all columns, constraints and indexes; their order in a table does not count.
const catalogSQL = `
SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ||
       CASE WHEN a.attnotnull THEN ' not null' ELSE '' END || ' collate ' || coalesce(co.collname, '-') || ' ' || a.attidentity::text || a.attgenerated::text || ' ' ||
       coalesce(pg_get_expr(d.adbin, d.adrelid), '')
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_collation co ON co.oid = a.attcollation
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
UNION ALL
SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = current_schema()
UNION ALL
SELECT 'storage ' || relname || ' ' || coalesce(reloptions::text, '') FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
ORDER BY 1`

// Protects an installation that is updated: the steps lead its database to the very schema that an
// empty one gets, and what it holds is kept.
func TestMigrate_Upgrade(t *testing.T) {
	t.Parallel()
	fresh, old := newBooks(t), &books{t: t, ctx: t.Context(), url: stacktest.Postgres(t)}
	conn, err := pgx.Connect(old.ctx, old.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(old.ctx)
	for _, sql := range []string{
		schema1,
		`CREATE TABLE schema_version (sha256 text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())`,
		`INSERT INTO schema_version (sha256) VALUES ('` + version1 + `')`,
		`INSERT INTO products (name) VALUES ('thing')`,
		`INSERT INTO sales (name, opens_at, closes_at) VALUES ('sale', now(), now() + interval '1 hour')`,
		`INSERT INTO items (sale_id, product_id, opens_at, closes_at, price_fen, total, stock)
		 VALUES (1, 1, now(), now() + interval '1 hour', 100, 5, 4)`,
		`INSERT INTO orders (order_no, item_id, amount_fen, amount_points, generation, sequence, reserved_at, pay_deadline, quantity, single, status, user_id)
		 VALUES (7, 1, 100, 0, 1, 1, now(), now() + interval '1 hour', 1, true, 'paid', 'ann')`,
		`INSERT INTO payments (order_no, amount, paid_at, surplus, method, trade_no) VALUES (7, 100, now(), false, 'alipay', 't7')`,
		`INSERT INTO refunds (order_no, amount, next_at, surplus, method, trade_no, refund_no, reason)
		 VALUES (7, 100, now(), false, 'alipay', 't7', 'r7', '')`,
	} {
		if _, err := conn.Exec(old.ctx, sql); err != nil {
			t.Fatalf("%.80s: %v", sql, err)
		}
	}
	ledger := old.open(Config{})
	if applied, err := ledger.Migrate(old.ctx); !applied || err != nil {
		t.Fatalf("applied %t: %v", applied, err)
	}
	want, got := catalog(t, fresh.url), catalog(t, old.url)
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("the upgrade lacks: %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("the upgrade left: %s", line)
		}
	}
	order, err := ledger.Order(old.ctx, 7)
	if err != nil || order.Status != flashsale.Paid || order.User != "ann" {
		t.Errorf("the order is %+v, %v", order, err)
	}
}

func catalog(t *testing.T, url string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, _ := conn.Query(t.Context(), catalogSQL)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, "schema_version") })
}
