package engine

import (
	"sync"
	"sync/atomic"

	"flashsale"
)

// itemQueue is what a node keeps of an item: the requests that wait in its lane, and what was
// learned of it.
//
// One that the sweep has taken away still works for the requests that hold it; it only hears no
// clears any more, which its flag's TTL covers.
type itemQueue struct {
	item   flashsale.ItemID
	text   string // the item's id as the scripts take it
	keys   [2]string
	lane   *lane
	flag   soldOutFlag
	window window
	usedAt atomic.Int64 // engine clock, when a request last entered

	// Guarded by the lane's mutex.
	groups  []*group // oldest first; only the newest may have room
	waiting int      // requests in them
	section int      // place in the run that is being filled, from 1; 0: none
}

// nearQueues is how many items at once are found without a lock, which a crowd's processors would
// fight over. A power of two.
const nearQueues = 64

// itemQueues are those of all items that were asked for lately.
type itemQueues struct {
	near [nearQueues]atomic.Pointer[itemQueue] // by the item's last bits

	mu  sync.RWMutex // guards all, and who writes to near
	all map[flashsale.ItemID]*itemQueue
}

func (q *itemQueues) nearby(item flashsale.ItemID) *atomic.Pointer[itemQueue] {
	return &q.near[item&(nearQueues-1)]
}

// get returns the item's queue, or nil.
func (q *itemQueues) get(item flashsale.ItemID) *itemQueue {
	if found := q.nearby(item).Load(); found != nil && found.item == item {
		return found
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	found := q.all[item]
	if found != nil {
		q.nearby(item).Store(found)
	}
	return found
}

// add returns the item's queue, which it makes unless it is there, or nil when there are too many.
func (q *itemQueues) add(item flashsale.ItemID, atMost int, create func() *itemQueue) *itemQueue {
	q.mu.Lock()
	defer q.mu.Unlock()
	if found := q.all[item]; found != nil {
		return found
	}
	if len(q.all) >= atMost {
		return nil
	}
	made := create()
	q.all[item] = made
	return made
}

// every calls visit for each.
func (q *itemQueues) every(visit func(*itemQueue)) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	for _, each := range q.all {
		visit(each)
	}
}

// sweep lets go of those that may go.
func (q *itemQueues) sweep(idle func(*itemQueue) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for item, each := range q.all {
		if idle(each) {
			delete(q.all, item)
			q.nearby(item).CompareAndSwap(each, nil)
		}
	}
}
