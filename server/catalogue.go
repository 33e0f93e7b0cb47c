package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sync/singleflight"

	"flashsale"
	"flashsale/engine"
)

const (
	listingTTL    = time.Second // how late a change of the catalogue shows
	offsetTTL     = 5 * time.Second
	listingMax    = 100_000              // items on sale that a node knows by heart
	listingCost   = 2 * time.Microsecond // what an item of them adds to listingTTL
	lookupsMax    = 4                    // reads at once of what is not known by heart
	strangersMax  = 4096                 // items of that kind that are remembered, known or not
	documentsMax  = 4096                 // answers that are remembered
	titlesMax     = 65_536
	saleItemsMany = 50 // items of a sale in a list of sales
)

// catalogue is what a crowd looks at: sales, items and their state. What it costs the stores does
// not depend on how many look: PostgreSQL is read once a second, Redis once in 200 ms, and each
// answer is encoded and compressed once for all.
type catalogue struct {
	ledger   Ledger
	readings *readings
	onSale   *cached[map[flashsale.ItemID]flashsale.Item]
	offset   *cached[time.Duration] // how far Redis' clock is ahead of ours

	flight  singleflight.Group // reads of strangers, by id
	lookups chan struct{}      // slots for reads of what is not known by heart

	strangers *recent[flashsale.ItemID, stranger]
	titled    *recent[flashsale.ItemID, flashsale.Title]
	items     *recent[flashsale.ItemID, *shared]
	sales     *recent[flashsale.SaleID, *shared]
	pages     *recent[salesPage, *shared]
	front     *recent[salesPage, *shared] // the first pages, which no other page pushes out
}

// shared is an answer that everybody gets.
type shared = cached[*document]

// stranger is an item that is not on sale, or does not exist.
type stranger struct {
	item  flashsale.Item
	found bool
	until time.Time
}

// salesPage names a page of the list of sales.
type salesPage struct {
	state  flashsale.SaleState
	before flashsale.SaleID
	limit  int
}

func newCatalogue(ledger Ledger, live Live) *catalogue {
	c := &catalogue{
		ledger: ledger, readings: newReadings(live),
		lookups:   make(chan struct{}, lookupsMax),
		strangers: newRecent[flashsale.ItemID, stranger](strangersMax),
		titled:    newRecent[flashsale.ItemID, flashsale.Title](titlesMax),
		items:     newRecent[flashsale.ItemID, *shared](documentsMax),
		sales:     newRecent[flashsale.SaleID, *shared](documentsMax),
		pages:     newRecent[salesPage, *shared](documentsMax),
		front:     newRecent[salesPage, *shared](documentsMax),
	}
	c.onSale = newCached(listingTTL, c.loadOnSale)
	c.onSale.slow = func(items map[flashsale.ItemID]flashsale.Item) time.Duration {
		return listingTTL + time.Duration(len(items))*listingCost
	}
	c.offset = newCached(offsetTTL, func(ctx context.Context) (time.Duration, error) {
		asked := time.Now()
		redis, err := live.Now(ctx)
		return redis.Sub(asked.Add(time.Since(asked) / 2)), err
	})
	return c
}

func (c *catalogue) loadOnSale(ctx context.Context) (map[flashsale.ItemID]flashsale.Item, error) {
	items, err := c.ledger.OnSale(ctx, c.now(ctx), listingMax)
	if err != nil {
		return nil, fmt.Errorf("read what is on sale: %w", err)
	}
	byID := make(map[flashsale.ItemID]flashsale.Item, len(items))
	for _, item := range items {
		byID[item.ID] = item
	}
	return byID, nil
}

// now is the time by which the scripts decide, as well as this node knows it: when Redis has
// never answered, the node's own.
func (c *catalogue) now(ctx context.Context) time.Time {
	offset, _ := c.offset.get(ctx)
	return time.Now().Add(offset)
}

// known reports whether an item was on sale when that was last read: only the first call asks.
func (c *catalogue) known(ctx context.Context, id flashsale.ItemID) bool {
	l := c.onSale.current.Load()
	if l == nil {
		_, _ = c.onSale.get(ctx) // its fault is found below
		l = c.onSale.current.Load()
	}
	if l == nil || l.err != nil {
		return false
	}
	_, ok := l.value[id]
	return ok
}

// remembers reports whether an item that is not on sale was found a moment ago.
func (c *catalogue) remembers(id flashsale.ItemID) bool {
	s, _ := c.strangers.get(id)
	return s.found && time.Now().Before(s.until)
}

// item returns [flashsale.ErrNotFound] for an id that nobody holds.
func (c *catalogue) item(ctx context.Context, id flashsale.ItemID) (flashsale.Item, error) {
	onSale, err := c.onSale.get(ctx)
	if err != nil {
		return flashsale.Item{}, err
	}
	if item, ok := onSale[id]; ok {
		return item, nil
	}
	s, ok := c.strangers.get(id)
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
		var s stranger
		err := c.queue(ctx, func(ctx context.Context) (err error) {
			s.item, err = c.ledger.Item(ctx, id)
			return err
		})
		if err != nil && !errors.Is(err, flashsale.ErrNotFound) {
			return nil, fmt.Errorf("read item %d: %w", id, err)
		}
		s.found, s.until = err == nil, time.Now().Add(listingTTL)
		c.strangers.set(id, s)
		return s, nil
	})
	if err != nil {
		return stranger{}, err
	}
	return result.(stranger), nil
}

// queue calls read, a few at a time: what anybody may name must not take all of the ledger.
func (c *catalogue) queue(ctx context.Context, read func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	select {
	case c.lookups <- struct{}{}:
		defer func() { <-c.lookups }()
	case <-ctx.Done():
		return fmt.Errorf("wait to read the catalogue: %w", context.Cause(ctx))
	}
	return read(ctx)
}

// itemDocument is an item by itself. No item: [flashsale.ErrNotFound].
func (c *catalogue) itemDocument(ctx context.Context, id flashsale.ItemID) (*document, error) {
	return c.items.getOr(id, func() *shared {
		return newShared(func(ctx context.Context) ([]byte, error) {
			item, err := c.item(ctx, id)
			if err != nil {
				return nil, err
			}
			now := c.now(ctx)
			left := c.readings.of(ctx, deciding(now, item), liveTTL)
			return appendItem(make([]byte, 0, 512), item, shownAt(now, item, left), true), nil
		})
	}).get(ctx)
}

// saleDocument is a sale with all its items. No sale: [flashsale.ErrNotFound].
func (c *catalogue) saleDocument(ctx context.Context, id flashsale.SaleID) (*document, error) {
	return c.sales.getOr(id, func() *shared {
		sale := newCached(listingTTL, func(ctx context.Context) (sale flashsale.Sale, err error) {
			err = c.queue(ctx, func(ctx context.Context) error {
				sale, err = c.ledger.Sale(ctx, id)
				return err
			})
			return sale, err
		})
		return c.newList(func(ctx context.Context) ([]byte, error) {
			sale, err := sale.get(ctx)
			if err != nil {
				return nil, err
			}
			now := c.now(ctx)
			left := c.readings.of(ctx, deciding(now, sale.Items...), c.readings.listTTL())
			return appendSale(make([]byte, 0, 256+512*len(sale.Items)), sale, now, left, true), nil
		})
	}).get(ctx)
}

// salesDocument is a page of sales, each with its first items.
func (c *catalogue) salesDocument(ctx context.Context, page salesPage) (*document, error) {
	pages := c.pages
	if page.first() {
		pages = c.front
	}
	return pages.getOr(page, func() *shared { return c.newPage(page) }).get(ctx)
}

// first reports whether the page is one of the few that a crowd looks at.
func (p salesPage) first() bool { return p.before == 0 && p.limit == pageDefault }

func (c *catalogue) newPage(page salesPage) *shared {
	sales := newCached(listingTTL, func(ctx context.Context) (sales []flashsale.Sale, err error) {
		read := func(ctx context.Context) error {
			sales, err = c.ledger.Sales(ctx, flashsale.SalesQuery{
				State: page.state, At: c.now(ctx), Before: page.before, Limit: page.limit, Items: saleItemsMany,
			})
			return err
		}
		if page.first() {
			err = read(ctx)
		} else {
			err = c.queue(ctx, read)
		}
		return sales, err
	})
	return c.newList(func(ctx context.Context) ([]byte, error) {
		sales, err := sales.get(ctx)
		if err != nil {
			return nil, err
		}
		now := c.now(ctx)
		var items []flashsale.Item
		for _, sale := range sales {
			items = append(items, sale.Items...)
		}
		left := c.readings.of(ctx, deciding(now, items...), c.readings.listTTL())
		list := append(make([]byte, 0, 256+512*len(items)), `{"sales":[`...)
		for n, sale := range sales {
			if n > 0 {
				list = append(list, ',')
			}
			list = append(appendSale(list, sale, now, left, false), '}')
		}
		list = append(list, ']')
		if len(sales) >= page.limit {
			list = appendID(append(list, `,"next_cursor":`...), sales[len(sales)-1].ID)
		}
		return list, nil
	})
}

// newShared is an answer that is made, and compressed, only when something has changed.
func newShared(encode func(context.Context) ([]byte, error)) *shared {
	var last *document // of the loads, which follow each other
	return newCached(liveTTL, func(ctx context.Context) (*document, error) {
		open, err := encode(ctx)
		if err == nil {
			last = newDocument(open, last)
		}
		return last, err
	})
}

// newList is an answer about many items: the more are looked at, the less often it is made.
func (c *catalogue) newList(encode func(context.Context) ([]byte, error)) *shared {
	list := newShared(encode)
	list.slow = func(*document) time.Duration { return c.readings.listTTL() }
	return list
}

// deciding are the items of which Redis knows more than the ledger: those in their window.
func deciding(now time.Time, items ...flashsale.Item) []flashsale.ItemID {
	var ids []flashsale.ItemID
	for _, item := range items {
		if !now.Before(item.OpensAt) && now.Before(item.ClosesAt) {
			ids = append(ids, item.ID)
		}
	}
	return ids
}

// shown is what a shopper sees of an item.
type shown struct {
	state flashsale.ItemState
	left  int64 // percent
}

// shownAt is the item by what Redis says, or else, before and after the sale and while Redis is
// away or has not loaded it, by what the ledger says.
func shownAt(now time.Time, item flashsale.Item, left map[flashsale.ItemID]*engine.Account) shown {
	stock := item.Stock
	if account := left[item.ID]; account != nil {
		stock = account.Stock
		item.Paused = item.Paused || account.State == engine.StatePaused
	}
	return shown{item.StateAt(now, stock), item.LeftPercent(stock)}
}

// titles returns what is known of the items; what cannot be read now is missing.
func (c *catalogue) titles(ctx context.Context, ids []flashsale.ItemID) map[flashsale.ItemID]flashsale.Title {
	known := make(map[flashsale.ItemID]flashsale.Title, len(ids))
	var missing []flashsale.ItemID
	for _, id := range ids {
		if title, ok := c.titled.get(id); ok {
			known[id] = title
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return known
	}
	read, err := c.ledger.Titles(ctx, missing)
	if err != nil {
		return known
	}
	for id, title := range read {
		c.titled.set(id, title)
	}
	maps.Copy(known, read)
	return known
}

// changed makes what an operator did here visible at once.
func (c *catalogue) changed() {
	c.onSale.forget()
	c.strangers.forget()
	c.items.forget()
	c.sales.forget()
	c.pages.forget()
	c.front.forget()
}
