package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// outboxFinish bounds how long the rows that are done may take to be deleted after the caller
// has given up: it is cheaper than carrying them out again.
const outboxFinish = 5 * time.Second

const outboxSQL = `
SELECT id, kind, item_id, coalesce(order_no, 0), coalesce(user_id, ''), quantity
FROM outbox WHERE item_id <> ALL ($1) ORDER BY id LIMIT $2`

// Outbox hands the oldest owed effects, at most limit of them in the order of their ids, to
// fn, deletes those whose ids fn returns, also when it returns an error with them, and says
// how many that were. One relay works at a time: where another one does, fn is not called.
//
// An effect can be handed out again after it was carried out (a crash or a lost commit in
// between), so fn's effects must be idempotent. Of one item fn must stop at the first row that
// it cannot carry out: a later restock would make Redis take an earlier one for done. Items
// with such a row are left out of the next calls until the rest of the outbox is drained, so
// that an item that is being rebuilt holds nobody up.
func (l *Ledger) Outbox(
	ctx context.Context, limit int, fn func([]flashsale.OutboxRow) (done []int64, err error),
) (handled int, err error) {
	const operation = "relay outbox"
	tx, err := l.pool.Begin(ctx)
	if err != nil {
		return 0, classify(operation, err)
	}
	// After the commit this does nothing; before it, also on a panic in fn, it frees the lock.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()

	var alone bool
	err = tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, relayLock).Scan(&alone)
	if err != nil || !alone {
		return 0, classify(operation, err)
	}
	limit = max(limit, 1)
	rows, _ := tx.Query(ctx, outboxSQL, l.blocked.list(), limit) // its error comes with the rows
	owed, err := pgx.CollectRows(rows, scanOutboxRow)
	if err != nil {
		return 0, classify(operation, err)
	}
	if len(owed) == 0 {
		l.blocked.update(owed, nil, limit)
		return 0, nil
	}

	done, failed := fn(owed)
	l.blocked.update(owed, done, limit)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outboxFinish)
	defer cancel()
	if len(done) > 0 {
		var deleted int64
		tag, err := tx.Exec(ctx, `DELETE FROM outbox WHERE id = ANY ($1)`, done)
		if err == nil {
			deleted, err = tag.RowsAffected(), tx.Commit(ctx)
		}
		if err != nil {
			return 0, errors.Join(failed, classify(operation, err))
		}
		handled = int(deleted)
	}
	if failed != nil {
		return handled, fmt.Errorf("%s: %w", operation, failed)
	}
	return handled, nil
}

const itemOutboxSQL = `
SELECT id, kind, item_id, coalesce(order_no, 0), coalesce(user_id, ''), quantity
FROM outbox WHERE item_id = $1 ORDER BY id LIMIT $2`

// itemOutboxMax is how many rows ItemOutbox hands out.
const itemOutboxMax = 1000

// ItemOutbox is [Ledger.Outbox] for one item: for whoever has just changed it and will not answer
// before the change stands in Redis. It waits while a relay is at work.
func (l *Ledger) ItemOutbox(ctx context.Context, id flashsale.ItemID,
	fn func([]flashsale.OutboxRow) (done []int64, err error),
) error {
	var failed error
	err := l.transact(ctx, "outbox of item "+id.String(), pgx.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, relayLock); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, itemOutboxSQL, int64(id), itemOutboxMax) // its error comes with the rows
		owed, err := pgx.CollectRows(rows, scanOutboxRow)
		if err != nil || len(owed) == 0 {
			return err
		}
		var done []int64
		done, failed = fn(owed)
		if len(done) == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, `DELETE FROM outbox WHERE id = ANY ($1)`, done)
		return err
	})
	return errors.Join(err, failed)
}

// Released strikes off that an order's units are owed. Call it when they have been given back: the
// relay would give them back again, to no effect.
func (l *Ledger) Released(ctx context.Context, order flashsale.Order) error {
	_, err := l.pool.Exec(ctx, `DELETE FROM outbox
		WHERE kind = 'release' AND order_no = $1 AND item_id = $2 AND user_id = $3`,
		int64(order.OrderNo), int64(order.ItemID), order.User)
	return classify("strike off the release of order "+order.OrderNo.String(), err)
}

func scanOutboxRow(row pgx.CollectableRow) (o flashsale.OutboxRow, err error) {
	err = row.Scan(&o.ID, &o.Kind, (*int64)(&o.ItemID), (*int64)(&o.OrderNo), &o.User, &o.Quantity)
	return o, err
}

// blockedItems are the items whose oldest row could not be carried out. Without them a full
// page of an item that is not ready would hide everything behind it.
type blockedItems struct {
	mu    sync.Mutex
	items map[flashsale.ItemID]bool
}

func (b *blockedItems) list() []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := make([]int64, 0, len(b.items)) // not nil: NULL would leave every row out
	for item := range b.items {
		items = append(items, int64(item))
	}
	return items
}

// update notes which of the owed rows were not done, or forgets everything once a page came
// back short: the others are drained, and it is the turn of the blocked ones.
func (b *blockedItems) update(owed []flashsale.OutboxRow, done []int64, limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(owed) < limit || b.items == nil {
		b.items = make(map[flashsale.ItemID]bool)
	}
	if len(owed) < limit {
		return
	}
	isDone := make(map[int64]bool, len(done))
	for _, id := range done {
		isDone[id] = true
	}
	for _, row := range owed {
		if !isDone[row.ID] {
			b.items[row.ItemID] = true
		}
	}
}
