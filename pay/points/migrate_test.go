package points_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"flashsale/internal/devstack/stacktest"
	"flashsale/pay/points"
)

// It protects upgrades and restarts: an empty database is filled once, a current one is left as
// it is, also when several processes start at once.
func TestMigrate_Once(t *testing.T) {
	t.Parallel()
	b := open(t, stacktest.Postgres(t))
	if err := b.CheckSchema(t.Context()); err == nil || !strings.Contains(err.Error(), "run flashsale migrate") {
		t.Errorf("CheckSchema of an empty database: %v", err)
	}
	var (
		applied atomic.Int64
		group   sync.WaitGroup
	)
	for range 5 {
		group.Go(func() {
			did, err := b.Migrate(t.Context())
			if err != nil {
				t.Error(err)
			}
			if did {
				applied.Add(1)
			}
		})
	}
	group.Wait()
	if n := applied.Load(); n != 1 {
		t.Errorf("the schema was created %d times", n)
	}
	if err := b.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
	b.grant(t, "ann", 1)
	assertSound(t, b)
}

// It protects the data in a database that is not ours, or of another version: it is refused,
// with what to do, and nothing is created in it.
func TestMigrate_Refused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, want string }{
		"the orders' tables": {
			`CREATE TABLE orders (); CREATE TABLE schema_version (sha256 text)`,
			"not ours (orders, schema_version): give points an empty database of its own and set POINTS_DATABASE_URL",
		},
		"another version": {
			`CREATE TABLE points_schema_version (sha256 text); INSERT INTO points_schema_version VALUES ('0123456789abcdef')`,
			"holds version 0123456789ab, this program needs",
		},
		"a version table without a version": {
			`CREATE TABLE points_schema_version (sha256 text)`, "points_schema_version that is not ours",
		},
		"somebody's version table": {
			`CREATE TABLE points_schema_version (number int)`, "points_schema_version that is not ours",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, stacktest.Postgres(t))
			if err := b.exec(t, c.sql); err != nil {
				t.Fatal(err)
			}
			applied, err := b.Migrate(t.Context())
			assertError(t, "Migrate", err, points.ErrSchema)
			if applied || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Migrate = %v, %v; want %q", applied, err, c.want)
			}
			assertError(t, "CheckSchema", b.CheckSchema(t.Context()), points.ErrSchema)
			if err := b.exec(t, `SELECT FROM entries`); err == nil {
				t.Error("the schema was created all the same")
			}
		})
	}
}

// It protects the ledger from whoever holds its password: entries and fences are append-only,
// and no UPDATE brings an account below zero, above its grants or an order a second debit.
func TestSchema_Constraints(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orderNo := b.hold(t, "ann", 10)
	if _, err := b.Confirm(t.Context(), orderNo); err != nil {
		t.Fatal(err)
	}
	b.hold(t, "ann", 5)
	for sql, want := range map[string]string{
		`UPDATE entries SET points = 1`:                                         "append-only",
		`DELETE FROM entries`:                                                   "append-only",
		`TRUNCATE entries`:                                                      "append-only",
		`UPDATE fences SET step = 'try'`:                                        "append-only",
		`DELETE FROM fences`:                                                    "append-only",
		`UPDATE accounts SET frozen = -1`:                                       "accounts_frozen",
		`UPDATE accounts SET frozen = balance + 1`:                              "accounts_frozen",
		`UPDATE accounts SET frozen = 0, balance = -1`:                          "accounts_balance",
		`UPDATE accounts SET balance = granted + 1`:                             "accounts_granted",
		`UPDATE accounts SET granted = 1000000000000001`:                        "accounts_granted",
		`UPDATE holds SET points = 0`:                                           "holds_points",
		`UPDATE holds SET state = 'lost'`:                                       "holds_state",
		`INSERT INTO fences VALUES (1, now(), 'refund')`:                        "fences_step",
		entry(`'debit', -1, ` + orderNo.String() + `, NULL`):                    "entries_order_once",
		entry(`'debit', 1, 7, NULL`):                                            "entries_type",
		entry(`'grant', 1, NULL, NULL`):                                         "entries_type",
		entry(`'refund', 1, NULL, 'r'`):                                         "entries_type",
		entry(`'gift', 1, NULL, 'r'`):                                           "entries_type",
		entry(`'grant', 1000000000001, NULL, 'r'`):                              "entries_points",
		strings.Replace(entry(`'grant', 1, NULL, 'r'`), "'ann'", "'nobody'", 1): "entries_user_id_fkey",
	} {
		if err := b.exec(t, sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", sql, err, want)
		}
	}
}

func entry(values string) string {
	return `INSERT INTO entries (user_id, sequence, balance, trade_no, type, points, order_no, ref)
		VALUES ('ann', 99, 0, 999999999, ` + values + `)`
}
