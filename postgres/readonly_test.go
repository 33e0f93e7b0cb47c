package postgres

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"flashsale/internal/devstack/stacktest"
)

// Protects orders during and after a maintenance that makes the database read-only: no ledger opens
// on it, readiness says so though every SELECT works, and once it is over the connections that were
// opened in it are replaced, by the first write that they refuse.
func TestLedger_ReadOnly(t *testing.T) {
	t.Parallel()
	url := stacktest.Postgres(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	do := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	database := conn.Config().Database
	do("ALTER DATABASE " + database + " SET default_transaction_read_only = on")
	if _, err := Open(t.Context(), Config{URL: url}); !Away(err) || !strings.Contains(err.Error(), "read only") {
		t.Errorf("open: %v, want that it is away, read only", err)
	}
	l, err := Open(t.Context(), Config{MaxConns: 1, URL: url + "&target_session_attrs=any"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.pool.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("ping: %v", err)
	}
	do("ALTER DATABASE " + database + " RESET default_transaction_read_only")
	if _, err := l.pool.Exec(t.Context(), "CREATE TABLE refused (n int)"); err == nil {
		t.Fatal("the session wrote: it does not show what it is to show")
	}
	if err := l.Ping(t.Context()); err != nil {
		t.Errorf("after the first refusal: %v", err)
	}
}
