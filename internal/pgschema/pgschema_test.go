package pgschema_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"flashsale/internal/devstack/stacktest"
	"flashsale/internal/pgschema"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// Protects processes that start at once: one of them creates the schema, and the others, which
// have looked before and queue behind it, find it then and do not take it for somebody else's.
// What a session of PostgreSQL remembers of tables that did not exist made them do so, once in
// twenty times; hence the rounds.
func TestMigrate_AtOnce(t *testing.T) {
	t.Parallel()
	const rounds, sessions = 40, 5
	url := stacktest.Postgres(t)
	for round := range rounds {
		name := fmt.Sprintf("round_%d", round)
		schema := pgschema.Schema{
			Env: "DATABASE_URL", Lock: int64(round), Owner: "the test", SQL: "CREATE TABLE things ()", VersionTable: "things_version",
		}
		var applied atomic.Int64
		var running sync.WaitGroup
		conns := make([]*pgx.Conn, sessions)
		for n := range conns {
			conns[n] = connect(t, url, name)
		}
		for _, conn := range conns {
			running.Go(func() {
				did, err := migrate(t.Context(), conn, schema)
				if err != nil {
					t.Errorf("round %d: %v", round, err)
				}
				if did {
					applied.Add(1)
				}
			})
		}
		running.Wait()
		for _, conn := range conns {
			_ = conn.Close(t.Context())
		}
		if n := applied.Load(); n != 1 {
			t.Errorf("round %d: created %d times", round, n)
		}
	}
}

// migrate looks first, as every process does when it starts.
func migrate(ctx context.Context, conn *pgx.Conn, schema pgschema.Schema) (did bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return schema.Check(ctx, tx) })
	if err != nil && !errors.Is(err, pgschema.ErrMismatch) {
		return false, err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
		did, err = schema.Migrate(ctx, tx)
		return err
	})
	return did, err
}

// connect opens a session in an SQL schema of its own, so that one database serves all rounds.
func connect(t *testing.T, url, name string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"CREATE SCHEMA IF NOT EXISTS " + name, "SET search_path = " + name} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// Protects a database of an older version: the steps that lead to the newest are taken, all or
// none, and a second process finds nothing left to do. One from which no steps lead is refused as
// it is.
func TestMigrate_Upgrades(t *testing.T) {
	t.Parallel()
	const first, second, third = "CREATE TABLE a ()", "CREATE TABLE a (b int)", "CREATE TABLE a (b int, c int)"
	step := func(from, to, sql string) pgschema.Upgrade {
		return pgschema.Upgrade{From: pgschema.Version(from), To: pgschema.Version(to), SQL: sql}
	}
	addB := step(first, second, "ALTER TABLE a ADD b int")
	for name, c := range map[string]struct {
		upgrades []pgschema.Upgrade
		columns  int
		refused  bool
		failed   bool
	}{
		"two steps":       {upgrades: []pgschema.Upgrade{step(second, third, "ALTER TABLE a ADD c int"), addB}, columns: 2},
		"a missing step":  {upgrades: []pgschema.Upgrade{addB}, refused: true},
		"no step":         {refused: true},
		"steps in a ring": {upgrades: []pgschema.Upgrade{addB, step(second, first, "ALTER TABLE a DROP b")}, refused: true},
		"a broken step":   {upgrades: []pgschema.Upgrade{addB, step(second, third, "ALTER TABLE a ADD b int")}, failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, stacktest.Postgres(t), strings.ReplaceAll("up_"+name, " ", "_"))
			defer conn.Close(t.Context())
			schema := pgschema.Schema{Env: "DATABASE_URL", Lock: 1, Owner: "the test", SQL: first, VersionTable: "a_version"}
			if _, err := migrate(t.Context(), conn, schema); err != nil {
				t.Fatal(err)
			}
			schema.SQL, schema.Upgrades = third, c.upgrades
			did, err := migrate(t.Context(), conn, schema)
			if errors.Is(err, pgschema.ErrMismatch) != c.refused || (err != nil) != (c.refused || c.failed) {
				t.Fatalf("migrate: %v", err)
			}
			if did == (c.refused || c.failed) {
				t.Errorf("applied is %t", did)
			}
			var columns int
			const countSQL = `SELECT count(*) FROM pg_attribute WHERE attrelid = 'a'::regclass AND attnum > 0`
			if err := conn.QueryRow(t.Context(), countSQL).Scan(&columns); err != nil || columns != c.columns {
				t.Errorf("%d columns, %v", columns, err)
			}
			if did {
				if again, err := migrate(t.Context(), conn, schema); again || err != nil {
					t.Errorf("the second time: %t, %v", again, err)
				}
			}
		})
	}
}
