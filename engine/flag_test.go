package engine

import (
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

// at is a sight of an epoch, in the generation 1, when nobody had bought.
func at(epoch int64) sight { return sight{epoch: epoch, gen: 1} }

// lost reports whether the flag answers the user by itself.
func (f *soldOutFlag) lost(user string, clock int64) bool { return f.answer(user, clock) != 0 }

// rosterOf is a roster of the generation 1 with these users on it.
func rosterOf(users ...string) *roster {
	r := &roster{filter: newFilter(len(users)), gen: 1, seq: -1}
	for _, user := range users {
		r.filter.add(user)
	}
	return r
}

// raisedAt is a flag for the epoch, raised at clock 0 for about a second, with ann on its roster.
func raisedAt(t *testing.T, epoch int64) *soldOutFlag {
	t.Helper()
	f := new(soldOutFlag)
	if !f.learn(at(epoch), flashsale.SoldOut, 0, time.Second) {
		t.Fatal("no roster wanted")
	}
	r := rosterOf("ann")
	f.load(r)
	f.loaded(r, at(epoch), flashsale.SoldOut, 0, 0, time.Second)
	if !f.lost("bob", 1) {
		t.Fatal("flag not raised")
	}
	return f
}

// TestFlag_NewestEpochOnly: a clear can overtake an older sold out on its way; the flag must
// not be raised by the older. (Museum bug 11.)
func TestFlag_NewestEpochOnly(t *testing.T) {
	t.Parallel()
	t.Run("clear before the reply", func(t *testing.T) {
		t.Parallel()
		var f soldOutFlag
		f.see(2)
		if f.learn(at(1), flashsale.SoldOut, 0, time.Second) || f.lost("bob", 1) {
			t.Error("an old reply raised the flag")
		}
	})
	t.Run("clear while the roster is loaded", func(t *testing.T) {
		t.Parallel()
		var f soldOutFlag
		if !f.learn(at(1), flashsale.SoldOut, 0, time.Second) {
			t.Fatal("no roster wanted")
		}
		f.see(2)
		f.loaded(rosterOf(), at(1), flashsale.SoldOut, 0, 0, time.Second)
		if f.lost("bob", 1) {
			t.Error("an old roster raised the flag")
		}
	})
	t.Run("clear afterwards", func(t *testing.T) {
		t.Parallel()
		f := raisedAt(t, 1)
		f.see(2)
		if f.lost("bob", 1) {
			t.Error("the flag stands")
		}
		if f.learn(at(1), flashsale.SoldOut, 1, time.Second); f.lost("bob", 1) {
			t.Error("an old reply raised it again")
		}
	})
	t.Run("an old clear changes nothing", func(t *testing.T) {
		t.Parallel()
		f := raisedAt(t, 2)
		f.see(1)
		if !f.lost("bob", 1) {
			t.Error("the flag is down")
		}
	})
	t.Run("units left", func(t *testing.T) {
		t.Parallel()
		f := raisedAt(t, 57)
		// After a loss of Redis the epochs may have started again.
		if f.learn(at(1), 0, 1, time.Second); f.lost("bob", 1) {
			t.Error("the flag stands over units")
		}
	})
}

// TestFlag_SingleProbe: when a flag expires one request asks Redis; while its reply is on its
// way the others are answered, and its reply renews the flag.
func TestFlag_SingleProbe(t *testing.T) {
	t.Parallel()
	f := raisedAt(t, 1)
	clock := int64(time.Second)
	var probes atomic.Int64
	var running sync.WaitGroup
	for n := range 100 {
		running.Go(func() {
			if !f.lost("user"+strconv.Itoa(n), clock) {
				probes.Add(1)
			}
		})
	}
	running.Wait()
	if probes.Load() != 1 {
		t.Errorf("%d probes, want 1", probes.Load())
	}
	// A probe whose reply never comes is followed by the next.
	if clock += int64(probeGrace); f.lost("bob", clock) {
		t.Error("no second probe")
	}
	if f.learn(at(1), flashsale.SoldOut, clock, time.Second); !f.lost("bob", clock+int64(700*time.Millisecond)) {
		t.Error("the reply did not renew the flag")
	}
}

// TestFlag_TTLJitter: flags of many nodes must not expire together, nor later than the TTL.
func TestFlag_TTLJitter(t *testing.T) {
	t.Parallel()
	seen := map[int64]bool{}
	for range 50 {
		until := raisedAt(t, 1).raised.Load().until
		if seen[until] = true; until > int64(time.Second) || until < int64(800*time.Millisecond) {
			t.Errorf("a TTL of %s", time.Duration(until))
		}
	}
	if len(seen) < 2 {
		t.Error("no jitter")
	}
}

// TestFlag_RosterRest: an item whose units trickle back may not keep Redis busy with rosters,
// and a roster that cannot be had is asked for again.
func TestFlag_RosterRest(t *testing.T) {
	t.Parallel()
	var f soldOutFlag
	if !f.learn(at(1), flashsale.SoldOut, 0, time.Second) {
		t.Fatal("no roster wanted")
	}
	if f.learn(at(1), flashsale.SoldOut, 0, time.Second) {
		t.Error("two rosters at once")
	}
	f.loaded(nil, at(1), flashsale.SoldOut, 0, 10, time.Second) // took 10
	if f.lost("bob", 10) {
		t.Error("raised without a roster")
	}
	if f.learn(at(2), flashsale.SoldOut, 10+rosterRest*10-1, time.Second) {
		t.Error("no rest")
	}
	if !f.learn(at(2), flashsale.SoldOut, 10+rosterRest*10, time.Second) {
		t.Error("never again")
	}
}

// soldOut sells the only unit to ann and waits until the node answers losers by itself.
func soldOut(t *testing.T, e *Engine, item flashsale.ItemID) (annsOrder flashsale.OrderNo) {
	t.Helper()
	reply := buy(t, e, item, "ann")
	if reply.Outcome != flashsale.Accepted && reply.Outcome != flashsale.DuplicateOrder {
		t.Fatal(reply.Outcome)
	}
	flagged(t, e, item)
	return reply.OrderNo
}

// flagged asks until the flag is up.
func flagged(t *testing.T, e *Engine, item flashsale.ItemID) {
	t.Helper()
	raised(t, e, item, flashsale.SoldOut)
}

// raised asks until a flag is up with this answer.
func raised(t *testing.T, e *Engine, item flashsale.ItemID, want flashsale.Outcome) {
	t.Helper()
	stacktest.Eventually(t, wait, func() error {
		if reply := buy(t, e, item, "loser"); reply.Outcome != want {
			return fmt.Errorf("%s, want %s", reply.Outcome, want)
		}
		if e.queue(item).flag.raised.Load() == nil {
			return errors.New("flag not raised")
		}
		return nil
	})
}

// TestFlag_LosersLocal: losers cost Redis nothing, while a winner who asks again learns his
// order on every node. (Museum bug 11: one user's failure poisons nobody; 17.)
func TestFlag_LosersLocal(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	a := start(t, Config{RedisURL: url, FlagTTL: time.Hour})
	b := start(t, Config{RedisURL: url, FlagTTL: time.Hour})
	item := load(t, a, 1, 1)
	order := soldOut(t, a, item)
	flagged(t, b, item)

	before := calls(t, client, "evalsha")
	for n := range 1000 {
		for _, e := range []*Engine{a, b} {
			if reply := buy(t, e, item, "loser"+strconv.Itoa(n)); reply.Outcome != flashsale.SoldOut {
				t.Fatalf("a loser is told %s", reply.Outcome)
			}
		}
	}
	if n := calls(t, client, "evalsha") - before; n != 0 {
		t.Errorf("%d script calls for losers", n)
	}
	for _, e := range []*Engine{a, b} {
		if reply := buy(t, e, item, "ann"); reply.Outcome != flashsale.DuplicateOrder || reply.OrderNo != order {
			t.Errorf("the winner is told %+v, holds %d", reply, order)
		}
	}
	if n := calls(t, client, "evalsha") - before; n != 2 {
		t.Errorf("%d script calls for the winner on two nodes", n)
	}
}

// TestFlag_ClearedEverywhere: what one node gives back, every node sells at once.
func TestFlag_ClearedEverywhere(t *testing.T) {
	t.Parallel()
	url := stacktest.Redis(t)
	a := start(t, Config{RedisURL: url, FlagTTL: time.Hour})
	b := start(t, Config{RedisURL: url, FlagTTL: time.Hour})
	item := load(t, a, 1, 1)
	order := soldOut(t, a, item)
	flagged(t, b, item)

	if n, err := a.Release(t.Context(), item, []Held{{order, "ann"}}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	becomes(t, b, item, "bob", flashsale.Accepted)
	if reply := becomes(t, a, item, "cat", flashsale.SoldOut); reply.OrderNo != 0 {
		t.Error(reply)
	}
	flagged(t, a, item)
	flagged(t, b, item)
	if err := b.Restock(t.Context(), item, 1, 1); err != nil {
		t.Fatal(err)
	}
	becomes(t, a, item, "ann", flashsale.Accepted)
}

// TestFlag_Told: the audit hears which flags a node holds up, and that it does no more.
func TestFlag_Told(t *testing.T) {
	t.Parallel()
	e := start(t, Config{RedisURL: stacktest.Redis(t), FlagTTL: time.Hour})
	item := load(t, e, 1, 1)
	order := soldOut(t, e, item)
	flagged(t, e, item)
	told := func(check func(map[string]RaisedFlags) bool) {
		t.Helper()
		stacktest.Eventually(t, 30*time.Second, func() error {
			nodes, err := e.RaisedFlags(t.Context())
			if err != nil || !check(nodes) {
				return fmt.Errorf("told %v, %w", nodes, err)
			}
			return nil
		})
	}
	told(func(nodes map[string]RaisedFlags) bool {
		for _, flags := range nodes {
			return len(nodes) == 1 && flags.Told > 1 && len(flags.Epoch) == 1 && flags.Epoch[item] == 1_000_000_000
		}
		return false
	})
	if n, err := e.Release(t.Context(), item, []Held{{order, "ann"}}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	told(func(nodes map[string]RaisedFlags) bool { return len(nodes) == 0 })
}

// releaseUnheard gives an order back while the message about it is lost on the way.
func releaseUnheard(t *testing.T, client rueidis.Client, item flashsale.ItemID, order flashsale.OrderNo, user string) {
	t.Helper()
	result := releaseScript.Exec(t.Context(), client, []string{ItemKey(0, item), BuyersKey(0, item)},
		[]string{"test:nobody-listens", item.String(), order.String(), user})
	if numbers, err := result.AsIntSlice(); err != nil || numbers[3] != 1 {
		t.Fatal(numbers, err)
	}
}

// TestFlag_MessageLost: losing every message costs one TTL, not the sale.
func TestFlag_MessageLost(t *testing.T) {
	t.Parallel()
	const ttl = 500 * time.Millisecond
	url := stacktest.Redis(t)
	client := dial(t, url)
	a := start(t, Config{RedisURL: url, FlagTTL: ttl})
	b := start(t, Config{RedisURL: url, FlagTTL: ttl})
	item := load(t, a, 1, 1)
	order := soldOut(t, a, item)
	flagged(t, b, item)
	releaseUnheard(t, client, item, order, "ann")
	released := time.Now()
	becomes(t, b, item, "bob", flashsale.Accepted)
	// The rest is for a machine that is busy.
	if late := time.Since(released); late > ttl+probeGrace+3*time.Second {
		t.Errorf("sold again after %s with a TTL of %s", late, ttl)
	}
}

// TestFlag_DroppedOnResubscribe: what was said while nobody listened is lost, so a subscription
// that was cut and renewed drops the flags.
func TestFlag_DroppedOnResubscribe(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	e := start(t, Config{RedisURL: url, FlagTTL: time.Hour})
	item := load(t, e, 1, 1)
	order := soldOut(t, e, item)
	releaseUnheard(t, client, item, order, "ann")
	if reply := buy(t, e, item, "bob"); reply.Outcome != flashsale.SoldOut {
		t.Fatalf("the flag fell by itself: %s", reply.Outcome)
	}
	do(t, client, "CLIENT", "KILL", "TYPE", "pubsub")
	becomes(t, e, item, "bob", flashsale.Accepted)
}

// TestFlag_DroppedWhileDeaf: a node that cannot hear of units that come back does not go on
// answering from what it knew.
func TestFlag_DroppedWhileDeaf(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t)
	e := start(t, Config{RedisURL: server.URL(), FlagTTL: time.Hour, ScriptTimeout: 200 * time.Millisecond})
	item := load(t, e, 1, 1)
	soldOut(t, e, item)
	server.Kill()
	stacktest.Eventually(t, wait, func() error {
		reply, err := e.Reserve(t.Context(), Request{Item: item, User: "loser", Quantity: 1})
		if err == nil {
			return fmt.Errorf("still %s", reply.Outcome)
		}
		return nil
	})
}

// TestFlag_Reloaded: an item that was lost and loaded again sells, though its node had seen a
// later epoch of the stock before.
func TestFlag_Reloaded(t *testing.T) {
	t.Parallel()
	url := stacktest.Redis(t)
	client := dial(t, url)
	e := start(t, Config{RedisURL: url, FlagTTL: 50 * time.Millisecond})
	item := newItem(1, 1)
	if err := e.Preheat(t.Context(), item); err != nil {
		t.Fatal(err)
	}
	order := soldOut(t, e, item.ID)
	if _, err := e.Release(t.Context(), item.ID, []Held{{order, "ann"}}); err != nil {
		t.Fatal(err)
	}
	becomes(t, e, item.ID, "ann", flashsale.Accepted)
	flagged(t, e, item.ID)
	seen := e.queue(item.ID).flag.epoch.Load()

	do(t, client, "DEL", ItemKey(0, item.ID), BuyersKey(0, item.ID))
	item.Generation++
	if err := e.Preheat(t.Context(), item); err != nil {
		t.Fatal(err)
	}
	becomes(t, e, item.ID, "bob", flashsale.Accepted)
	flagged(t, e, item.ID)
	if epoch := e.queue(item.ID).flag.epoch.Load(); epoch <= seen {
		t.Errorf("epoch %d of the new generation, %d before", epoch, seen)
	}
}

// TestFlag_RosterKept: units that come back are followed by what is told of who took them, in
// whatever order it is heard, without reading the roster again; what was missed is noticed.
func TestFlag_RosterKept(t *testing.T) {
	t.Parallel()
	told := func(f *soldOutFlag, after int64, users ...string) {
		f.join(1, span{after, after + int64(len(users))}, func(add func(string)) {
			for _, user := range users {
				add(user)
			}
		})
	}
	now := func(epoch, seq int64) sight { return sight{epoch: epoch, gen: 1, seq: seq} }
	t.Run("told out of order", func(t *testing.T) {
		t.Parallel()
		f := raisedAt(t, 1)
		f.see(2)
		told(f, 2, "dan")
		told(f, 0, "bob", "cat")
		if f.learn(now(2, 3), flashsale.SoldOut, 1, time.Second) {
			t.Error("the roster was read again")
		}
		for user, lost := range map[string]bool{"ann": false, "bob": false, "cat": false, "dan": false, "eve": true} {
			if f.lost(user, 2) != lost {
				t.Errorf("%s: lost is not %t", user, lost)
			}
		}
	})
	t.Run("told while it is read", func(t *testing.T) {
		t.Parallel()
		var f soldOutFlag
		f.learn(at(1), flashsale.SoldOut, 0, time.Second)
		r := rosterOf()
		f.load(r)
		told(&f, 0, "bob")
		f.loaded(r, at(1), flashsale.SoldOut, 0, 0, time.Second)
		if f.learn(now(1, 1), flashsale.SoldOut, 1, time.Second) || f.lost("bob", 2) || !f.lost("eve", 2) {
			t.Error("what was told meanwhile was lost")
		}
	})
	for name, miss := range map[string]func(f *soldOutFlag){
		"a message is lost": func(f *soldOutFlag) { told(f, 1, "cat") },
		"rebuilt":           func(f *soldOutFlag) { f.join(2, span{0, 1}, func(add func(string)) { add("cat") }) },
		"more than it was made for": func(f *soldOutFlag) {
			for n := range int64(10_000) {
				told(f, n, "user"+strconv.FormatInt(n, 10))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := raisedAt(t, 1)
			f.see(2)
			miss(f)
			if f.learn(now(2, 2), flashsale.SoldOut, 1, time.Second) || f.lost("eve", 2) {
				t.Error("no grace, or raised over a roster that does not cover it")
			}
			if later := 1 + int64(gapGrace); !f.learn(now(2, 2), flashsale.SoldOut, later, time.Second) || f.lost("eve", later) {
				t.Error("raised over a roster that does not cover it")
			}
		})
	}
}

// TestFlag_TrickleReadsNothing: units that come back one after the other cost Redis nothing that
// grows with the buyers, on the node that sells them and on another; and every buyer is told the
// order he holds by both.
func TestFlag_TrickleReadsNothing(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	a := start(t, Config{RedisURL: url, FlagTTL: time.Hour})
	b := start(t, Config{RedisURL: url, FlagTTL: time.Hour})
	item := load(t, a, 1, 1)
	order := soldOut(t, a, item)
	flagged(t, b, item)
	before := calls(t, client, "hscan")
	holder := "ann"
	for n := range 20 {
		if _, err := a.Release(t.Context(), item, []Held{{order, holder}}); err != nil {
			t.Fatal(err)
		}
		holder = "user" + strconv.Itoa(n)
		order = becomes(t, a, item, holder, flashsale.Accepted).OrderNo
		flagged(t, a, item)
		flagged(t, b, item)
		for _, e := range []*Engine{a, b} {
			if reply := becomes(t, e, item, holder, flashsale.DuplicateOrder); reply.OrderNo != order { // once word is there
				t.Fatalf("%s holds order %d and is told %+v", holder, order, reply)
			}
		}
	}
	if n := calls(t, client, "hscan") - before; n != 0 {
		t.Errorf("%d HSCAN for units that came back", n)
	}
}

// TestFilter_FalseMatches: a filter forgets nobody, and takes as few for others as it says.
func TestFilter_FalseMatches(t *testing.T) {
	t.Parallel()
	const users = 100_000
	f := newFilter(users)
	for n := range users {
		f.add("user" + strconv.Itoa(n))
	}
	matches := 0
	for n := range users {
		if !f.has("user" + strconv.Itoa(n)) {
			t.Fatalf("user%d was forgotten", n)
		}
		if f.has("other" + strconv.Itoa(n)) {
			matches++
		}
	}
	if matches > users/500 {
		t.Errorf("%d of %d others matched", matches, users)
	}
	if bytes := len(newFilter(1<<40).words) * 8; bytes*8 != filterBitsMax {
		t.Errorf("the largest filter has %d bytes", bytes)
	}
}
