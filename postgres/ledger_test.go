package postgres

import (
	"errors"
	"net"
	"testing"
	"time"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// A lost or hanging transaction must not hold an item's row for ever, and a confirmed order
// must be durable: every connection has the settings, whatever the URL or the server say.
func TestOpen_SessionSettings(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	b.url += "&synchronous_commit=off&timezone=Asia/Shanghai"
	l := b.open(Config{
		ApplicationName: "flashsale-test", StatementTimeout: 7 * time.Second,
		LockTimeout: 3 * time.Second, IdleInTransactionTimeout: 9 * time.Second,
	})
	for name, want := range map[string]string{
		"application_name": "flashsale-test", "statement_timeout": "7s", "lock_timeout": "3s",
		"idle_in_transaction_session_timeout": "9s", "timezone": "UTC", "synchronous_commit": "on",
	} {
		var got string
		if err := l.pool.QueryRow(b.ctx, `SELECT current_setting($1)`, name).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := l.pool.Config().MaxConns; got != MaxConnsDefault {
		t.Errorf("pool of %d", got)
	}
	if err := l.Ping(b.ctx); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := l.Ping(b.ctx); err == nil {
		t.Error("a closed ledger answers")
	}
}

// A server that is away is a transient fault: a worker that took it for a permanent one would
// set good orders aside.
func TestOpen_ConnectionRefusedIsTransient(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "postgres://flashsale@" + listener.Addr().String() + "/flashsale?sslmode=disable"
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Config{URL: url})
	if err == nil || errors.Is(err, flashsale.ErrPermanent) {
		t.Errorf("open: %v", err)
	}
}

// A wrong configuration is refused by its field's name, before anything is connected.
func TestOpen_InvalidConfig(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]Config{
		"no URL":          {},
		"not a URL":       {URL: "postgres://%zz"},
		"too many":        {URL: "postgres://x", MaxConns: MaxConnsMax + 1},
		"negative":        {URL: "postgres://x", MaxConns: -1},
		"timeout of none": {URL: "postgres://x", LockTimeout: time.Microsecond},
	} {
		if _, err := Open(t.Context(), config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A commit that was reported survives a crash of PostgreSQL; while it is away every call is a
// transient error; when it returns, the same ledger works on.
func TestLedger_ServerCrash(t *testing.T) {
	t.Parallel()
	server := stacktest.NewPostgres(t)
	b := newBooksAt(t, server.URL())
	item := b.item(10, 1)
	before, during := b.orders(item.ID, 3), b.orders(item.ID, 3)
	b.persist(before...)

	server.Kill()
	if _, err := b.Persist(b.ctx, during); err == nil || errors.Is(err, flashsale.ErrPermanent) {
		t.Errorf("persist on a dead server: %v", err)
	}
	if _, err := b.CancelDue(b.ctx, 10); err == nil || errors.Is(err, flashsale.ErrPermanent) {
		t.Errorf("cancel on a dead server: %v", err)
	}
	if err := server.Restart(b.ctx); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, testTimeout, func() error { return b.Ping(b.ctx) })
	for _, got := range b.persist(append(before, during...)...) {
		if got != "unpaid" {
			t.Errorf("order is %s", got)
		}
	}
	b.check()
	if f := b.figures(item.ID); f.LiveUnits != 6 {
		t.Errorf("%d live units, want 6", f.LiveUnits)
	}
}
