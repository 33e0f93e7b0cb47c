package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// crowd has each user ask once, all at the same time, and returns the replies by user.
func crowd(t *testing.T, e *Engine, item flashsale.ItemID, users int) []Reply {
	t.Helper()
	replies := make([]Reply, users)
	var running sync.WaitGroup
	for n := range users {
		running.Go(func() {
			var err error
			request := Request{Item: item, User: "user" + strconv.Itoa(n), Quantity: 1}
			if replies[n], err = e.Reserve(context.Background(), request); err != nil {
				t.Errorf("%s: %v", request.User, err)
			}
		})
	}
	running.Wait()
	return replies
}

// holdLane keeps what arrives in the lane waiting, as if all its calls were under way, until
// the returned function is called.
func holdLane(e *Engine, item flashsale.ItemID) (release func()) {
	l := e.queue(item).lane
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runners = e.config.InFlight
	return func() {
		l.mu.Lock()
		l.runners = 1
		l.mu.Unlock()
		l.start()
	}
}

// holdWrites makes Redis keep scripts waiting until the returned function is called.
func holdWrites(t *testing.T, client rueidis.Client) (release func()) {
	t.Helper()
	do(t, client, "CLIENT", "PAUSE", "60000", "WRITE")
	release = sync.OnceFunc(func() { do(t, client, "CLIENT", "UNPAUSE") })
	t.Cleanup(release)
	return release
}

// depthIs waits until so many requests wait in the item's lane.
func depthIs(t *testing.T, e *Engine, item flashsale.ItemID, want int) {
	t.Helper()
	stacktest.Eventually(t, wait, func() error {
		if q := e.queue(item); q.lane.depth(q) != want {
			got := q.lane.depth(q)
			return fmt.Errorf("%d requests wait, want %d", got, want)
		}
		return nil
	})
}

// TestLane_SellsExactly: however the crowd is cut into batches, each unit is sold once and each
// buyer gets an order of his own.
func TestLane_SellsExactly(t *testing.T) {
	t.Parallel()
	for _, config := range []Config{{}, {BatchMax: 1, InFlight: 64}, {BatchMax: 7, InFlight: 3}} {
		t.Run(fmt.Sprintf("batch %d", config.BatchMax), func(t *testing.T) {
			t.Parallel()
			const users, stock = 2000, 100
			config.RedisURL = stacktest.Redis(t)
			e := start(t, config)
			item := load(t, e, stock, 1)
			orders := map[flashsale.OrderNo]bool{}
			for n, reply := range crowd(t, e, item, users) {
				switch reply.Outcome {
				case flashsale.Accepted:
					orders[reply.OrderNo] = true
				case flashsale.SoldOut:
				default:
					t.Errorf("user%d: %s", n, reply.Outcome)
				}
			}
			if len(orders) != stock {
				t.Errorf("%d different orders, want %d", len(orders), stock)
			}
			client := dial(t, config.RedisURL)
			for key, command := range map[string]string{WaitingKey(0): "GET", BuyersKey(0, item): "HLEN"} {
				if n, err := do(t, client, command, key).AsInt64(); err != nil || n != stock {
					t.Errorf("%s holds %d orders, want %d: %v", key, n, stock, err)
				}
			}
			if account, err := e.Item(t.Context(), item); err != nil || account.Stock != 0 || account.Sequence != stock {
				t.Errorf("account %+v %v", account, err)
			}
		})
	}
}

// TestLane_Gathers: whoever arrives while the calls are under way shares the next ones.
func TestLane_Gathers(t *testing.T) {
	t.Parallel()
	const users, batchMax = 400, 100
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	e := start(t, Config{RedisURL: url, BatchMax: batchMax})
	item := load(t, e, users+1, 1)
	buy(t, e, item, "first") // loads the script

	before := calls(t, client, "evalsha")
	release := holdLane(e, item)
	var running sync.WaitGroup
	running.Go(func() { crowd(t, e, item, users) })
	depthIs(t, e, item, users)
	release()
	running.Wait()
	if n := calls(t, client, "evalsha") - before; n != users/batchMax {
		t.Errorf("%d script calls for %d requests, want %d", n, users, users/batchMax)
	}
}

// TestLane_InFlight: so many calls of a lane run at once, and no more.
func TestLane_InFlight(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	e := start(t, Config{RedisURL: url, BatchMax: 1, InFlight: 3})
	item := load(t, e, 1000, 1)
	runners := func() int {
		l := e.queue(item).lane
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.runners
	}
	release := holdWrites(t, client)
	var running sync.WaitGroup
	for n := range 100 {
		running.Go(func() { // the answer may be a fault when this machine is slow
			_, _ = e.Reserve(context.Background(), Request{Item: item, User: "user" + strconv.Itoa(n), Quantity: 1})
		})
	}
	stacktest.Eventually(t, wait, func() error {
		if n := runners(); n != 3 {
			return fmt.Errorf("%d calls in flight, want 3", n)
		}
		return nil
	})
	release()
	done := make(chan struct{})
	go func() { defer close(done); running.Wait() }()
	for most := 0; ; {
		if most = max(most, runners()); most > 3 {
			t.Fatalf("%d calls in flight, want at most 3", most)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// TestLane_QueueFull: whoever finds the queue full hears so at once, without Redis.
func TestLane_QueueFull(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t), BatchMax: 4, QueueMax: 8})
	item := load(t, e, 100, 1)
	release := holdLane(e, item)
	var running sync.WaitGroup
	running.Go(func() {
		for n, reply := range crowd(t, e, item, 8) {
			if reply.Outcome != flashsale.Accepted {
				t.Errorf("user%d was in the queue and got %s", n, reply.Outcome)
			}
		}
	})
	depthIs(t, e, item, 8)
	if reply := buy(t, e, item, "late"); reply.Outcome != flashsale.Overloaded {
		t.Errorf("a full queue answers %s", reply.Outcome)
	}
	release()
	running.Wait()
	if reply := buy(t, e, item, "late"); reply.Outcome != flashsale.Accepted {
		t.Errorf("an empty queue answers %s", reply.Outcome)
	}
}

// TestLane_CancelledCaller: who leaves early gets ErrUnknown, the others get their own answers,
// and nothing leaks (TestMain looks for goroutines). Asking again tells what happened.
func TestLane_CancelledCaller(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t)})
	item := load(t, e, 100, 1)
	release := holdLane(e, item)

	leaver, leave := context.WithCancelCause(t.Context())
	gone := errors.New("gone home")
	ask := func(ctx context.Context, n int) (Reply, error) {
		user := strconv.Itoa(n)
		return e.Reserve(ctx, Request{Item: item, User: "user" + user, Quantity: 1, IdempotencyKey: "key" + user})
	}
	var leaving, staying sync.WaitGroup
	for n := range 10 {
		leaving.Go(func() {
			if reply, err := ask(leaver, n); !errors.Is(err, ErrUnknown) || !errors.Is(err, gone) {
				t.Errorf("user%d left and got %s %v", n, reply.Outcome, err)
			}
		})
		staying.Go(func() {
			if reply, err := ask(t.Context(), 10+n); err != nil || reply.Outcome != flashsale.Accepted {
				t.Errorf("user%d stayed and got %s %v", 10+n, reply.Outcome, err)
			}
		})
	}
	depthIs(t, e, item, 20)
	leave(gone)
	leaving.Wait()
	release()
	staying.Wait()
	for n := range 20 { // Museum bug 17.
		if reply, err := ask(t.Context(), n); err != nil || reply.Outcome != flashsale.Replayed || reply.OrderNo == 0 {
			t.Errorf("user%d asks again and gets %+v %v", n, reply, err)
		}
	}
	if account, err := e.Item(t.Context(), item); err != nil || account.Stock != 80 {
		t.Errorf("account %+v %v", account, err)
	}
}

// TestLane_RedisKilled: a dead Redis answers every waiter with a fault that tells whether
// something may have happened, and the engine sells again when Redis is back. What was
// accepted is still there.
func TestLane_RedisKilled(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t, "--appendfsync", "always") // everysec may lose what was accepted
	e := start(t, Config{RedisURL: server.URL(), ScriptTimeout: time.Second})
	item := load(t, e, 1_000_000, 1)
	var accepted sync.Map
	var sold, faults atomic.Int64
	stop := make(chan struct{})
	var running sync.WaitGroup
	for g := range 50 {
		running.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				user := fmt.Sprintf("user%d-%d", g, n)
				reply, err := e.Reserve(context.Background(), Request{Item: item, User: user, Quantity: 1})
				switch {
				case err == nil && reply.Outcome == flashsale.Accepted:
					accepted.Store(user, reply.OrderNo)
					sold.Add(1)
				case errors.Is(err, ErrUnknown) || errors.Is(err, ErrUnavailable):
					faults.Add(1)
					pause(t.Context(), time.Millisecond) // as whoever asks again does: refusals cost no time
				case err == nil && reply.Outcome == flashsale.NotReady: // not vouched for yet, or the lease ran out
				default:
					t.Errorf("%s: %s %v", user, reply.Outcome, err)
					return
				}
			}
		})
	}
	atLeast := func(count *atomic.Int64, more int64) {
		t.Helper()
		want := count.Load() + more
		stacktest.Eventually(t, wait, func() error {
			if n := count.Load(); n < want {
				return fmt.Errorf("%d, want %d", n, want)
			}
			return nil
		})
	}
	atLeast(&sold, 500)
	server.Kill()
	atLeast(&faults, 100) // each of the 50 is answered, and again
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	vouch(t, e, item)
	atLeast(&sold, 500)
	close(stop)
	running.Wait()

	held := map[string]flashsale.OrderNo{}
	err := e.Buyers(t.Context(), item, func(user string, orders []flashsale.Order) error {
		held[user] = orders[0].OrderNo
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	accepted.Range(func(user, order any) bool {
		if held[user.(string)] != order {
			t.Errorf("%s was told order %d and holds %d", user, order, held[user.(string)])
		}
		return true
	})
}

// TestLane_IdleGoesAway: lanes are bounded by what is asked for now, not by what ever was.
func TestLane_IdleGoesAway(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t), IdleAfter: 20 * time.Millisecond})
	item := load(t, e, 10, 1)
	for n := range 50 { // ids that are made up have lanes too
		if reply := buy(t, e, item+flashsale.ItemID(n)*1000, "ann"); n > 0 && reply.Outcome != flashsale.NotReady {
			t.Errorf("an unknown item answers %s", reply.Outcome)
		}
	}
	stacktest.Eventually(t, wait, func() error {
		if _, lanes := e.laneFigures(); lanes != 0 {
			return fmt.Errorf("%d lanes", lanes)
		}
		return nil
	})
	if reply := buy(t, e, item, "ann"); reply.Outcome != flashsale.DuplicateOrder {
		t.Errorf("a new lane answers %s", reply.Outcome)
	}
}

// TestLane_LanesMax: ids that are made up cannot use up the memory.
func TestLane_LanesMax(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t), LanesMax: 1})
	item := load(t, e, 10, 1)
	if reply := buy(t, e, item, "ann"); reply.Outcome != flashsale.Accepted {
		t.Errorf("the first lane answers %s", reply.Outcome)
	}
	if reply := buy(t, e, item+1000, "ann"); reply.Outcome != flashsale.Overloaded {
		t.Errorf("one lane too many answers %s", reply.Outcome)
	}
}

// TestWindow_Answer: the node answers by itself only when it is sure, never near an edge, and
// learns nothing of the time from a slow reply.
func TestWindow_Answer(t *testing.T) {
	t.Parallel()
	const now, second = 1_700_000_000_000, int64(time.Second)
	for _, c := range []struct {
		name    string
		opensMS int64
		bought  bool
		took    time.Duration
		askedAt int64
		want    flashsale.Outcome // 0: Redis is asked
	}{
		{"open", now - 1000, false, 0, second, 0},
		{"long before", now + 60_000, false, 0, second, flashsale.NotStarted},
		{"just before", now + 100, false, 0, second, 0},
		{"long before, but somebody holds an order", now + 60_000, true, 0, second, 0},
		{"opens meanwhile", now + 700, false, 0, second + second*6/10, 0},
		{"learned too long ago", now + 60_000, false, 0, 2*second + 1, 0},
		{"learned from a slow reply", now + 60_000, false, 201 * time.Millisecond, second, 0},
	} {
		var w window
		w.learn(now, c.opensMS, c.bought, second, c.took)
		reply, ok := w.answer(c.askedAt)
		if reply.Outcome != c.want || ok != (c.want != 0) {
			t.Errorf("%s: %s", c.name, reply.Outcome)
		}
		if c.want == flashsale.NotStarted && !reply.OpensAt.Equal(time.UnixMilli(c.opensMS)) {
			t.Errorf("%s: opens at %s", c.name, reply.OpensAt)
		}
	}
}

// TestLane_ItemsShareRuns: requests of many items of a partition are decided together, each by its
// own account, and take turns.
func TestLane_ItemsShareRuns(t *testing.T) {
	t.Parallel()
	const items = 2 * itemsMax
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	e := start(t, Config{RedisURL: url})
	ids := make([]flashsale.ItemID, items)
	for n := range ids {
		ids[n] = load(t, e, 1, 1)
	}
	buy(t, e, load(t, e, 1, 1), "first") // loads the script
	before := calls(t, client, "evalsha")
	release := holdLane(e, ids[0])
	var running sync.WaitGroup
	for _, id := range ids {
		running.Go(func() {
			won := 0
			for _, reply := range crowd(t, e, id, 3) {
				switch reply.Outcome {
				case flashsale.Accepted:
					won++
				case flashsale.SoldOut:
				default:
					t.Errorf("item %d: %s", id, reply.Outcome)
				}
			}
			if won != 1 {
				t.Errorf("item %d of one unit was sold %d times", id, won)
			}
		})
	}
	for _, id := range ids {
		depthIs(t, e, id, 3)
	}
	release()
	running.Wait()
	if n := calls(t, client, "evalsha") - before; n != items/itemsMax {
		t.Errorf("%d script calls for %d items, want %d", n, items, items/itemsMax)
	}
}

// TestLane_Turns: a hot item neither starves its neighbours, who are in the very next run, nor fills
// their queues.
func TestLane_Turns(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t), BatchMax: 4, QueueMax: 40})
	hot, quiet := load(t, e, 1000, 1), load(t, e, 1000, 1)
	release := holdLane(e, hot)
	var running sync.WaitGroup
	running.Go(func() { crowd(t, e, hot, 40) })
	depthIs(t, e, hot, 40)
	if reply := buy(t, e, hot, "late"); reply.Outcome != flashsale.Overloaded {
		t.Errorf("a full queue answers %s", reply.Outcome)
	}
	running.Go(func() {
		if reply := buy(t, e, quiet, "ann"); reply.Outcome != flashsale.Accepted {
			t.Errorf("the neighbour answers %s", reply.Outcome)
		}
	})
	depthIs(t, e, quiet, 1)
	l := e.queue(quiet).lane
	first, second := l.take(), l.take()
	if n := len(second.sections); first.requests != 4 || n != 1 || second.sections[0].queue.item != quiet {
		t.Errorf("the second run has %d items, want the quiet one's only", n)
	}
	for _, r := range []*run{first, second} {
		e.decide(l, r)
		r.finish()
	}
	release()
	running.Wait()
}
