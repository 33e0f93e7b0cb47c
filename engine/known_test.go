package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// TestKnown_MadeUpIDs: ids that a client invents get no queue, cost Redis nothing and the ledger a
// look now and then, however many they are; what is real sells meanwhile, also when it is new.
func TestKnown_MadeUpIDs(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	var looks atomic.Int64
	var mu sync.Mutex
	var items []flashsale.ItemID
	e := start(t, Config{RedisURL: url, LanesMax: 2, Items: func(context.Context) ([]flashsale.ItemID, error) {
		looks.Add(1)
		mu.Lock()
		defer mu.Unlock()
		return items, nil
	}})
	announce := func() flashsale.ItemID {
		id := load(t, e, 10, 1)
		mu.Lock()
		defer mu.Unlock()
		items = append(items, id)
		return id
	}
	first := announce()
	if reply := buy(t, e, first, "ann"); reply.Outcome != flashsale.Accepted {
		t.Fatalf("a new item answers %s", reply.Outcome)
	}
	before := calls(t, client, "evalsha")
	var asking sync.WaitGroup
	for n := range 2000 {
		asking.Go(func() {
			if reply := buy(t, e, flashsale.ItemID(1_000_000_000+n), "eve"); reply.Outcome != flashsale.ItemNotFound {
				t.Errorf("an id that is made up answers %s", reply.Outcome)
			}
		})
	}
	second := announce()
	if reply := buy(t, e, second, "ann"); reply.Outcome != flashsale.Accepted {
		t.Errorf("a new item answers %s under attack", reply.Outcome)
	}
	asking.Wait()
	if n := calls(t, client, "evalsha") - before; n != 2 {
		t.Errorf("%d script calls, want those that load and sell the new item", n)
	}
	if _, queues := e.laneFigures(); queues != 2 {
		t.Errorf("%d items have a queue", queues)
	}
	if n := looks.Load(); n > 100 {
		t.Errorf("%d looks for 2,000 ids", n)
	}
}

// TestKnown_LedgerAway: while nobody can tell what there is, what is known sells on, and what a client
// invents still takes no queue: he is told to ask again, since it may be new.
func TestKnown_LedgerAway(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var items []flashsale.ItemID
	e := start(t, Config{RedisURL: stacktest.Redis(t), Items: func(context.Context) ([]flashsale.ItemID, error) {
		mu.Lock()
		defer mu.Unlock()
		if items == nil {
			return nil, errors.New("away")
		}
		return items, nil
	}})
	item := load(t, e, 10, 1)
	if reply := buy(t, e, item, "ann"); reply.Outcome != flashsale.Accepted {
		t.Errorf("before anything is known: %s", reply.Outcome)
	}
	know := func(known []flashsale.ItemID) {
		mu.Lock()
		defer mu.Unlock()
		items = known
	}
	know([]flashsale.ItemID{item})
	if reply := buy(t, e, item+1, "eve"); reply.Outcome != flashsale.ItemNotFound {
		t.Errorf("an id that is made up: %s", reply.Outcome)
	}
	know(nil)
	if reply := buy(t, e, item+1, "eve"); reply.Outcome != flashsale.NotReady {
		t.Errorf("an id that is not known, while the ledger is away: %s", reply.Outcome)
	}
	if reply := buy(t, e, item, "bob"); reply.Outcome != flashsale.Accepted {
		t.Errorf("an item that is known, while the ledger is away: %s", reply.Outcome)
	}
	if _, queues := e.laneFigures(); queues != 1 {
		t.Errorf("%d items have a queue", queues)
	}
}
