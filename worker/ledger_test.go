package worker

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"flashsale"
)

// What the fake ledger does for the guardian, the scheduler, the audit watcher and the dead
// letters.

func (l *fakeLedger) Guarded(context.Context) (guarded []flashsale.GuardedItem, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return nil, errAway
	}
	for _, id := range slices.Sorted(maps.Keys(l.items)) {
		if item := l.items[id]; item.Generation > 0 {
			guarded = append(guarded, flashsale.GuardedItem{Item: *item, Sequence: l.sequence(*item)})
		}
	}
	return guarded, nil
}

// sequence needs the lock.
func (l *fakeLedger) sequence(item flashsale.Item) (sequence int64) {
	for _, order := range l.orders {
		if order.ItemID == item.ID && order.Generation == item.Generation {
			sequence = max(sequence, order.Sequence)
		}
	}
	return sequence
}

func (l *fakeLedger) Rebuild(_ context.Context, id flashsale.ItemID, fn func(flashsale.RebuildState) (bool, error)) error {
	l.relay.Lock()
	defer l.relay.Unlock()
	rebuilt, err := l.rebuild(id, fn)
	if err == nil && rebuilt && l.onRebuild != nil {
		err = l.onRebuild(true)
	}
	return err
}

func (l *fakeLedger) ChangeLoaded(context.Context, flashsale.ItemID, flashsale.ItemChange,
	func(flashsale.RebuildState) (bool, error),
) error {
	return flashsale.ErrNotFound
}

func (l *fakeLedger) ChangeUnloaded(context.Context, flashsale.ItemID, flashsale.ItemChange) (bool, error) {
	return false, flashsale.ErrNotFound
}

func (l *fakeLedger) Rebuildable(_ context.Context, id flashsale.ItemID) (flashsale.RebuildState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rebuildable(id)
}

// rebuildable needs the lock.
func (l *fakeLedger) rebuildable(id flashsale.ItemID) (state flashsale.RebuildState, err error) {
	item := l.items[id]
	switch {
	case l.away:
		return state, errAway
	case item == nil:
		return state, flashsale.ErrNotFound
	}
	state = flashsale.RebuildState{Item: *item, Restock: l.rows}
	for _, order := range l.orders {
		if order.ItemID == id {
			state.Orders = append(state.Orders, order)
		}
	}
	for _, row := range l.outbox {
		if row.ItemID == id {
			state.Owed = append(state.Owed, row)
		}
	}
	return state, nil
}

func (l *fakeLedger) rebuild(id flashsale.ItemID, fn func(flashsale.RebuildState) (bool, error)) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state, err := l.rebuildable(id)
	if err != nil {
		return false, err
	}
	rebuilt, err := fn(state)
	if err != nil || !rebuilt {
		return false, err
	}
	if l.onRebuild != nil {
		if err := l.onRebuild(false); err != nil {
			return false, err
		}
	}
	l.items[id].Generation++
	l.outbox = slices.DeleteFunc(l.outbox, func(row flashsale.OutboxRow) bool { return row.ItemID == id })
	return true, nil
}

func (l *fakeLedger) DueSales(_ context.Context, before time.Time) (due []flashsale.SaleID, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return nil, errAway
	}
	for _, item := range l.items {
		if item.Generation == 0 && !item.OpensAt.After(before) && item.ClosesAt.After(time.Now()) &&
			!slices.Contains(due, item.SaleID) {
			due = append(due, item.SaleID)
		}
	}
	return due, nil
}

func (l *fakeLedger) SetPaused(_ context.Context, id flashsale.ItemID, paused bool) (flashsale.Item, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	item := l.items[id]
	if item == nil {
		return flashsale.Item{}, flashsale.ErrNotFound
	}
	item.Paused = paused
	kind := flashsale.Resume
	if paused {
		kind = flashsale.Pause
	}
	l.owe(flashsale.OutboxRow{Kind: kind, ItemID: id})
	return *item, nil
}

func (l *fakeLedger) AuditItems(_ context.Context, after flashsale.ItemID, limit int, all bool) (items []flashsale.Item, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return nil, errAway
	}
	for _, id := range slices.Sorted(maps.Keys(l.items)) {
		if id > after && len(items) < limit && (all || !l.retired[id]) {
			items = append(items, *l.items[id])
		}
	}
	return items, nil
}

// Examine gives the orders in two pages, as one of many might be given.
func (l *fakeLedger) Examine(_ context.Context, id flashsale.ItemID, asked []flashsale.OrderNo,
	visit func(*flashsale.ItemBooks, []flashsale.Order) error,
) (flashsale.ItemBooks, error) {
	books, orders := l.books(id, asked)
	half := len(orders) / 2
	for _, page := range [][]flashsale.Order{nil, orders[:half], orders[half:]} {
		if err := visit(&books, page); err != nil {
			return books, err
		}
	}
	return books, nil
}

func (l *fakeLedger) books(id flashsale.ItemID, asked []flashsale.OrderNo) (books flashsale.ItemBooks, orders []flashsale.Order) {
	l.mu.Lock()
	defer l.mu.Unlock()
	books = flashsale.ItemBooks{
		Item: *l.items[id], Seals: l.seals[id], Discarded: l.discarded[id], Unknown: make(map[flashsale.OrderNo]bool), Holdings: true,
	}
	books.Sequence, books.Retired = l.sequence(books.Item), l.retired[id]
	for _, row := range l.outbox {
		if row.ItemID == id {
			books.Owed = append(books.Owed, row)
		}
	}
	for _, no := range asked {
		if order, ok := l.orders[no]; !ok || order.ItemID != id {
			books.Unknown[no] = true
		}
	}
	for _, order := range l.orders {
		if order.ItemID == id {
			orders = append(orders, order)
		}
	}
	slices.SortFunc(orders, func(a, b flashsale.Order) int {
		return cmp.Or(cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.OrderNo, b.OrderNo))
	})
	return books, orders
}

func (l *fakeLedger) LookUp(_ context.Context, numbers []flashsale.OrderNo) (map[flashsale.OrderNo]flashsale.OwedOrder, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := make(map[flashsale.OrderNo]flashsale.OwedOrder)
	for _, no := range numbers {
		if order, ok := l.orders[no]; ok {
			owed := slices.ContainsFunc(l.outbox, func(row flashsale.OutboxRow) bool { return row.OrderNo == no })
			found[no] = flashsale.OwedOrder{Order: order, Owed: owed}
		}
	}
	return found, nil
}

func (l *fakeLedger) Owed(context.Context) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.outbox)), nil
}

func (l *fakeLedger) Retirable(_ context.Context, after flashsale.ItemID, _ int) (items []flashsale.Item, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(l.items)) {
		item := l.items[id]
		owed := slices.ContainsFunc(l.outbox, func(row flashsale.OutboxRow) bool { return row.ItemID == id })
		if id > after && !l.retired[id] && !owed && time.Since(item.ClosesAt) > flashsale.KeptAfterClose {
			items = append(items, *item)
		}
	}
	return items, nil
}

func (l *fakeLedger) Retire(_ context.Context, id flashsale.ItemID, _, sequence int64, seals map[int64]flashsale.Seal) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sequence(*l.items[id]) != sequence {
		return false, nil
	}
	l.retired[id], l.seals[id] = true, seals
	return true, nil
}

func (l *fakeLedger) Unsettled(context.Context, int) (items []flashsale.ItemID, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.retired {
		if !l.settled[id] {
			items = append(items, id)
		}
	}
	return items, nil
}

func (l *fakeLedger) Settle(ctx context.Context, id flashsale.ItemID, _ int, rest func(context.Context) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled[id] = true
	return rest(ctx)
}

func (l *fakeLedger) Seal(_ context.Context, id flashsale.ItemID, generation int64, seal flashsale.Seal) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seals[id] == nil {
		l.seals[id] = make(map[int64]flashsale.Seal)
	}
	l.seals[id][generation] = seal
	return nil
}

func (l *fakeLedger) Discard(_ context.Context, id flashsale.ItemID, order flashsale.Discarded, _ string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.discarded[id] = append(l.discarded[id], order)
	return nil
}

func (l *fakeLedger) Order(_ context.Context, no flashsale.OrderNo) (flashsale.Order, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if order, ok := l.orders[no]; ok {
		return order, nil
	}
	return flashsale.Order{}, flashsale.ErrNotFound
}

// restock adds units and owes them.
func (l *fakeLedger) restock(id flashsale.ItemID, add int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items[id].Total += int64(add)
	l.items[id].Stock += int64(add)
	l.owe(flashsale.OutboxRow{Kind: flashsale.Restock, ItemID: id, Quantity: add})
}

// cancel ends a live order and owes its units.
func (l *fakeLedger) cancel(no flashsale.OrderNo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	order := l.orders[no]
	order.Status = flashsale.Cancelled
	l.orders[no] = order
	l.items[order.ItemID].Stock += int64(order.Quantity)
	l.owe(flashsale.OutboxRow{
		Kind: flashsale.Release, ItemID: order.ItemID, OrderNo: no, User: order.User, Quantity: order.Quantity,
	})
}

// item returns a copy.
func (l *fakeLedger) item(id flashsale.ItemID) flashsale.Item {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *l.items[id]
}

// setAway makes the ledger refuse, or answer again, whatever the jobs beside the sale ask.
func (l *fakeLedger) setAway(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}
