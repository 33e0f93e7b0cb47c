package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// aside is a registry that can be away, and whose clock and terms a test sets.
type aside struct {
	*MemoryRegistry
	mu    sync.Mutex // guards what follows
	away  error
	shift time.Duration // its clock against ours
	term  time.Duration // instead of the one asked for
	owner string        // who leased last
}

func newAside() *aside { return &aside{MemoryRegistry: NewMemoryRegistry()} }

func (a *aside) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (a *aside) LeaseNode(ctx context.Context, owner, name string, term time.Duration) (flashsale.NodeLease, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away != nil {
		return flashsale.NodeLease{}, a.away
	}
	if a.term != 0 {
		term = a.term
	}
	a.owner = owner
	lease, err := a.MemoryRegistry.LeaseNode(ctx, owner, name, term)
	return a.shifted(lease), err
}

func (a *aside) RenewNode(ctx context.Context, owner string, usedMS int64, term time.Duration) (flashsale.NodeLease, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away != nil {
		return flashsale.NodeLease{}, a.away
	}
	if a.term != 0 {
		term = a.term
	}
	lease, err := a.MemoryRegistry.RenewNode(ctx, owner, usedMS-a.shift.Milliseconds(), term)
	return a.shifted(lease), err
}

func (a *aside) shifted(lease flashsale.NodeLease) flashsale.NodeLease {
	lease.NowMS += a.shift.Milliseconds()
	lease.UntilMS += a.shift.Milliseconds()
	return lease
}

// take makes numbers, which must work.
func take(t testing.TB, n *node, count int) []flashsale.OrderNo {
	t.Helper()
	numbers, ok := n.take(nil, count)
	if !ok || len(numbers) != count {
		t.Fatalf("%d numbers of %d, %t", len(numbers), count, ok)
	}
	return numbers
}

// TestNode_RedisForgets protects order numbers from a Redis that forgets everything, in the
// middle of a sale: neither two nodes that run nor one that starts a moment after the loss ever
// make a number that another has made.
func TestNode_RedisForgets(t *testing.T) {
	t.Parallel()
	url, registry := stacktest.NewRedis(t).URL(), NewMemoryRegistry()
	client := dial(t, url)
	nodes := []*Engine{start(t, Config{RedisURL: url, Registry: registry}), start(t, Config{RedisURL: url, Registry: registry})}
	var mu sync.Mutex
	seen := map[flashsale.OrderNo]bool{}
	count := 0
	number := func(e *Engine) {
		for range 200 {
			numbers := take(t, e.node, 50)
			mu.Lock()
			for _, n := range numbers {
				seen[n] = true
			}
			count += len(numbers)
			mu.Unlock()
		}
	}
	var running sync.WaitGroup
	for range 3 {
		for _, e := range nodes {
			running.Go(func() { number(e) })
		}
		do(t, client, "FLUSHALL")
		nodes = append(nodes, start(t, Config{RedisURL: url, Registry: registry}))
	}
	for _, e := range nodes {
		running.Go(func() { number(e) })
	}
	running.Wait()
	if len(seen) != count {
		t.Errorf("%d of %d numbers were made twice", count-len(seen), count)
	}
}

// TestNode_NextHolder: whoever gets an id after another starts above every number the other made
// or may still make, although it may be the same millisecond, or the clock has stepped back.
func TestNode_NextHolder(t *testing.T) {
	t.Parallel()
	url, registry := stacktest.Redis(t), newAside()
	a := start(t, Config{RedisURL: url, Registry: registry})
	id := a.node.id()
	last := take(t, a.node, 100_000)[99_999] // far into the next milliseconds
	a.Close()
	b := start(t, Config{RedisURL: url, Registry: registry})
	if b.node.id() != id {
		t.Fatalf("id %d instead of %d: a stop has not given it back", b.node.id(), id)
	}
	if first := take(t, b.node, 1)[0]; first <= last {
		t.Errorf("the next holder makes %d, after %d", first, last)
	}
	if first := take(t, b.node, 1)[0]; first.Time().After(time.Now().Add(5 * time.Second)) {
		t.Errorf("a number of %s", first.Time())
	}
}

// TestNode_Clocks: the clock of the registry decides, not the node's.
func TestNode_Clocks(t *testing.T) {
	t.Parallel()
	registry := newAside()
	registry.shift = 48 * time.Hour
	e := start(t, Config{RedisURL: stacktest.Redis(t), Registry: registry})
	ahead := time.Until(take(t, e.node, 1)[0].Time())
	if ahead < 47*time.Hour || ahead > 49*time.Hour {
		t.Errorf("numbers are %s ahead of this host, want what the registry says: 48h", ahead)
	}
}

// TestNextNumber: a trade number is of the family of the order numbers, so it can be no order's;
// without the lease there is none.
func TestNextNumber(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	seen := map[int64]bool{int64(take(t, e.node, 1)[0]): true}
	for range 1000 {
		n, err := e.NextNumber()
		if err != nil || n <= 0 || seen[n] {
			t.Fatalf("number %d, seen %t, %v", n, seen[n], err)
		}
		seen[n] = true
	}
	e.node.end()
	if n, err := e.NextNumber(); n != 0 || !errors.Is(err, ErrUnavailable) {
		t.Errorf("without the lease: %d, %v", n, err)
	}
}

// TestNode_AllTaken: no free id is a clear refusal, not an endless search.
func TestNode_AllTaken(t *testing.T) {
	t.Parallel()
	registry := NewMemoryRegistry()
	for n := range flashsale.NodesMax {
		if _, err := registry.LeaseNode(t.Context(), strconv.Itoa(n), "", time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if e, err := New(t.Context(), Config{RedisURL: stacktest.Redis(t), Registry: registry}); err == nil {
		e.Close()
		t.Error("started without a node id")
	}
}

// TestNode_Passive: a tool that only looks takes no id and sells nothing.
func TestNode_Passive(t *testing.T) {
	t.Parallel()
	url, registry := stacktest.Redis(t), newAside()
	item := load(t, start(t, Config{RedisURL: url, Registry: registry}), 10, 1)
	registry.set(func() { registry.owner = "" })
	e := start(t, Config{RedisURL: url, Registry: registry, Passive: true})
	if registry.owner != "" {
		t.Error("a passive engine leases an id")
	}
	if _, err := e.Item(t.Context(), item); err != nil {
		t.Error(err)
	}
	if reply := buy(t, e, item, "ann"); reply.Outcome != flashsale.NotReady {
		t.Errorf("it answers %s", reply.Outcome)
	}
	if _, err := e.NextNumber(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("it makes numbers: %v", err)
	}
	if err := e.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestNode_LeaseLost: a node whose id is another's by now takes a new one and sells on.
func TestNode_LeaseLost(t *testing.T) {
	t.Parallel()
	registry := newAside()
	e := start(t, Config{RedisURL: stacktest.Redis(t), Registry: registry, LeaseTTL: time.Second})
	item := load(t, e, 10, 1)
	old := registry.owner
	if err := registry.EndNode(t.Context(), old, 0); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, wait, func() error {
		if owner, _ := e.node.used(); owner == old {
			return errors.New("the old lease")
		}
		return nil
	})
	becomes(t, e, item, "ann", flashsale.Accepted)
}

// TestNode_RegistryAway: purchases go on while the registry is away, for as long as the lease
// lasts; then no number is made any more, because another may have the id by now, and the node
// says that it is not ready; with the registry back it sells again.
func TestNode_RegistryAway(t *testing.T) {
	t.Parallel()
	registry := newAside()
	e := start(t, Config{RedisURL: stacktest.Redis(t), Registry: registry, LeaseTTL: time.Second})
	item := load(t, e, 10, 1)
	registry.set(func() { registry.away = errors.New("away") })
	ends := func(at time.Time) {
		e.node.mu.Lock()
		defer e.node.mu.Unlock()
		e.node.lease.UntilMS = at.UnixMilli()
	}
	ends(time.Now().Add(time.Hour))
	becomes(t, e, item, "ann", flashsale.Accepted)
	stacktest.Eventually(t, wait, func() error { // a renewal may have been under way
		ends(time.Now().Add(-time.Millisecond))
		if reply := buy(t, e, item, "ann"); reply.Outcome != flashsale.NotReady {
			return fmt.Errorf("without a lease the answer is %s", reply.Outcome)
		}
		return nil
	})
	if err := e.Ping(t.Context()); err == nil {
		t.Error("a node without a lease reports that it is well")
	}
	registry.set(func() { registry.away = nil })
	becomes(t, e, item, "bob", flashsale.Accepted)
	if err := e.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestNode_Term: a node that has just started holds its id for minutes, so that a crash loop does
// not use all of them up, and one that has run for a while for hours.
func TestNode_Term(t *testing.T) {
	t.Parallel()
	n := &node{ttl: DefaultLeaseTTL, started: time.Now()}
	if term := n.term(); term < leaseMin || term > leaseMin+time.Minute {
		t.Errorf("at its start a node holds its id for %s", term)
	}
	n.started = time.Now().Add(-time.Hour)
	if term := n.term(); term != DefaultLeaseTTL {
		t.Errorf("after an hour a node holds its id for %s", term)
	}
}

// TestNode_Take: numbers ascend and differ under contention, also when more are taken than fit
// into a millisecond.
func TestNode_Take(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	var running sync.WaitGroup
	numbers := make([][]flashsale.OrderNo, 8)
	for g := range numbers {
		running.Go(func() {
			for range 100 {
				numbers[g], _ = e.node.take(numbers[g], 512)
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
	if len(seen) != 8*100*512 {
		t.Errorf("%d numbers", len(seen))
	}
}

// TestPartitions_Changed protects an item from having two accounts: a node that runs while the
// number of partitions is changed sells no more and says why; Redis has no say in the number.
func TestPartitions_Changed(t *testing.T) {
	t.Parallel()
	url, registry := stacktest.NewRedis(t).URL(), NewMemoryRegistry()
	e := start(t, Config{RedisURL: url, Registry: registry, Partitions: 4, LeaseTTL: time.Second})
	do(t, dial(t, url), "FLUSHALL")
	if other := start(t, Config{RedisURL: url, Registry: registry}); other.Partitions() != 4 {
		t.Errorf("after a loss of Redis there are %d partitions", other.Partitions())
	}
	item := load(t, e, 10, 1)
	becomes(t, e, item, "ann", flashsale.Accepted)
	registry.mu.Lock()
	registry.partitions = 8
	registry.mu.Unlock()
	becomes(t, e, item, "bob", flashsale.NotReady)
	if err := e.Ping(t.Context()); !errors.Is(err, errPartitions) {
		t.Errorf("its readiness says %v", err)
	}
}
