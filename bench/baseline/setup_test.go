package baseline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"

	"flashsale/bench/target"
)

// Shared by all tests; each has items of its own.
var (
	stack    *target.Stack
	lastItem atomic.Int64
)

// TestMain starts the stores, and lets the test binary play our own program, which starts
// itself as a node.
func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var (
		code int
		err  error
	)
	if len(os.Args) > 1 && os.Args[1] == "baseline" {
		err = Command(ctx, os.Args[2:], os.Stdout, os.Stderr)
	} else {
		code, err = runTests(ctx, m)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(ctx context.Context, m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "flashsale-baseline-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o711); err != nil { // PostgreSQL's user must pass
		return 1, err
	}
	source, err := target.Source()
	if err != nil {
		return 1, err
	}
	binary, err := target.Build(ctx, source, dir)
	if err != nil {
		return 1, err
	}
	if stack, err = target.StartStack(ctx, binary, dir); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, stack.Stop()) }()
	stores, err := Open(ctx, Config{RedisURL: stack.RedisURL, DatabaseURL: stack.DatabaseURL})
	if err != nil {
		return 1, err
	}
	defer stores.Close()
	if err := Setup(ctx, stores.Database); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// setup opens the stores as one node has them, for a fresh item.
func setup(t *testing.T) Stores {
	t.Helper()
	return another(t, lastItem.Add(1))
}

// another opens them as a further node of an item has them.
func another(t *testing.T, item int64) Stores {
	t.Helper()
	stores, err := Open(t.Context(), Config{
		RedisURL: stack.RedisURL, DatabaseURL: stack.DatabaseURL, Item: item,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stores.Close)
	return stores
}
