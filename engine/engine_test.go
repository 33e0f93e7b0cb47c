package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// TestNew_Refuses: an engine starts only on a Redis that it can trust with stock, and says
// what is wrong.
func TestNew_Refuses(t *testing.T) {
	t.Parallel()
	evicting := stacktest.NewRedis(t, "--maxmemory-policy", "allkeys-lru").URL() // Museum bug 16.
	sixteen := stacktest.Redis(t)
	start(t, Config{RedisURL: sixteen, Partitions: 16})
	broken := stacktest.Redis(t)
	registryOf(broken).(*MemoryRegistry).partitions = -1
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"no URL", Config{}, "RedisURL"},
		{"no registry", Config{RedisURL: "x"}, "Registry"},
		{"a broken URL", Config{RedisURL: "http://x"}, "RedisURL"},
		{"nobody there", Config{RedisURL: "redis://127.0.0.1:1"}, "connect"},
		{"evicting", Config{RedisURL: evicting}, "noeviction"},
		{"other partitions", Config{RedisURL: sixteen, Partitions: 8}, "16"},
		{"no number of partitions", Config{RedisURL: broken}, "-1 is stored"},
		{"batch", Config{RedisURL: "x", BatchMax: BatchLimit + 1}, "BatchMax"},
		{"queue", Config{RedisURL: "x", QueueMax: 1}, "QueueMax"},
		{"in flight", Config{RedisURL: "x", InFlight: -1}, "InFlight"},
		{"lanes", Config{RedisURL: "x", LanesMax: -1}, "LanesMax"},
		{"flag", Config{RedisURL: "x", FlagTTL: -1}, "FlagTTL"},
		{"idle", Config{RedisURL: "x", IdleAfter: -1}, "IdleAfter"},
		{"lease", Config{RedisURL: "x", LeaseTTL: 1}, "LeaseTTL"},
		{"partitions", Config{RedisURL: "x", Partitions: -1}, "Partitions"},
		{"timeout", Config{RedisURL: "x", ScriptTimeout: 1}, "ScriptTimeout"},
		{"sessions", Config{RedisURL: "x", SessionsMax: -1}, "SessionsMax"},
		{"stream", Config{RedisURL: "x", StreamMax: -1}, "StreamMax"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.config.Registry = registryOf(c.config.RedisURL); c.name == "no registry" {
				c.config.Registry = nil
			}
			e, err := New(t.Context(), c.config)
			if err == nil {
				e.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %s", err, c.want)
			}
		})
	}
	if e := start(t, Config{RedisURL: sixteen}); e.Partitions() != 16 {
		t.Errorf("%d partitions, want the 16 that are stored", e.Partitions())
	}
}

// TestNew_MetricsTwice: a start that fails gives back what it took.
func TestNew_MetricsTwice(t *testing.T) {
	t.Parallel()
	url, registry := stacktest.Redis(t), prometheus.NewRegistry()
	first := start(t, Config{RedisURL: url, Registerer: registry})
	nodes := newAside()
	if e, err := New(t.Context(), Config{RedisURL: url, Registerer: registry, Registry: nodes}); err == nil {
		e.Close()
		t.Fatal("two engines share their metrics")
	}
	if nodes.owner != "" {
		t.Error("a start that failed has leased a node id")
	}
	first.Close()
	start(t, Config{RedisURL: url, Registerer: registry})
}

// TestClose_Twice: closing again is harmless, and a request that comes too late gets a fault.
func TestClose_Twice(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	item := load(t, e, 10, 1)
	e.Close()
	e.Close()
	reply, err := e.Reserve(context.Background(), Request{Item: item, User: "ann", Quantity: 1})
	if err == nil && reply.Outcome != flashsale.NotReady {
		t.Errorf("a closed engine answers %s", reply.Outcome)
	}
}

// TestReserve_Invalid: what can never be right is refused before it comes near a key.
func TestReserve_Invalid(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	item := load(t, e, 10, 1)
	for _, request := range []Request{
		{Item: item, User: "", Quantity: 1},
		{Item: item, User: "a b", Quantity: 1},
		{Item: item, User: "a,b", Quantity: 1},
		{Item: item, User: strings.Repeat("a", 65), Quantity: 1},
		{Item: item, User: "ann"},
		{Item: item, User: "ann", Quantity: -1},
		{Item: item, User: "ann", Quantity: flashsale.LimitMax + 1},
		{Item: item, User: "ann", Quantity: 1, IdempotencyKey: "a b"},
		{Item: item, User: "ann", Quantity: 1, IdempotencyKey: "a,b"},
		{Item: item, User: "ann", Quantity: 1, IdempotencyKey: strings.Repeat("a", 129)},
		{Item: 0, User: "ann", Quantity: 1},
		{Item: -1, User: "ann", Quantity: 1},
	} {
		if reply, err := e.Reserve(t.Context(), request); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %s %v", request, reply.Outcome, err)
		}
	}
}

// TestReserve_Window: the outcomes outside of the window, from Redis and then from memory,
// and a replay that is owed its order even after the close.
func TestReserve_Window(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	e := start(t, Config{RedisURL: url})
	early := newItem(10, 1)
	early.OpensAt = time.Now().Add(30 * time.Minute).Truncate(time.Millisecond)
	over := newItem(10, 1)
	for _, item := range []flashsale.Item{early, over} {
		if err := e.Preheat(t.Context(), item); err != nil {
			t.Fatal(err)
		}
	}
	winner := Request{Item: over.ID, User: "ann", Quantity: 1, IdempotencyKey: "k1"}
	won, err := e.Reserve(t.Context(), winner)
	if err != nil || won.Outcome != flashsale.Accepted {
		t.Fatal(won, err)
	}
	closed := decimal(time.Now().Add(-time.Minute).UnixMilli())
	do(t, client, "HSET", ItemKey(0, over.ID), "closes_at_ms", closed)
	becomes(t, e, over.ID, "bob", flashsale.Ended)
	raised(t, e, over.ID, flashsale.Ended)
	if reply := becomes(t, e, early.ID, "bob", flashsale.NotStarted); !reply.OpensAt.Equal(early.OpensAt) {
		t.Errorf("opens at %s, want %s", reply.OpensAt, early.OpensAt)
	}

	before, began := calls(t, client, "evalsha"), time.Now()
	for range 500 {
		if reply := buy(t, e, over.ID, "bob"); reply.Outcome != flashsale.Ended {
			t.Fatal(reply)
		}
		if reply := buy(t, e, early.ID, "bob"); reply.Outcome != flashsale.NotStarted || !reply.OpensAt.Equal(early.OpensAt) {
			t.Fatal(reply)
		}
	}
	// Each item is asked about once a second at most, and the roster twice.
	if n := calls(t, client, "evalsha") - before; n > 3*(1+int(time.Since(began)/windowTTL)) {
		t.Errorf("%d script calls for closed items", n)
	}
	if reply, err := e.Reserve(t.Context(), winner); err != nil || reply.Outcome != flashsale.Replayed || reply.OrderNo != won.OrderNo {
		t.Errorf("a replay after the close: %+v %v", reply, err)
	}
	if reply := buy(t, e, over.ID, "ann"); reply.Outcome != flashsale.DuplicateOrder || reply.OrderNo != won.OrderNo {
		t.Errorf("who holds an order is told after the close: %+v", reply)
	}
}

// TestReserve_UnreadableEntry: an entry that nobody could have written is that user's fault
// answer, and nobody else's. (Museum bug 11.)
func TestReserve_UnreadableEntry(t *testing.T) {
	t.Parallel()
	url := stacktest.Redis(t)
	client := dial(t, url)
	e := start(t, Config{RedisURL: url})
	item := load(t, e, 10, 1)
	do(t, client, "HSET", BuyersKey(0, item), "ann", "99999999999999999999 1 ")
	if reply, err := e.Reserve(t.Context(), Request{Item: item, User: "ann", Quantity: 1}); !errors.Is(err, ErrUnknown) {
		t.Errorf("%+v %v", reply, err)
	}
	if reply := buy(t, e, item, "bob"); reply.Outcome != flashsale.Accepted {
		t.Errorf("bob is told %s", reply.Outcome)
	}
	if _, err := e.Orders(t.Context(), "ann", []flashsale.ItemID{item}); err == nil {
		t.Error("an unreadable entry reads as orders")
	}
	other := load(t, e, 10, 1)
	won := buy(t, e, other, "ann")
	orders, err := e.Orders(t.Context(), "ann", []flashsale.ItemID{item, other})
	if err == nil || len(orders) != 1 || orders[0].OrderNo != won.OrderNo {
		t.Errorf("beside an unreadable entry: %v %v, want order %d and an error", orders, err, won.OrderNo)
	}
}

// What a list of items shows comes in one round trip: those that are there, and of the others
// nothing; one that is not whole is a fault that spares the rest.
func TestItems(t *testing.T) {
	t.Parallel()
	redisURL := stacktest.Redis(t)
	e := start(t, Config{RedisURL: redisURL, Partitions: 16})
	ids := make([]flashsale.ItemID, 40)
	for n := range ids {
		item := newItem(int64(n), 1)
		ids[n] = item.ID
		if n%2 == 0 {
			if err := e.Preheat(t.Context(), item); err != nil {
				t.Fatal(err)
			}
		}
	}
	accounts, err := e.Items(t.Context(), ids)
	if err != nil || len(accounts) != 20 || accounts[ids[38]].Stock != 38 {
		t.Errorf("%v, %v", accounts, err)
	}
	broken := e.client.B().Hset().Key(ItemKey(e.Partition(ids[4]), ids[4])).FieldValue().FieldValue("stock", "many").Build()
	if err := e.client.Do(t.Context(), broken).Error(); err != nil {
		t.Fatal(err)
	}
	if accounts, err = e.Items(t.Context(), ids); !errors.Is(err, ErrUnreadable) || len(accounts) != 19 {
		t.Errorf("%d items, %v", len(accounts), err)
	}
	if accounts, err = e.Items(t.Context(), nil); err != nil || len(accounts) != 0 {
		t.Errorf("none: %v, %v", accounts, err)
	}
}

// TestItem_Lifecycle: preheat, buy, pause, resume, restock and release by the public calls,
// with the account after each.
func TestItem_Lifecycle(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t), Partitions: 16})
	ctx := t.Context()
	item := newItem(2, 2)
	if _, err := e.Item(ctx, item.ID); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	for name, call := range map[string]func() error{
		"pause":   func() error { return e.Pause(ctx, item.ID) },
		"resume":  func() error { return e.Resume(ctx, item.ID) },
		"restock": func() error { return e.Restock(ctx, item.ID, 1, 1) },
		"release": func() error { _, err := e.Release(ctx, item.ID, []Held{{1, "ann"}}); return err },
	} {
		if err := call(); !errors.Is(err, ErrNotReady) {
			t.Errorf("%s before preheat: %v", name, err)
		}
	}
	for _, bad := range []flashsale.Item{
		{ID: item.ID}, {ID: item.ID, Limit: 1, Generation: 1, Stock: -1, ClosesAt: time.Now()},
	} {
		if err := e.Preheat(ctx, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("preheat %+v: %v", bad, err)
		}
	}
	if err := e.Preheat(ctx, item); err != nil {
		t.Fatal(err)
	}
	if err := e.Preheat(ctx, item); !errors.Is(err, ErrExists) {
		t.Errorf("preheat again: %v", err)
	}
	first := buy(t, e, item.ID, "ann")
	second, err := e.Reserve(ctx, Request{Item: item.ID, User: "ann", Quantity: 1, IdempotencyKey: "k2"})
	if err != nil || first.Outcome != flashsale.Accepted || second.Outcome != flashsale.Accepted {
		t.Fatal(first, second, err)
	}
	if reply := buy(t, e, item.ID, "ann"); reply.Outcome != flashsale.LimitReached || reply.OrderNo != second.OrderNo {
		t.Errorf("over the limit: %+v", reply)
	}
	orders, err := e.Orders(ctx, "ann", []flashsale.ItemID{item.ID, item.ID + 1000})
	if err != nil || len(orders) != 2 || orders[0].OrderNo != first.OrderNo || orders[1].IdempotencyKey != "k2" ||
		orders[0].User != "ann" || orders[0].Quantity != 1 || orders[0].Status != flashsale.Pending ||
		time.Since(orders[0].ReservedAt).Abs() > time.Minute {
		t.Errorf("orders %+v %v", orders, err)
	}
	if err := e.Restock(ctx, item.ID, 7, 5); err != nil {
		t.Fatal(err)
	}
	if err := e.Restock(ctx, item.ID, 7, 5); err != nil {
		t.Errorf("a repeated restock: %v", err)
	}
	if err := e.Restock(ctx, item.ID, 0, 5); !errors.Is(err, ErrInvalid) {
		t.Errorf("restock 0: %v", err)
	}
	if err := e.Pause(ctx, item.ID); err != nil {
		t.Fatal(err)
	}
	becomes(t, e, item.ID, "bob", flashsale.Paused)
	held := []Held{{first.OrderNo, "ann"}, {second.OrderNo, "ann"}, {1, "nobody"}}
	if n, err := e.Release(ctx, item.ID, held); n != 2 || err != nil {
		t.Errorf("released %d: %v", n, err)
	}
	if n, err := e.Release(ctx, item.ID, held); n != 0 || err != nil {
		t.Errorf("released again %d: %v", n, err)
	}
	got, err := e.Item(ctx, item.ID)
	want := Account{
		ID: item.ID, Stock: 7, Limit: 2, OpensAt: item.OpensAt.Truncate(time.Millisecond), ClosesAt: item.ClosesAt.Truncate(time.Millisecond),
		Epoch: 1_000_000_002, Generation: 1, Sequence: 2, Restock: 7, State: StatePaused, Run: got.Run,
	}
	if err != nil || !got.OpensAt.Equal(want.OpensAt) || !got.ClosesAt.Equal(want.ClosesAt) {
		t.Errorf("account %+v %v", got, err)
	}
	if got.OpensAt, got.ClosesAt = want.OpensAt, want.ClosesAt; got != want {
		t.Errorf("account\n%+v, want\n%+v", got, want)
	}
	if err := e.Resume(ctx, item.ID); err != nil {
		t.Fatal(err)
	}
	becomes(t, e, item.ID, "bob", flashsale.Accepted)
}

// TestRelease_Many: more orders than one script run takes.
func TestRelease_Many(t *testing.T) {
	t.Parallel()
	const users = 2 * releaseMax
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	item := load(t, e, users, 1)
	var held []Held
	for n, reply := range crowd(t, e, item, users) {
		held = append(held, Held{reply.OrderNo, fmt.Sprint("user", n)})
	}
	seen := 0
	err := e.Buyers(t.Context(), item, func(string, []flashsale.Order) error { seen++; return nil })
	if err != nil || seen != users {
		t.Errorf("%d buyers: %v", seen, err)
	}
	if n, err := e.Release(t.Context(), item, append(held, held...)); n != users || err != nil {
		t.Errorf("released %d: %v", n, err)
	}
	if account, err := e.Item(t.Context(), item); err != nil || account.Stock != users {
		t.Errorf("account %+v %v", account, err)
	}
}

// TestRelease_Thousandfold: however many release one order at once, one unit comes back.
func TestRelease_Thousandfold(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	item := load(t, e, 1, 1)
	reply := buy(t, e, item, "ann")
	var running sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for range 1000 {
		running.Go(func() {
			n, err := e.Release(context.Background(), item, []Held{{reply.OrderNo, "ann"}})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += n
		})
	}
	running.Wait()
	account, err := e.Item(t.Context(), item)
	if err != nil || total != 1 || account.Stock != 1 || account.Epoch != 1_000_000_001 {
		t.Errorf("released %d times: %+v %v", total, account, err)
	}
}

// TestFaults_RedisAway: each call ends within its time and with an error while Redis is away;
// where nothing can have been sent it says so.
func TestFaults_RedisAway(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t)
	e := start(t, Config{RedisURL: server.URL(), ScriptTimeout: 200 * time.Millisecond})
	item := load(t, e, 1, 1)
	server.Kill()
	background := context.Background() // the engine itself must bound the calls
	for name, call := range map[string]func() error{
		"ping":       func() error { return e.Ping(background) },
		"now":        func() error { _, err := e.Now(background); return err },
		"durability": func() error { _, err := e.Durability(background); return err },
		"run id":     func() error { _, err := e.RunID(background, 0); return err },
		"item":       func() error { _, err := e.Item(background, item); return err },
		"pause":      func() error { return e.Pause(background, item) },
		"release":    func() error { _, err := e.Release(background, item, []Held{{1, "ann"}}); return err },
		"orders":     func() error { _, err := e.Orders(background, "ann", []flashsale.ItemID{item}); return err },
		"buyers":     func() error { return e.Buyers(background, item, nil) },
		"login":      func() error { _, err := e.CreateSession(background, flashsale.User{ID: "ann"}, time.Hour); return err },
	} {
		began := time.Now()
		if err := call(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
	stacktest.Eventually(t, wait, func() error { // once the old connections are known to be dead
		_, err := e.Reserve(background, Request{Item: item, User: "ann", Quantity: 1})
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) {
			return fmt.Errorf("reserve: %w", err)
		}
		return nil
	})
}

// TestFaults_OutOfMemory: a refusal up front is a fault after which nothing was done.
func TestFaults_OutOfMemory(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	e := start(t, Config{RedisURL: url})
	item := load(t, e, 10, 1)
	do(t, client, "CONFIG", "SET", "maxmemory", "1")
	if reply, err := e.Reserve(t.Context(), Request{Item: item, User: "ann", Quantity: 1}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%+v %v", reply, err)
	}
	do(t, client, "CONFIG", "SET", "maxmemory", "0")
	if reply := buy(t, e, item, "ann"); reply.Outcome != flashsale.Accepted {
		t.Errorf("afterwards: %s", reply.Outcome)
	}
}

// TestDurability: what a crash of Redis may lose is told as it is configured now.
func TestDurability(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	e := start(t, Config{RedisURL: url})
	for setting, want := range map[string]string{"always": "no pending order", "everysec": "about 2 s", "no": "about 30 s"} {
		do(t, client, "CONFIG", "SET", "appendfsync", setting)
		if got, err := e.Durability(t.Context()); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %q %v", setting, got, err)
		}
	}
	do(t, client, "CONFIG", "SET", "appendonly", "no")
	if got, err := e.Durability(t.Context()); err != nil || !strings.Contains(got, "every pending order") {
		t.Errorf("aof off: %q %v", got, err)
	}
	if now, err := e.Now(t.Context()); err != nil || time.Since(now).Abs() > time.Minute {
		t.Errorf("Redis says it is %s: %v", now, err)
	}
	if id, err := e.RunID(t.Context(), 0); err != nil || len(id) != 40 {
		t.Errorf("run id %q %v", id, err)
	}
}

// TestReserve_SoldOutAllocates: a loser who is answered from memory leaves no garbage: at the
// rush there are a thousand of them to each winner.
func TestReserve_SoldOutAllocates(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts for the whole process
	e := start(t, Config{RedisURL: stacktest.Redis(t), FlagTTL: time.Hour})
	item := load(t, e, 1, 1)
	soldOut(t, e, item)
	ctx := context.Background()
	request := Request{Item: item, User: "loser", Quantity: 1, IdempotencyKey: "key"}
	if n := testing.AllocsPerRun(10_000, func() {
		if reply, err := e.Reserve(ctx, request); err != nil || reply.Outcome != flashsale.SoldOut {
			t.Error(reply, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A release that finds no buyer raises an alarm; one that was done before does not.
func TestRelease_Unknown(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	item := load(t, e, 5, 1)
	held := buy(t, e, item, "ann")
	for range 2 {
		if _, err := e.Release(t.Context(), item, []Held{{OrderNo: held.OrderNo, User: "ann"}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := testutil.ToFloat64(e.metrics.unknownReleases); got != 0 {
		t.Errorf("%v alarms for an order that was held", got)
	}
	if _, err := e.Release(t.Context(), item, []Held{{OrderNo: 77, User: "bob"}}); err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(e.metrics.unknownReleases); got != 1 {
		t.Errorf("%v alarms for an order that nobody holds", got)
	}
}
