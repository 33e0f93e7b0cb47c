package server

import (
	"context"
	"sync"
	"time"

	"flashsale"
	"flashsale/engine"
)

const (
	liveTTL = 200 * time.Millisecond // how late stock shows
	// readCost is what an item that is looked at adds to how late the stock of a whole list may
	// show: so the lists of a node ask Redis for at most 10,000 items a second, however many
	// people look at however many sales.
	readCost     = 100 * time.Microsecond
	readingsIdle = 10 * time.Second // until what nobody looks at is forgotten
	redisRest    = time.Second      // after a fault of Redis, before it is asked again
)

// readings are the items in Redis as all who look at them share them. One pipelined read at a time
// brings up to date what is too old for whoever asks.
type readings struct {
	live Live

	loading sync.Mutex // held while Redis is asked
	rest    time.Time  // until then it is not; guarded by loading

	mu    sync.Mutex // guards what follows
	items map[flashsale.ItemID]reading
	swept time.Time
}

// reading is an item as it was at a moment; nil is not in Redis.
type reading struct {
	account *engine.Account
	at      time.Time
}

func newReadings(live Live) *readings {
	return &readings{live: live, items: make(map[flashsale.ItemID]reading), swept: time.Now()}
}

// listTTL is how old a list may be.
func (r *readings) listTTL() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(liveTTL, time.Duration(len(r.items))*readCost)
}

// of returns the items in Redis, none of them older than an age unless Redis is away: then what is
// known stands, and what is not is missing.
func (r *readings) of(ctx context.Context, ids []flashsale.ItemID, age time.Duration,
) map[flashsale.ItemID]*engine.Account {
	known, outdated := r.look(ids, age)
	if len(outdated) == 0 {
		return known
	}
	r.loading.Lock()
	defer r.loading.Unlock()
	if known, outdated = r.look(ids, age); len(outdated) == 0 || time.Now().Before(r.rest) {
		return known
	}
	at := time.Now()
	accounts, err := r.live.Items(ctx, outdated)
	if err != nil && len(accounts) == 0 {
		r.rest = time.Now().Add(redisRest)
		return known
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range outdated {
		account, found := accounts[id]
		switch {
		case found:
			known[id] = &account
		case err == nil:
			known[id] = nil
		default:
			continue // not readable: what was known stands
		}
		r.items[id] = reading{known[id], at}
	}
	return known
}

// look returns what is known of the items, and which of it is older than an age.
func (r *readings) look(ids []flashsale.ItemID, age time.Duration,
) (known map[flashsale.ItemID]*engine.Account, outdated []flashsale.ItemID) {
	known = make(map[flashsale.ItemID]*engine.Account, len(ids))
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.swept) > readingsIdle {
		r.swept = now
		for id, reading := range r.items {
			if now.Sub(reading.at) > readingsIdle {
				delete(r.items, id)
			}
		}
	}
	for _, id := range ids {
		reading, ok := r.items[id]
		if ok {
			known[id] = reading.account
		}
		if !ok || now.Sub(reading.at) >= age {
			outdated = append(outdated, id)
		}
	}
	return known, outdated
}
