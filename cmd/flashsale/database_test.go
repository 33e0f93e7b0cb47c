package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"flashsale/internal/devstack/stacktest"
)

// hostile are settings of a database and its role that other programs may want.
const hostile = `ALTER DATABASE %[1]s SET DateStyle = 'SQL, DMY'; ALTER DATABASE %[1]s SET IntervalStyle = 'sql_standard';
ALTER DATABASE %[1]s SET TimeZone = 'Asia/Kolkata'; ALTER DATABASE %[1]s SET search_path = elsewhere, public;
ALTER DATABASE %[1]s SET default_transaction_isolation = 'serializable'; ALTER DATABASE %[1]s SET bytea_output = 'escape';
ALTER DATABASE %[1]s SET standard_conforming_strings = off; ALTER DATABASE %[1]s SET extra_float_digits = -15;
CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.orders (n int); GRANT USAGE ON SCHEMA elsewhere TO PUBLIC`

// Protects an installation whose processes reach PostgreSQL by different ways, one of them through
// a PgBouncer that pools transactions: none is told, each finds out; with a role that has no more
// rights than are printed, and on a database with settings for somebody else; everything works,
// a rebuild of an emptied Redis too.
func TestDatabase_PoolerRolesSettings(t *testing.T) {
	t.Parallel()
	owner := stacktest.Postgres(t)
	direct, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	do := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	database := direct.Path[1:]
	do(fmt.Sprintf(hostile, database))
	redis := stacktest.NewRedis(t)
	i := newInstallationOver(t, redis.URL(), owner)
	app := "app_" + database
	do("CREATE ROLE " + app + " LOGIN")
	direct.User = url.User(app)
	narrow := direct.String()
	i.expect([]string{"DATABASE_URL=" + narrow}, exitFailed, `rights are missing: role `+app+` .*--print-grants `+app, "audit")
	do(i.command(exitOK, "migrate", "--print-grants", app))
	t.Cleanup(func() {
		if conn, err := pgx.Connect(t.Context(), owner); err == nil {
			_, _ = conn.Exec(t.Context(), "DROP OWNED BY "+app+"; DROP ROLE "+app)
			_ = conn.Close(t.Context())
		}
	})

	front := pgbouncer(t, direct.Host, app)
	direct.Host = front
	pooled := *i
	pooled.env = append(append([]string(nil), i.env...), "DATABASE_URL="+direct.String())
	i.env = append(i.env, "DATABASE_URL="+narrow)
	item := pooled.sell(100, "limit=2")
	server := pooled.serve()
	plain := i.serve()
	i.work("direct")
	pooled.work("pooled")
	for k, token := range i.tokens("pooled", 30) {
		base := []string{server.base, plain.base}[k%2]
		bases := func() []string { return []string{base} }
		r, err := insist(t.Context(), bases, item, token, fmt.Sprint("key-", k))
		if err != nil {
			t.Fatal(err)
		}
		order := ask{method: "GET", url: base + "/v1/orders/" + r.OrderNo + "?wait=20s&status=pending", token: token}
		if got := order.send(t); got.status != 200 {
			t.Errorf("order through %s: %d %s", base, got.status, got.body)
		}
		mine := ask{method: "GET", url: base + "/v1/orders", token: token}
		if got := mine.send(t); got.status != 200 {
			t.Errorf("my orders through %s: %d %s", base, got.status, got.body)
		}
	}
	i.auditClean()
	if out := i.command(exitOK, "dead", "list"); len(out) > 200 {
		t.Errorf("good orders are dead letters:\n%s", out)
	}
	pooled.auditClean()

	r := i.rooms()
	defer r.close()
	before, err := r.ledger.Item(t.Context(), item)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.redisClient().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, func() error {
		after, err := r.ledger.Item(t.Context(), item)
		if err == nil && after.Generation == before.Generation {
			err = fmt.Errorf("generation %d has not been rebuilt", after.Generation)
		}
		return err
	})
	i.auditClean()
}

// pgbouncer runs a PgBouncer that pools transactions, until the end of the test.
func pgbouncer(t *testing.T, behind, user string) (addr string) {
	t.Helper()
	host, port, err := net.SplitHostPort(behind)
	if err != nil {
		t.Fatal(err)
	}
	addr = stacktest.FreeAddr(t)
	_, listen, _ := net.SplitHostPort(addr)
	dir := stacktest.Dir(t)
	path := filepath.Join(dir, "pgbouncer.ini")
	config := fmt.Sprintf("[databases]\n* = host=%s port=%s user=%s\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=%s\n"+
		"unix_socket_dir=\nauth_type=any\npool_mode=transaction\ndefault_pool_size=4\nmax_client_conn=200\n", host, port, user, listen)
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil { //nolint:gosec // another user reads it
		t.Fatal(err)
	}
	args := []string{path}
	if os.Geteuid() == 0 {
		args = []string{"-u", "nobody", path}
	}
	stacktest.Tool(t, func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	}, "pgbouncer", args...)
	return addr
}
