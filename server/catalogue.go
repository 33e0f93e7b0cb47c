package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"flashsale"
	"flashsale/engine"
)

const (
	listingTTL   = time.Second            // how late a change of the catalogue shows
	liveTTL      = 200 * time.Millisecond // how late stock shows
	offsetTTL    = 5 * time.Second
	strangersMax = 4096 // ids outside the listing that are remembered, known or not
	lookupsMax   = 4    // reads of such ids at once
)

// catalogue is what a crowd looks at: sales, items and their state. It costs PostgreSQL one
// read a second and Redis one read of each item in 200 ms, however many look.
type catalogue struct {
	ledger  Ledger
	live    Live
	listing *cached[*listing]
	offset  *cached[time.Duration] // how far Redis' clock is ahead of ours

	flight  singleflight.Group // reads of strangers, by id
	lookups chan struct{}      // slots for them

	mu        sync.Mutex // guards what follows
	strangers map[flashsale.ItemID]stranger
	accounts  map[flashsale.ItemID]*cached[*engine.Account]
}

// listing is the sales of the ledger, newest first, and their items by id.
type listing struct {
	sales []flashsale.Sale
	items map[flashsale.ItemID]flashsale.Item
}

// stranger is an item that the listing, which is bounded, does not hold.
type stranger struct {
	item  flashsale.Item
	found bool
	until time.Time
}

func newCatalogue(ledger Ledger, live Live) *catalogue {
	c := &catalogue{
		ledger: ledger, live: live,
		lookups:   make(chan struct{}, lookupsMax),
		strangers: make(map[flashsale.ItemID]stranger),
		accounts:  make(map[flashsale.ItemID]*cached[*engine.Account]),
	}
	c.listing = newCached(listingTTL, c.loadListing)
	c.offset = newCached(offsetTTL, c.loadOffset)
	return c
}

func (c *catalogue) loadListing(ctx context.Context) (*listing, error) {
	sales, err := c.ledger.Sales(ctx)
	if err != nil {
		return nil, fmt.Errorf("read sales: %w", err)
	}
	l := &listing{sales: sales, items: make(map[flashsale.ItemID]flashsale.Item)}
	for _, sale := range sales {
		for _, item := range sale.Items {
			l.items[item.ID] = item
		}
	}
	return l, nil
}

func (c *catalogue) loadOffset(ctx context.Context) (time.Duration, error) {
	asked := time.Now()
	redis, err := c.live.Now(ctx)
	if err != nil {
		return 0, err
	}
	return redis.Sub(asked.Add(time.Since(asked) / 2)), nil
}

// now is the time by which the scripts decide, as well as this node knows it: when Redis has
// never answered, the node's own.
func (c *catalogue) now(ctx context.Context) time.Time {
	offset, _ := c.offset.get(ctx)
	return time.Now().Add(offset)
}

// known reports whether the listing held an item when it was last read: only the first call asks.
func (c *catalogue) known(ctx context.Context, id flashsale.ItemID) bool {
	l := c.listing.current.Load()
	if l == nil {
		_, _ = c.listing.get(ctx) // its fault is found below
		l = c.listing.current.Load()
	}
	if l == nil || l.err != nil {
		return false
	}
	_, ok := l.value.items[id]
	return ok
}

// remembers reports whether an item that the listing does not hold was found a moment ago.
func (c *catalogue) remembers(id flashsale.ItemID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.strangers[id]
	return s.found && time.Now().Before(s.until)
}

// item returns [flashsale.ErrNotFound] for an id that nobody holds.
func (c *catalogue) item(ctx context.Context, id flashsale.ItemID) (flashsale.Item, error) {
	l, err := c.listing.get(ctx)
	if err != nil {
		return flashsale.Item{}, err
	}
	if item, ok := l.items[id]; ok {
		return item, nil
	}
	c.mu.Lock()
	s, ok := c.strangers[id]
	c.mu.Unlock()
	if !ok || time.Now().After(s.until) {
		if s, err = c.lookUp(ctx, id); err != nil {
			return flashsale.Item{}, err
		}
	}
	if !s.found {
		return flashsale.Item{}, fmt.Errorf("item %d: %w", id, flashsale.ErrNotFound)
	}
	return s.item, nil
}

func (c *catalogue) lookUp(ctx context.Context, id flashsale.ItemID) (stranger, error) {
	result, err, _ := c.flight.Do(id.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		select {
		case c.lookups <- struct{}{}:
			defer func() { <-c.lookups }()
		case <-ctx.Done():
			return nil, fmt.Errorf("wait to read item %d: %w", id, context.Cause(ctx))
		}
		item, err := c.ledger.Item(ctx, id)
		if err != nil && !errors.Is(err, flashsale.ErrNotFound) {
			return nil, fmt.Errorf("read item %d: %w", id, err)
		}
		s := stranger{item: item, found: err == nil, until: time.Now().Add(listingTTL)}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.strangers) >= strangersMax {
			clear(c.strangers) // made-up ids: remember the latest
		}
		c.strangers[id] = s
		return s, nil
	})
	if err != nil {
		return stranger{}, err
	}
	return result.(stranger), nil
}

// state is what a shopper sees of an item now. Redis is asked only while its answer matters.
func (c *catalogue) state(ctx context.Context, item flashsale.Item, now time.Time) flashsale.ItemState {
	if now.Before(item.OpensAt) || !now.Before(item.ClosesAt) {
		return item.StateAt(now, item.Stock)
	}
	account, err := c.account(item.ID).get(ctx)
	if err != nil || account == nil { // Redis is away, or has not loaded it: what the ledger says
		return item.StateAt(now, item.Stock)
	}
	item.Paused = item.Paused || account.State == engine.StatePaused
	return item.StateAt(now, account.Stock)
}

// account is an item of the catalogue in Redis, nil when it is not loaded.
func (c *catalogue) account(id flashsale.ItemID) *cached[*engine.Account] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.accounts[id]; found != nil {
		return found
	}
	if len(c.accounts) >= strangersMax {
		clear(c.accounts)
	}
	created := newCached(liveTTL, func(ctx context.Context) (*engine.Account, error) {
		account, err := c.live.Item(ctx, id)
		if errors.Is(err, flashsale.ErrNotFound) {
			return nil, nil
		}
		return &account, err
	})
	c.accounts[id] = created
	return created
}

// changed makes what an operator did here visible at once.
func (c *catalogue) changed() {
	c.listing.forget()
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.strangers)
}
