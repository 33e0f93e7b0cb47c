package engine

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// leased is the node id that the engine has now.
func leased(e *Engine) int64 {
	e.node.mu.Lock()
	defer e.node.mu.Unlock()
	return e.node.id
}

// TestNode_TwoDiffer: two processes under one node id would give two orders one number.
func TestNode_TwoDiffer(t *testing.T) {
	t.Parallel()
	url := stacktest.Redis(t)
	client := dial(t, url)
	a, b := start(t, Config{RedisURL: url}), start(t, Config{RedisURL: url})
	if leased(a) == leased(b) {
		t.Fatalf("both nodes have the id %d", leased(a))
	}
	seen := map[flashsale.OrderNo]bool{}
	for range 10_000 {
		seen[a.node.next()], seen[b.node.next()] = true, true
	}
	if len(seen) != 20_000 {
		t.Errorf("%d different numbers of 20,000", len(seen))
	}
	id := leased(a)
	a.Close()
	if n, err := do(t, client, "EXISTS", nodeKey(id)).AsInt64(); err != nil || n != 0 {
		t.Errorf("an orderly end leaves the lease: %d %v", n, err)
	}
	if c := start(t, Config{RedisURL: url}); leased(c) == id {
		t.Errorf("the id %d is used again at once", id)
	}
}

// TestNextNumber: a trade number is of the family of the order numbers, so it can be no order's;
// without the lease there is none.
func TestNextNumber(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	seen := map[int64]bool{int64(e.node.next()): true}
	for range 1000 {
		n, err := e.NextNumber()
		if err != nil || n <= 0 || seen[n] {
			t.Fatalf("number %d, seen %t, %v", n, seen[n], err)
		}
		seen[n] = true
	}
	e.node.until.Store(0)
	if n, err := e.NextNumber(); n != 0 || !errors.Is(err, ErrUnavailable) {
		t.Errorf("without the lease: %d, %v", n, err)
	}
}

// TestNode_SkipsTaken: a counter that has come round passes over the ids in use.
func TestNode_SkipsTaken(t *testing.T) {
	t.Parallel()
	url := stacktest.Redis(t)
	client := dial(t, url)
	do(t, client, "SET", nodeSeqKey, "1023") // the next one drawn is 1024: id 0
	do(t, client, "SET", nodeKey(0), "another")
	do(t, client, "SET", nodeKey(1), "another")
	if id := leased(start(t, Config{RedisURL: url})); id != 2 {
		t.Errorf("id %d, want 2", id)
	}
}

// TestNode_AllTaken: no free id is a clear refusal, not an endless search.
func TestNode_AllTaken(t *testing.T) {
	t.Parallel()
	url := stacktest.Redis(t)
	client := dial(t, url)
	words := []string{"MSET"}
	for id := range int64(nodesMax) {
		words = append(words, nodeKey(id), "another")
	}
	do(t, client, words...)
	if e, err := New(t.Context(), Config{RedisURL: url}); err == nil {
		e.Close()
		t.Error("started without a node id")
	}
}

// TestNode_LeaseLost: another's lease is left alone, and a new id is taken.
func TestNode_LeaseLost(t *testing.T) {
	t.Parallel()
	url := stacktest.Redis(t)
	client := dial(t, url)
	e := start(t, Config{RedisURL: url, LeaseTTL: time.Second})
	item := load(t, e, 10, 1)
	old := leased(e)
	do(t, client, "SET", nodeKey(old), "another")
	stacktest.Eventually(t, wait, func() error {
		if leased(e) == old {
			return errors.New("the old id")
		}
		return nil
	})
	becomes(t, e, item, "ann", flashsale.Accepted)
	if owner, err := do(t, client, "GET", nodeKey(old)).ToString(); err != nil || owner != "another" {
		t.Errorf("the old id belongs to %q: %v", owner, err)
	}
}

// TestNode_LapsedLease: a node that cannot renew makes no more numbers, because another may
// have its id by now; it answers NotReady without Redis, and goes on once it has a lease again.
func TestNode_LapsedLease(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	e := start(t, Config{RedisURL: url, LeaseTTL: time.Second})
	item := load(t, e, 10, 1)
	release := holdWrites(t, client)
	stacktest.Eventually(t, wait, func() error {
		if e.node.held() {
			return errors.New("still held")
		}
		return nil
	})
	if reply := buy(t, e, item, "ann"); reply.Outcome != flashsale.NotReady {
		t.Errorf("without a lease the answer is %s", reply.Outcome)
	}
	if err := e.Ping(t.Context()); err == nil {
		t.Error("a node without a lease reports that it is well")
	}
	release()
	becomes(t, e, item, "ann", flashsale.Accepted)
	if err := e.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestNode_Next: numbers ascend and differ under contention.
func TestNode_Next(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	var running sync.WaitGroup
	numbers := make([][]flashsale.OrderNo, 8)
	for g := range numbers {
		running.Go(func() {
			for range 2000 {
				numbers[g] = append(numbers[g], e.node.next())
			}
		})
	}
	running.Wait()
	seen := map[flashsale.OrderNo]bool{}
	for _, mine := range numbers {
		for n, number := range mine {
			if n > 0 && number <= mine[n-1] || seen[number] {
				t.Fatal(fmt.Sprint("number ", number, " comes after ", mine[max(n-1, 0)], " or twice"))
			}
			seen[number] = true
		}
	}
}
