package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// GuardedAfterClose is how long after its close an item is still watched over: what is still in
// the stream then, or paid late, needs its account in Redis.
const GuardedAfterClose = flashsale.KeptAfterClose

const guardedSQL = `
SELECT ` + itemColumns + `, i.sequence, i.rolled_back
FROM items i JOIN products p ON p.id = i.product_id
WHERE i.generation > 0 AND (i.closes_at > now() - make_interval(secs => $1)
    OR EXISTS (SELECT 1 FROM outbox o WHERE o.item_id = i.id))
ORDER BY i.id`

// Guarded returns the items that Redis must hold: those that were loaded and are not long
// closed, or to which something is owed.
func (l *Ledger) Guarded(ctx context.Context) ([]flashsale.GuardedItem, error) {
	rows, _ := l.pool.Query(ctx, guardedSQL, GuardedAfterClose.Seconds()) // its error comes with the rows
	guarded, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g flashsale.GuardedItem, err error) {
		return g, row.Scan(append(itemFields(&g.Item), &g.Sequence, &g.RolledBack)...)
	})
	return guarded, classify("guarded items", err)
}

const ordersOfItemSQL = `SELECT ` + orderColumns + ` FROM orders WHERE item_id = $1 ORDER BY order_no`

// The number of the next outbox row is drawn while the item is locked, so no restock of this
// item will ever have a number up to the last one drawn by anybody.
const lastRestockSQL = `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_id_seq`

const owedToItemSQL = `
SELECT id, kind, item_id, coalesce(order_no, 0), coalesce(user_id, ''), quantity
FROM outbox WHERE item_id = $1 ORDER BY id`

const nextGenerationSQL = `
UPDATE items SET generation = generation + 1, sequence = 0, rolled_back = false, retired_at = NULL,
    settled_at = NULL
WHERE id = $1`

const unsettleSQL = `UPDATE orders SET settled = false WHERE item_id = $1 AND settled`

// nextGeneration ends the generation of a locked item. One that had left Redis comes back, and its
// orders are guarded again.
func nextGeneration(ctx context.Context, tx pgx.Tx, id flashsale.ItemID) error {
	var retired bool
	err := tx.QueryRow(ctx, `SELECT retired_at IS NOT NULL FROM items WHERE id = $1`, int64(id)).Scan(&retired)
	if err == nil && retired {
		_, err = tx.Exec(ctx, unsettleSQL, int64(id))
	}
	if err == nil {
		_, err = tx.Exec(ctx, nextGenerationSQL, int64(id))
	}
	return err
}

// Rebuild locks an item, so that no order of it is persisted, cancelled or restocked, keeps the
// relay from carrying anything out, and calls fn with all that Redis ought to hold. If fn
// returns true the next generation is committed and what was owed is struck off, because the
// caller then writes to Redis what fn was given, in that generation. Otherwise nothing changes.
func (l *Ledger) Rebuild(
	ctx context.Context, id flashsale.ItemID, fn func(flashsale.RebuildState) (rebuilt bool, err error),
) error {
	return l.rebuild(ctx, id, fn, nil)
}

// rebuild is Rebuild of an item that first, if given, may change it.
func (l *Ledger) rebuild(ctx context.Context, id flashsale.ItemID,
	fn func(flashsale.RebuildState) (rebuilt bool, err error), first func(pgx.Tx, flashsale.Item) error,
) error {
	return l.transact(ctx, "rebuild item "+id.String(), pgx.TxOptions{}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, relayLock)
		if err != nil {
			return fmt.Errorf("wait for the relay: %w", err)
		}
		item, err := lockItem(ctx, tx, id)
		if err == nil && first != nil {
			err = first(tx, item)
		}
		if err != nil {
			return err
		}
		state, err := rebuildState(ctx, tx, id)
		if err != nil {
			return err
		}
		rebuilt, err := fn(state)
		if err != nil || !rebuilt {
			return err
		}
		owed := make([]int64, len(state.Owed))
		for i, row := range state.Owed {
			owed[i] = row.ID
		}
		if _, err := tx.Exec(ctx, `DELETE FROM outbox WHERE id = ANY ($1)`, owed); err != nil {
			return fmt.Errorf("strike off what was owed: %w", err)
		}
		return nextGeneration(ctx, tx, id)
	})
}

// Rebuildable returns what [Ledger.Rebuild] would, from one snapshot, and locks nothing.
func (l *Ledger) Rebuildable(ctx context.Context, id flashsale.ItemID) (state flashsale.RebuildState, err error) {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = l.transact(ctx, "look at item "+id.String(), snapshot, func(tx pgx.Tx) (err error) {
		state, err = rebuildState(ctx, tx, id)
		return err
	})
	return state, err
}

func rebuildState(ctx context.Context, tx pgx.Tx, id flashsale.ItemID) (state flashsale.RebuildState, err error) {
	if state.Item, err = queryItem(ctx, tx, id); err != nil {
		return state, err
	}
	rows, _ := tx.Query(ctx, ordersOfItemSQL, int64(id)) // its error comes with the rows
	if state.Orders, err = pgx.CollectRows(rows, scanOrder); err != nil {
		return state, fmt.Errorf("orders: %w", err)
	}
	rows, _ = tx.Query(ctx, owedToItemSQL, int64(id))
	if state.Owed, err = pgx.CollectRows(rows, scanOutboxRow); err != nil {
		return state, fmt.Errorf("owed: %w", err)
	}
	if err := tx.QueryRow(ctx, lastRestockSQL).Scan(&state.Restock); err != nil {
		return state, fmt.Errorf("last restock: %w", err)
	}
	return state, nil
}

const dueSalesSQL = `
SELECT DISTINCT sale_id FROM items
WHERE generation = 0 AND opens_at <= $1 AND closes_at > now() ORDER BY sale_id`

// DueSales returns the sales with items that open by the given moment, have not closed, and
// were never loaded into Redis.
func (l *Ledger) DueSales(ctx context.Context, before time.Time) ([]flashsale.SaleID, error) {
	rows, _ := l.pool.Query(ctx, dueSalesSQL, before) // its error comes with the rows
	sales, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (id flashsale.SaleID, err error) {
		err = row.Scan((*int64)(&id))
		return id, err
	})
	return sales, classify("due sales", err)
}
