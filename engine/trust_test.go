package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// vouch says that what the Redis that runs now holds of an item is right.
func vouch(t testing.TB, e *Engine, item flashsale.ItemID) {
	t.Helper()
	fence, err := e.Fence(t.Context(), item, rand.Text())
	if err != nil {
		t.Fatal(err)
	}
	if err := fence.Lift(t.Context(), flashsale.Item{ID: item}); err != nil {
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
	if vouched, err := b.Vouched(t.Context(), item); err != nil || vouched {
		t.Fatalf("vouched %t %v", vouched, err)
	}
	other := load(t, b, 10, 1)
	becomes(t, a, other, "bob", flashsale.Accepted) // trust is given per item
	becomes(t, a, item, "bob", flashsale.NotReady)
	vouch(t, b, item)
	becomes(t, a, item, "bob", flashsale.Accepted)
	becomes(t, b, item, "bob", flashsale.DuplicateOrder)
	if vouched, err := a.Vouched(t.Context(), item); err != nil || !vouched {
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

// TestTrust_FenceOfAnotherRun: who fenced an item in a run of Redis that has ended vouches for
// nothing.
func TestTrust_FenceOfAnotherRun(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t, "--appendfsync", "always")
	e := start(t, Config{RedisURL: server.URL()})
	item := load(t, e, 10, 1)
	fence, err := e.Fence(t.Context(), item, "t1")
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, wait, func() error {
		if err := fence.Lift(t.Context(), flashsale.Item{ID: item}); !errors.Is(err, ErrFenceLost) {
			return fmt.Errorf("lifted: %w", err)
		}
		return nil
	})
	becomes(t, e, item, "ann", flashsale.NotReady)
}
