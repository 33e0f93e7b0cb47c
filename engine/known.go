package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"flashsale"
)

const (
	// knownEvery is the least time between two looks for items, however many ids are made up.
	knownEvery = 50 * time.Millisecond
	// knownAsk bounds one look.
	knownAsk = 500 * time.Millisecond
)

// knownItems are the items that there are. An id that is not among them gets no queue in a lane and
// costs Redis nothing, so nothing that a client invents can push out what is real. Whoever asks for
// an id that is not known waits for the next look, which all that wait share.
type knownItems struct {
	load func(context.Context) ([]flashsale.ItemID, error)
	all  atomic.Pointer[map[flashsale.ItemID]struct{}] // never changed; nil: none were loaded yet

	mu     sync.Mutex // guards what follows
	look   *itemsLook // under way, or the next
	looked time.Time  // when the last one began
}

// itemsLook is one look for items.
type itemsLook struct {
	done chan struct{}
	err  error // stands when done is closed
}

func (k *knownItems) has(item flashsale.ItemID) bool {
	all := k.all.Load()
	if all == nil {
		return false
	}
	_, ok := (*all)[item]
	return ok
}

// admits tells whether an id may have a queue: 0 says yes, ItemNotFound that there surely is no such
// item, and NotReady that nobody can tell now, while those that were known before still sell. A
// process that has never learned which items there are lets every id pass.
func (k *knownItems) admits(item flashsale.ItemID) flashsale.Outcome {
	if k.load == nil || k.has(item) {
		return 0
	}
	look := k.next()
	<-look.done
	switch {
	case k.has(item), k.all.Load() == nil:
		return 0
	case look.err != nil:
		return flashsale.NotReady
	}
	return flashsale.ItemNotFound
}

// next returns a look that begins after now.
func (k *knownItems) next() *itemsLook {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.look != nil {
		return k.look
	}
	look := &itemsLook{done: make(chan struct{})}
	k.look = look
	go k.run(look, time.Until(k.looked.Add(knownEvery)))
	return look
}

func (k *knownItems) run(look *itemsLook, rest time.Duration) {
	defer close(look.done)
	ctx, cancel := context.WithTimeout(context.Background(), rest+knownAsk)
	defer cancel()
	pause(ctx, rest)
	k.mu.Lock()
	k.look, k.looked = nil, time.Now() // who comes from here on may ask for what this look misses
	k.mu.Unlock()
	items, err := k.load(ctx)
	if look.err = err; err != nil {
		return
	}
	all := make(map[flashsale.ItemID]struct{}, len(items))
	for _, item := range items {
		all[item] = struct{}{}
	}
	k.all.Store(&all)
}
