package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// Every entry is persisted exactly once, the stream is empty afterwards, and every result is
// told in this process and on its channel.
func TestConsumer_PersistsEachOnce(t *testing.T) {
	t.Parallel()
	s := newSetupOn(t, stacktest.NewRedis(t).URL()) // its channels are its own
	const orders = 2500
	heard := s.subscribe()

	var mu sync.Mutex
	told := make(map[flashsale.OrderNo]flashsale.Result)
	config := s.config()
	config.OnResults = func(results []flashsale.Result) {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range results {
			told[r.OrderNo] = r
		}
	}
	s.add(1, orders)
	w := s.start(config)
	s.waitDrained()
	s.wantOnce(1, orders)
	w.halt()

	wantMetric(t, "persisted", w.metrics.persisted, orders)
	mu.Lock()
	defer mu.Unlock()
	published := heard(orders)
	for n := flashsale.OrderNo(1); n <= orders; n++ {
		want := flashsale.Result{OrderNo: n, User: "user-" + n.String(), Status: flashsale.Unpaid}
		if told[n] != want || published[n] != want {
			t.Fatalf("order %d: told %+v, published %+v, want %+v", n, told[n], published[n], want)
		}
	}
	order := s.ledger.orders[7]
	if order.IdempotencyKey != "key-7" || order.Sequence != 7 || order.Generation != 1 ||
		order.Quantity != 1 || order.ReservedAt.UnixMilli() != 1790000000000 {
		t.Errorf("order reached the ledger as %+v", order)
	}
}

// subscribe returns a function that waits for n results on the channels.
func (s *setup) subscribe() func(n int) map[flashsale.OrderNo]flashsale.Result {
	s.t.Helper()
	sub := s.client.PSubscribe(s.t.Context(), "fs:results:*")
	if _, err := sub.Receive(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = sub.Close() })
	messages := sub.Channel(redis.WithChannelSize(10_000))
	return func(n int) map[flashsale.OrderNo]flashsale.Result {
		got := make(map[flashsale.OrderNo]flashsale.Result)
		timeout := time.After(patience)
		for len(got) < n {
			select {
			case m := <-messages:
				var r flashsale.Result
				words := strings.SplitN(m.Payload, " ", 4)
				if len(words) < 3 {
					s.t.Fatalf("payload %q", m.Payload)
				}
				r.OrderNo, _ = flashsale.ParseID[flashsale.OrderNo](words[0])
				r.User, r.Status = words[1], flashsale.Status(words[2])
				if engine.ResultsChannel(r.OrderNo) != m.Channel {
					s.t.Errorf("order %d on channel %s", r.OrderNo, m.Channel)
				}
				got[r.OrderNo] = r
			case <-timeout:
				s.t.Fatalf("heard of %d orders, want %d", len(got), n)
			}
		}
		return got
	}
}

// A worker that dies after the commit and before the ack leaves its entries pending; the next
// one with its name gets them at once, and the ledger counts none twice.
func TestConsumer_DeathBetweenCommitAndAck(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	config := s.config()
	config.FlushTimeout = time.Millisecond
	s.add(1, 300)

	died := make(chan struct{})
	var once sync.Once
	var victim *running
	ready := make(chan struct{})
	s.ledger.onStored = func(ctx context.Context) {
		once.Do(func() {
			<-ready
			victim.stop()
			<-ctx.Done() // the flush is over: whatever follows has no time left
			close(died)
		})
	}
	victim = s.start(config)
	close(ready)
	<-died
	victim.wait()
	if err := s.drained(); err == nil {
		t.Fatal("the dead worker acknowledged its entries")
	}

	config.Registerer = nil
	s.start(config)
	s.waitDrained()
	s.wantOnce(1, 300)
}

// While the ledger is away nothing is acknowledged, dropped or set aside, and no more is read
// than a batch ahead; when it returns, everything drains.
func TestConsumer_LedgerAway(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	var mu sync.Mutex
	away := true
	attempts := make(chan struct{}, 100)
	s.ledger.onPersist = func(context.Context, []flashsale.Order) error {
		mu.Lock()
		defer mu.Unlock()
		if away {
			attempts <- struct{}{}
			return errAway
		}
		return nil
	}
	config := s.config()
	config.BatchSize = 100
	s.add(1, 1000)
	w := s.start(config)
	for range 3 {
		<-attempts
	}
	pending, err := s.client.XPending(t.Context(), engine.OrdersKey(0), engine.Group).Result()
	if err != nil || pending.Count != 200 {
		t.Errorf("pending %v, %v, want the batch of 100 and the next", pending, err)
	}
	if n := s.client.XLen(t.Context(), engine.OrdersKey(0)).Val(); n != 1000 {
		t.Errorf("stream holds %d entries, want all 1000", n)
	}
	mu.Lock()
	away = false
	mu.Unlock()
	s.waitDrained()
	s.wantOnce(1, 1000)
	wantMetric(t, "dead lettered", w.metrics.deadLettered, 0)
}

// What the ledger has against every order is held against none: the consumer stands, says so at
// once where an operator looks, and goes on when it is mended.
func TestConsumer_Refused(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	var refusal atomic.Pointer[error]
	refusal.Store(new(fmt.Errorf("column is gone: %w", flashsale.ErrRefused)))
	s.ledger.onPersist = func(context.Context, []flashsale.Order) error {
		if err := refusal.Load(); err != nil {
			return *err
		}
		return nil
	}
	s.add(1, 300)
	w := s.start(s.config())
	stacktest.Eventually(t, patience, func() error {
		if err := w.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "partition 0") ||
			!strings.Contains(err.Error(), "column is gone") {
			return fmt.Errorf("ready: %w", err)
		}
		return counted(w.metrics.faults.WithLabelValues("ledger"), 3)
	})
	wantMetric(t, "stands", w.metrics.stands.WithLabelValues("0"), 1)
	wantMetric(t, "dead lettered", w.metrics.deadLettered, 0)
	refusal.Store(nil)
	s.waitDrained()
	s.wantOnce(1, 300)
	stacktest.Eventually(t, patience, func() error { return w.Ready(t.Context()) })
	wantMetric(t, "stands", w.metrics.stands.WithLabelValues("0"), 0)
}

// One poison entry in the middle of a thousand is set aside alone with its reason, as is one
// that is no order at all; all their neighbours are persisted.
func TestConsumer_Poison(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.poison("user-500")
	s.add(1, 600)
	broken := entryFields(9999, 9999)
	broken[9] = "9999 -3 "
	s.client.XAdd(t.Context(), addArgs(engine.OrdersKey(0), broken...))
	s.add(601, 999)

	w := s.start(s.config())
	s.waitDrained()
	s.ledger.mu.Lock()
	if len(s.ledger.applied) != 998 || s.ledger.applied[500] != 0 {
		t.Errorf("ledger took %d orders, want 998 without 500", len(s.ledger.applied))
	}
	for no, times := range s.ledger.applied {
		if times != 1 {
			t.Errorf("order %d was applied %d times", no, times)
		}
	}
	s.ledger.mu.Unlock()
	wantMetric(t, "dead lettered", w.metrics.deadLettered, 2)

	reasons := make(map[string]string)
	for _, letter := range s.list(t, s.deadLetters(t), 2) {
		if letter.Entry == "" || len(letter.Fields) != 10 || letter.Fields[1] != "1" {
			t.Errorf("dead letter lacks its origin: %+v", letter)
		}
		reasons[letter.Fields[8]] = letter.Reason
	}
	if !strings.Contains(reasons["user-500"], "not storable") || !strings.Contains(reasons["user-9999"], `qty "-3"`) {
		t.Errorf("reasons %q", reasons)
	}
}

// Poison orders of an entry are set aside alone, each with its own sequence, whether the decoder or
// the ledger finds them; the entry goes when the last of its neighbours is persisted.
func TestConsumer_PoisonAmongNeighbours(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.poison("user-7", "user-8", "user-30")
	fields := entryFields(1, 20)
	fields[8+2*11+1] = "12 1" // no key, and no space for one
	s.client.XAdd(t.Context(), addArgs(engine.OrdersKey(0), fields...))
	s.client.XAdd(t.Context(), addArgs(engine.OrdersKey(0), entryFields(30, 30)...))
	unreadable := append([]string{"item", "x"}, entryFields(40, 42)[2:]...)
	s.client.XAdd(t.Context(), addArgs(engine.OrdersKey(0), unreadable...))
	s.client.XAdd(t.Context(), addArgs(engine.OrdersKey(0), "no", "order"))
	s.addRuns(50, 60, 11)
	s.client.IncrBy(t.Context(), engine.WaitingKey(0), 24)

	w := s.start(s.config())
	s.waitDrained()
	w.halt()
	wantMetric(t, "dead lettered", w.metrics.deadLettered, 6)
	if got := len(s.ledger.applied); got != 17+11 {
		t.Errorf("the ledger holds %d orders, want the 28 neighbours", got)
	}
	d := s.deadLetters(t)
	sequences := make(map[string]string)
	for _, letter := range s.list(t, d, 6) {
		if len(letter.Fields) == 10 {
			sequences[letter.Fields[8]] = letter.Fields[5]
		}
	}
	if want := map[string]string{"user-7": "7", "user-8": "8", "user-12": "12", "user-30": "30"}; !maps.Equal(sequences, want) {
		t.Errorf("sequences of the dead letters %v, want %v", sequences, want)
	}

	// Mended, they are persisted; what cannot be read comes back, whole.
	s.ledger.onPersist = nil
	if retried, left, err := d.RetryAll(t.Context(), flashsale.DeadFilter{}); retried != 6 || left != 0 || err != nil {
		t.Errorf("retried %d, left %d, %v", retried, left, err)
	}
	if n := s.waiting(); n != 4+3 {
		t.Errorf("%d orders are counted, want four of one entry each and three of the unreadable one", n)
	}
	s.start(s.config())
	s.waitDrained()
	if order := s.ledger.orders[8]; order.Sequence != 8 || order.User != "user-8" || order.IdempotencyKey != "key-8" {
		t.Errorf("order came back as %+v", order)
	}
	for _, letter := range s.list(t, d, 3) {
		if len(letter.Fields) == len(unreadable) && !slices.Equal(letter.Fields, unreadable) {
			t.Errorf("unreadable entry came back as %q", letter.Fields)
		}
	}
}

// Entries larger than a transaction are persisted in parts, and leave the stream whole, in step
// with the count of waiting orders.
func TestConsumer_SplitEntries(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	config := s.config()
	config.BatchSize = 30
	var mu sync.Mutex
	sizes := 0
	s.ledger.onPersist = func(_ context.Context, orders []flashsale.Order) error {
		mu.Lock()
		defer mu.Unlock()
		sizes = max(sizes, len(orders))
		return nil
	}
	left := make(chan [2]int64, 100)
	var stored atomic.Int64
	s.ledger.onStored = func(ctx context.Context) {
		if stored.Add(1) == 3 { // 90 orders are committed, 60 acknowledged: one entry of 50
			left <- [2]int64{s.client.XLen(ctx, engine.OrdersKey(0)).Val(), int64(s.waiting())}
		}
	}
	s.addRuns(1, 1000, 50)
	s.start(config)
	s.waitDrained()
	s.wantOnce(1, 1000)
	if got := <-left; got != [2]int64{19, 950} {
		t.Errorf("%d entries with %d orders are left while the third part is committed, want 19 with 950", got[0], got[1])
	}
	mu.Lock()
	defer mu.Unlock()
	if sizes != 30 {
		t.Errorf("a transaction took %d orders, want 30", sizes)
	}
}

// The next batch is read while the one before is being committed.
func TestConsumer_ReadsAhead(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	config := s.config()
	config.BatchSize = 100
	entered, release := make(chan struct{}, 10), make(chan struct{})
	s.ledger.onPersist = func(context.Context, []flashsale.Order) error {
		entered <- struct{}{}
		<-release
		return nil
	}
	s.add(1, 100)
	s.start(config)
	<-entered
	s.add(101, 150)
	stacktest.Eventually(t, patience, func() error {
		if p := s.client.XPending(t.Context(), engine.OrdersKey(0), engine.Group).Val(); p.Count < 101 {
			return fmt.Errorf("%d entries are in hand", p.Count)
		}
		return nil
	})
	close(release)
	s.waitDrained()
	s.wantOnce(1, 150)
}

// An order that comes alone does not wait for others.
func TestConsumer_IdleOrderDoesNotLinger(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	config := s.config()
	config.Linger = patience // a linger would be seen
	s.start(config)
	for n := 1; n <= 5; n++ {
		s.add(n, n)
		s.waitDrained()
	}
	s.wantOnce(1, 5)
}

// A stream that an earlier version has left is not touched: the worker does not start on it, and
// one that runs already stands, until that version has drained it.
func TestConsumer_OldStream(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	old := []string{"order", "7", "item", "1", "user", "ann", "qty", "1", "gen", "1", "seq", "7", "at_ms", "1790000000000"}
	id := s.client.XAdd(t.Context(), addArgs(engine.OrdersKey(0), old...)).Val()
	w, err := New(s.config())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); !errors.Is(err, ErrOldStream) || !strings.Contains(err.Error(), engine.OrdersKey(0)) {
		t.Errorf("run: %v", err)
	}
	s.client.XDel(t.Context(), engine.OrdersKey(0), id)

	running := s.start(s.config())
	s.add(1, 10)
	s.waitDrained()
	id = s.client.XAdd(t.Context(), addArgs(engine.OrdersKey(0), old...)).Val()
	stacktest.Eventually(t, patience, func() error {
		if err := running.Ready(t.Context()); !errors.Is(err, ErrOldStream) {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
	if n := s.client.XLen(t.Context(), engine.OrdersKey(0)).Val(); n != 1 {
		t.Errorf("%d entries are left, want the old one", n)
	}
	wantMetric(t, "dead lettered", running.metrics.deadLettered, 0)
	s.client.XAck(t.Context(), engine.OrdersKey(0), engine.Group, id)
	s.client.XDel(t.Context(), engine.OrdersKey(0), id)
	s.add(11, 20)
	s.waitDrained()
	s.wantOnce(1, 20)
}

// A stream and group that vanish in the run are made again, at the beginning of the stream.
func TestConsumer_NoGroup(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.start(s.config())
	s.add(1, 100)
	s.waitDrained()

	s.client.Del(t.Context(), engine.OrdersKey(0))
	s.add(101, 200)
	s.waitDrained()

	s.client.XGroupDestroy(t.Context(), engine.OrdersKey(0), engine.Group)
	s.add(201, 300)
	s.waitDrained()
	s.wantOnce(1, 300)
}

// A Redis that forgets its scripts loses and doubles nothing.
func TestConsumer_ScriptFlush(t *testing.T) {
	t.Parallel()
	s := newSetupOn(t, stacktest.NewRedis(t).URL())
	config := s.config()
	config.BatchSize = 50
	s.ledger.onStored = func(context.Context) { s.client.ScriptFlush(context.Background()) }
	s.add(1, 1000)
	s.start(config)
	s.waitDrained()
	s.wantOnce(1, 1000)
}

// A Redis that is restarted in the run (its connections die) loses and doubles nothing.
func TestConsumer_RedisRestart(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t, "--appendfsync", "always")
	s := newSetupOn(t, server.URL())
	config := s.config()
	config.BatchSize = 50
	var once sync.Once
	s.ledger.onStored = func(context.Context) {
		once.Do(func() {
			server.Kill()
			if err := server.Restart(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	s.add(1, 1000)
	s.start(config)
	s.waitDrained()
	s.wantOnce(1, 1000)
}

// Entries that a dead consumer took are claimed, and so are those of our own whose reply was
// lost; a consumer with nothing pending and long silent goes, one with pending entries stays
// until they are claimed.
func TestClaim(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"worker-dead", "worker-1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			config := s.config()
			config.PersistTimeout = 300 * time.Millisecond
			config.ClaimMinIdle = 400 * time.Millisecond
			config.ClaimEvery = 50 * time.Millisecond
			config.ConsumerIdleMax = 500 * time.Millisecond
			w := s.start(config)
			s.add(1, 1)
			s.waitDrained() // past its start: what follows is not found by the first look

			// The worker reads at the same time; whoever gets the entries first may have them.
			stacktest.Eventually(t, patience, func() error {
				s.add(s.nextOrder(), s.nextOrder()+99)
				read, err := s.client.XReadGroup(t.Context(), &redis.XReadGroupArgs{
					Group: engine.Group, Consumer: name, Streams: []string{engine.OrdersKey(0), ">"}, Count: 50, Block: -1,
				}).Result()
				if err != nil {
					return err
				}
				if len(read) == 0 {
					return fmt.Errorf("the worker was faster")
				}
				return nil
			})
			s.waitDrained()
			stacktest.Eventually(t, patience, func() error {
				consumers, err := s.client.XInfoConsumers(t.Context(), engine.OrdersKey(0), engine.Group).Result()
				if err != nil {
					return err
				}
				if len(consumers) != 1 || consumers[0].Name != config.Consumer {
					return fmt.Errorf("consumers %+v", consumers)
				}
				return nil
			})
			s.wantOnce(1, s.nextOrder()-1)
			w.halt()
			wantMetric(t, "lost", w.metrics.lost, 0)
		})
	}
}

// nextOrder is the number after the highest in the stream or the ledger.
func (s *setup) nextOrder() int {
	s.ledger.mu.Lock()
	next := len(s.ledger.orders) + 1
	s.ledger.mu.Unlock()
	entries := s.client.XRevRangeN(s.t.Context(), engine.OrdersKey(0), "+", "-", 1).Val()
	for _, e := range entries {
		var n int
		if _, err := fmt.Sscan(e.Values["seq"].(string), &n); err != nil {
			s.t.Fatal(err)
		}
		next = max(next, n+1)
	}
	return next
}

// A consumer is removed only when it has nothing pending and has been silent for long.
func TestClaim_Removable(t *testing.T) {
	t.Parallel()
	c := &consumer{config: Config{Consumer: "me", ConsumerIdleMax: time.Hour}}
	for _, test := range []struct {
		other redis.XInfoConsumer
		want  bool
	}{
		{redis.XInfoConsumer{Name: "gone", Idle: 2 * time.Hour}, true},
		{redis.XInfoConsumer{Name: "gone", Idle: 2 * time.Hour, Pending: 1}, false},
		{redis.XInfoConsumer{Name: "quiet", Idle: time.Minute}, false},
		{redis.XInfoConsumer{Name: "me", Idle: 2 * time.Hour}, false},
	} {
		if got := c.removable(test.other); got != test.want {
			t.Errorf("removable(%+v) = %v", test.other, got)
		}
	}
}

// Entries that somebody deleted while they were pending are lost orders: they are counted,
// whether they were ours or another's, and do not stop the others.
func TestConsumer_LostEntries(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"worker-1", "worker-dead"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			config := s.config()
			config.PersistTimeout, config.ClaimMinIdle = time.Second, 1100*time.Millisecond
			config.ClaimEvery = 30 * time.Millisecond
			s.add(1, 10)
			s.client.XGroupCreate(t.Context(), engine.OrdersKey(0), engine.Group, "0")
			read := s.client.XReadGroup(t.Context(), &redis.XReadGroupArgs{
				Group: engine.Group, Consumer: name, Streams: []string{engine.OrdersKey(0), ">"}, Block: -1,
			}).Val()
			s.client.XDel(t.Context(), engine.OrdersKey(0), read[0].Messages[2].ID, read[0].Messages[5].ID)

			w := s.start(config)
			s.waitDrained()
			w.halt()
			wantMetric(t, "lost", w.metrics.lost, 2)
			if got := len(s.ledger.applied); got != 8 {
				t.Errorf("ledger holds %d orders, want the 8 others", got)
			}
		})
	}
}

// Two workers share one stream, and each order is persisted once.
func TestConsumer_TwoWorkers(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	for _, name := range []string{"worker-1", "worker-2"} {
		config := s.config()
		config.Consumer, config.BatchSize = name, 100
		s.start(config)
	}
	for n := 1; n <= 5000; n += 500 {
		s.add(n, n+499)
	}
	s.waitDrained()
	s.wantOnce(1, 5000)
}

// A stop persists and acknowledges what is in hand and leaves the rest in the stream.
func TestConsumer_GracefulStop(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	entered, release := make(chan struct{}, 3), make(chan struct{})
	s.ledger.onPersist = func(context.Context, []flashsale.Order) error {
		entered <- struct{}{}
		<-release
		return nil
	}
	config := s.config()
	config.BatchSize = 100
	s.add(1, 350)
	w := s.start(config)
	<-entered
	w.stop()
	close(release)
	w.wait()
	n := int(s.client.XLen(t.Context(), engine.OrdersKey(0)).Val())
	if n != 150 && n != 250 { // the next batch may have been read already
		t.Errorf("stream holds %d entries, want those that were not in hand", n)
	}
	if got := s.waiting(); got != n {
		t.Errorf("%d orders are counted, %d are there", got, n)
	}
	s.wantOnce(1, 350-n)
	if p := s.client.XPending(t.Context(), engine.OrdersKey(0), engine.Group).Val(); p.Count != 0 {
		t.Errorf("%d entries are pending", p.Count)
	}
}

// A stop while the ledger is away ends within the flush timeout and keeps everything.
func TestConsumer_StopWithLedgerAway(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	entered := make(chan struct{}, 100)
	s.ledger.onPersist = func(context.Context, []flashsale.Order) error {
		entered <- struct{}{}
		return errAway
	}
	config := s.config()
	config.FlushTimeout = 50 * time.Millisecond
	s.add(1, 10)
	w := s.start(config)
	<-entered
	w.halt()
	if n := s.client.XLen(t.Context(), engine.OrdersKey(0)).Val(); n != 10 {
		t.Errorf("stream holds %d entries, want all 10", n)
	}
	if err := w.Run(t.Context()); !errors.Is(err, ErrRun) {
		t.Errorf("second run: %v", err)
	}
}

// What the ledger refuses is given back in Redis, and the user may buy again.
func TestWorker_RejectedIsReleased(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.ledger.addItem(2, 5)
	if err := NewPreheater(s.ledger, s.engine, nil).PreheatSale(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	s.ledger.mu.Lock()
	s.ledger.items[2].Stock, s.ledger.items[2].Total = 0, 0 // Redis believes in five units
	s.ledger.mu.Unlock()
	reply, err := s.engine.Reserve(t.Context(), engine.Request{Item: 2, User: "ann", Quantity: 1})
	if err != nil || reply.Outcome != flashsale.Accepted {
		t.Fatalf("reserve: %+v, %v", reply, err)
	}
	w := s.start(s.config())
	stacktest.Eventually(t, patience, func() error {
		account, err := s.engine.Item(t.Context(), 2)
		if err != nil {
			return err
		}
		if account.Stock != 5 || len(s.ledger.owed()) != 0 {
			return fmt.Errorf("stock %d, owed %v", account.Stock, s.ledger.owed())
		}
		return nil
	})
	wantMetric(t, "rejected", w.metrics.rejected, 1)
	again, err := s.engine.Reserve(t.Context(), engine.Request{Item: 2, User: "ann", Quantity: 1})
	if err != nil || again.Outcome != flashsale.Accepted || again.OrderNo == reply.OrderNo {
		t.Errorf("second try: %+v, %v", again, err)
	}
}

// What is configured wrongly is refused by name, before anything runs.
func TestNew_Refuses(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"url", func(c *Config) { c.RedisURL = "" }, "RedisURL"},
		{"scheme", func(c *Config) { c.RedisURL = "http://x" }, "RedisURL"},
		{"ledger", func(c *Config) { c.Ledger = nil }, "Ledger"},
		{"engine", func(c *Config) { c.Engine = nil }, "Engine"},
		{"batch", func(c *Config) { c.BatchSize = 5001 }, "BatchSize"},
		{"block", func(c *Config) { c.Block = time.Minute }, "Block"},
		{"claim", func(c *Config) { c.ClaimMinIdle = time.Second }, "ClaimMinIdle"},
		{"preheat", func(c *Config) { c.PreheatBefore = time.Second }, "PreheatBefore"},
		{"partitions", func(c *Config) { c.Partitions = -1 }, "Partitions"},
	} {
		config := s.config()
		test.change(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error about %s", test.name, err, test.want)
		}
	}
}
