package engine

import (
	"testing"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// vouch says that the Redis that runs now is right.
func vouch(t testing.TB, e *Engine) {
	t.Helper()
	runID, err := e.RunID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Vouch(t.Context(), runID); err != nil {
		t.Fatal(err)
	}
}

// TestTrust_Restart protects against selling on a Redis that came back with an older state:
// after a restart nothing is sold until somebody has vouched for it, on any node, also one
// that starts afterwards; then all sell by themselves.
func TestTrust_Restart(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t, "--appendfsync", "always") // everysec may lose the item
	a := start(t, Config{RedisURL: server.URL()})
	item := load(t, a, 10, 1)
	if reply := buy(t, a, item, "ann"); reply.Outcome != flashsale.Accepted {
		t.Fatalf("a new Redis answers %s", reply.Outcome)
	}
	server.Kill()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	becomes(t, a, item, "bob", flashsale.NotReady)
	b := start(t, Config{RedisURL: server.URL()})
	becomes(t, b, item, "bob", flashsale.NotReady)
	if vouched, err := b.Vouched(t.Context()); err != nil || vouched {
		t.Fatalf("vouched %t %v", vouched, err)
	}
	vouch(t, b)
	becomes(t, a, item, "bob", flashsale.Accepted)
	becomes(t, b, item, "bob", flashsale.DuplicateOrder)
	if vouched, err := a.Vouched(t.Context()); err != nil || !vouched {
		t.Fatalf("vouched %t %v", vouched, err)
	}
}

// TestTrust_Reconnect: a lost connection to the same run of Redis stops nobody.
func TestTrust_Reconnect(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t)
	e := start(t, Config{RedisURL: server.URL()})
	item := load(t, e, 10, 1)
	if reply := buy(t, e, item, "ann"); reply.Outcome != flashsale.Accepted {
		t.Fatal(reply.Outcome)
	}
	do(t, dial(t, server.URL()), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	becomes(t, e, item, "ann", flashsale.DuplicateOrder)
}

// TestTrust_StaleVouch: vouching for a run that has ended vouches for nothing.
func TestTrust_StaleVouch(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t)
	e := start(t, Config{RedisURL: server.URL()})
	item := load(t, e, 10, 1)
	before, err := e.RunID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, wait, func() error { return e.Vouch(t.Context(), before) })
	becomes(t, e, item, "ann", flashsale.NotReady)
}
