package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// TestFaultError: where nothing can have been sent, or Redis refuses before it runs a script, the
// shopper is told that nothing was done, and not to find out.
func TestFaultError(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.Redis(t))
	says := func(code string) error {
		return attempt(client, "EVAL", "return redis.error_reply('"+code+" it says')", "0")
	}
	for name, c := range map[string]struct {
		err         error
		unavailable bool
	}{
		"no node for the slot":   {rueidis.ErrNoSlot, true},
		"no address":             {fmt.Errorf("dial: %w", rueidis.ErrNoAddr), true},
		"closing":                {rueidis.ErrClosing, true},
		"known to be away":       {errAway, true},
		"refused connection":     {&net.OpError{Op: "dial", Err: errors.New("refused")}, true},
		"a broken connection":    {&net.OpError{Op: "read", Err: io.EOF}, false},
		"the deadline":           {context.DeadlineExceeded, false},
		"an end of the stream":   {io.EOF, false},
		"READONLY":               {says("READONLY"), true},
		"LOADING":                {says("LOADING"), true},
		"MASTERDOWN":             {says("MASTERDOWN"), true},
		"CLUSTERDOWN":            {says("CLUSTERDOWN"), true},
		"TRYAGAIN":               {says("TRYAGAIN"), true},
		"OOM":                    {says("OOM"), true},
		"NOREPLICAS":             {says("NOREPLICAS"), true},
		"an error of the script": {says("ERR"), false},
	} {
		err := faultError("reserve", 7, c.err)
		if errors.Is(err, ErrUnavailable) != c.unavailable || errors.Is(err, ErrUnknown) == c.unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// attempt sends a command that may fail.
func attempt(client rueidis.Client, words ...string) error {
	return client.Do(context.Background(), client.B().Arbitrary(words...).Build()).Error()
}

// address is a place that leads to one server, and later to another, as an address that moves with a
// planned failover does: connections that are open stay where they are.
type movingAddress struct {
	url string

	mu sync.Mutex // guards what follows
	to string
}

func newMovingAddress(t *testing.T, to string) *movingAddress {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &movingAddress{url: "redis://" + listener.Addr().String()}
	a.move(t, to)
	var running sync.WaitGroup
	var conns sync.Map
	running.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			out, err := net.Dial("tcp", a.to)
			a.mu.Unlock()
			if err != nil {
				_ = in.Close()
				continue
			}
			conns.Store(in, nil)
			conns.Store(out, nil)
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				running.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_, _ = in.Close(), out.Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		conns.Range(func(conn, _ any) bool { _ = conn.(net.Conn).Close(); return true })
		running.Wait()
	})
	return a
}

func (a *movingAddress) move(t *testing.T, to string) {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.to = u.Host
}

// TestRedial_PlannedFailover: an address moves to another Redis while the old one lives on as a
// replica, to which the old connections lead: they are given up.
func TestRedial_PlannedFailover(t *testing.T) {
	t.Parallel()
	before, after := stacktest.NewRedis(t), stacktest.NewRedis(t)
	address := newMovingAddress(t, before.URL())
	e := start(t, Config{RedisURL: address.url})
	item := load(t, e, 10, 1)
	if reply := buy(t, e, item, "ann"); reply.Outcome != flashsale.Accepted {
		t.Fatal(reply.Outcome)
	}
	moved, err := url.Parse(after.URL())
	if err != nil {
		t.Fatal(err)
	}
	a, b := dial(t, before.URL()), dial(t, after.URL())
	old, _ := url.Parse(before.URL())
	do(t, b, "REPLICAOF", old.Hostname(), old.Port())
	stacktest.Eventually(t, wait, func() error {
		if n, err := do(t, b, "EXISTS", ItemKey(0, item)).AsInt64(); err != nil || n != 1 {
			return fmt.Errorf("not replicated: %w", err)
		}
		return nil
	})
	do(t, b, "REPLICAOF", "NO", "ONE")
	address.move(t, after.URL())
	do(t, a, "REPLICAOF", moved.Hostname(), moved.Port())

	// The other Redis is another run: it sells once somebody has vouched for it there.
	stacktest.Eventually(t, wait, func() error {
		reply, err := e.Reserve(t.Context(), Request{Item: item, User: "bob", Quantity: 1})
		if err == nil && reply.Outcome != flashsale.NotReady {
			err = fmt.Errorf("bob is told %s", reply.Outcome)
		}
		return err
	})
	stacktest.Eventually(t, wait, func() error {
		fence, err := e.Fence(t.Context(), item, "token")
		if err != nil {
			return err
		}
		return fence.Lift(t.Context(), flashsale.Item{ID: item})
	})
	becomes(t, e, item, "bob", flashsale.Accepted)
	becomes(t, e, item, "ann", flashsale.DuplicateOrder)
}

// TestAway_AnswersAtOnce: once Redis is known to be away nobody waits for a connection that cannot be
// had; when it is back the engine sells again by itself.
func TestAway_AnswersAtOnce(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t, "--appendfsync", "always")
	e := start(t, Config{RedisURL: server.URL()})
	item := load(t, e, 1000, 1)
	buy(t, e, item, "ann")
	server.Kill()
	ask := func() error {
		_, err := e.Reserve(context.Background(), Request{Item: item, User: "bob", Quantity: 1})
		return err
	}
	stacktest.Eventually(t, wait, func() error {
		if err := ask(); !errors.Is(err, errAway) {
			return fmt.Errorf("not known to be away: %w", err)
		}
		return nil
	})
	began := time.Now()
	for range 100 {
		if err := ask(); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("100 answers took %s", took)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, wait, ask)
	vouch(t, e, item)
	becomes(t, e, item, "bob", flashsale.Accepted)
}

// TestAway_Hangs: of a Redis that has stopped answering only the first requests have to wait for the
// deadline, and they alone do not know what became of them.
func TestAway_Hangs(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t)
	e := start(t, Config{RedisURL: server.URL(), ScriptTimeout: 500 * time.Millisecond})
	item := load(t, e, 1000, 1)
	buy(t, e, item, "ann")
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		_, err := e.Reserve(context.Background(), Request{Item: item, User: "bob", Quantity: 1})
		return err
	}
	if err := ask(); !errors.Is(err, ErrUnknown) {
		t.Errorf("sent, and not answered: %v", err)
	}
	shortest := time.Hour // a busy machine may hold up any one
	for range 20 {
		began := time.Now()
		if err := ask(); !errors.Is(err, errAway) {
			t.Fatal(err)
		}
		shortest = min(shortest, time.Since(began))
	}
	if shortest > 50*time.Millisecond {
		t.Errorf("answered after %s", shortest)
	}
	if err := server.Continue(); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, wait, ask)
}

// TestNew_ClusterWithoutNodes: a process starts while a primary and a replica of the cluster are away.
func TestNew_ClusterWithoutNodes(t *testing.T) {
	t.Parallel()
	cluster := stacktest.NewCluster(t, "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "60000")
	cluster.Nodes[1].Kill() // a primary, for which nobody steps in meanwhile
	cluster.Nodes[5].Kill() // a replica of another
	e := start(t, Config{RedisURL: cluster.RedisURL()})
	if got := e.Partitions(); got != defaultClusterPartitions {
		t.Errorf("%d partitions", got)
	}
	for p := range e.Partitions() {
		item := newItem(10, 1)
		item.ID += flashsale.ItemID(p) - item.ID%flashsale.ItemID(e.Partitions())
		if err := e.Preheat(t.Context(), item); err != nil {
			continue // one of those of the primary that is away
		}
		if reply := buy(t, e, item.ID, "ann"); reply.Outcome != flashsale.Accepted {
			t.Errorf("partition %d: %s", p, reply.Outcome)
		}
		return
	}
	t.Error("no partition sells")
}

// TestIdle_ConnectionsStay: a Redis that closes idle connections closes none of ours, so that the
// first purchase after a quiet time is answered.
func TestIdle_ConnectionsStay(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t, "--timeout", "1").URL()
	e := start(t, Config{RedisURL: url})
	item := load(t, e, 1000, 1)
	buy(t, e, item, "ann")
	client := dial(t, url)
	accepted := func() int64 {
		n, err := do(t, client, "INFO", "stats").ToString()
		if err != nil {
			t.Fatal(err)
		}
		return infoNumber(t, n, "total_connections_received")
	}
	before, began := accepted(), time.Now()
	stacktest.Eventually(t, wait, func() error { // the condition is time itself: three times the timeout
		if time.Since(began) < 3*time.Second {
			do(t, client, "PING") // this one must not be closed either
			return errors.New("still waiting")
		}
		return nil
	})
	if n := accepted(); n != before {
		t.Errorf("%d connections were opened meanwhile", n-before)
	}
	if reply := buy(t, e, item, "bob"); reply.Outcome != flashsale.Accepted {
		t.Error(reply.Outcome)
	}
}
