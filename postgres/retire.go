package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

const retirableSQL = `
SELECT ` + itemColumns + `
FROM items i JOIN products p ON p.id = i.product_id
WHERE i.id > $1 AND i.retired_at IS NULL AND i.closes_at < now() - make_interval(secs => $3)
    AND NOT EXISTS (SELECT FROM outbox o WHERE o.item_id = i.id)
ORDER BY i.id LIMIT $2`

// Retirable returns a page of the items after an id, ascending, that closed more than
// [flashsale.KeptAfterClose] ago, have not left Redis for good, and are owed nothing.
func (l *Ledger) Retirable(
	ctx context.Context, after flashsale.ItemID, limit int,
) ([]flashsale.Item, error) {
	rows, _ := l.pool.Query(ctx, retirableSQL, int64(after), limit, flashsale.KeptAfterClose.Seconds())
	items, err := pgx.CollectRows(rows, scanItem)
	return items, classify("retirable items", err)
}

// Whoever gives units back locks the item first and then sees that it has retired, or has written
// its outbox row before.
const retireSQL = `
UPDATE items i SET retired_at = now()
WHERE i.id = $1 AND i.generation = $2 AND i.sequence = $3 AND i.retired_at IS NULL
    AND NOT EXISTS (SELECT FROM outbox o WHERE o.item_id = i.id)`

// Retire keeps that an item has left Redis for good, and what its orders are, and reports whether
// it did: not if something is owed to the item, or if it is not any more at the given generation
// and sequence.
func (l *Ledger) Retire(ctx context.Context, id flashsale.ItemID, generation, sequence int64,
	seals map[int64]flashsale.Seal,
) (retired bool, err error) {
	err = l.transact(ctx, "retire item "+id.String(), pgx.TxOptions{}, func(tx pgx.Tx) error {
		// The lock comes first: the statement after it sees what was committed until then.
		if _, err := lockItem(ctx, tx, id); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, retireSQL, int64(id), generation, sequence)
		if retired = tag.RowsAffected() == 1; err != nil || !retired {
			return err
		}
		for generation, seal := range seals {
			if _, err := tx.Exec(ctx, sealSQL, int64(id), generation, seal.Orders, seal.Digest); err != nil {
				return err
			}
		}
		return nil
	})
	return retired, err
}

const unsettledSQL = `
SELECT id FROM items WHERE retired_at IS NOT NULL AND settled_at IS NULL ORDER BY id LIMIT $1`

// Unsettled returns items that have left Redis and whose orders are not settled.
func (l *Ledger) Unsettled(ctx context.Context, limit int) ([]flashsale.ItemID, error) {
	rows, _ := l.pool.Query(ctx, unsettledSQL, limit) // its error comes with the rows
	items, err := pgx.CollectRows(rows, pgx.RowTo[flashsale.ItemID])
	return items, classify("unsettled items", err)
}

// The page is found by the item's index from where the last one ended, so that no page reads
// again what others have settled.
const settleSQL = `
WITH page AS (
    SELECT order_no, generation, sequence FROM orders
    WHERE item_id = $1 AND (generation, sequence) >= ($2, $3) AND NOT settled
    ORDER BY generation, sequence LIMIT $4
), done AS (
    UPDATE orders o SET settled = true FROM page p WHERE o.order_no = p.order_no
)
SELECT generation, sequence FROM page ORDER BY generation DESC, sequence DESC LIMIT 1`

const settledSQL = `UPDATE items SET settled_at = now() WHERE id = $1 AND retired_at IS NOT NULL`

// Settle moves the orders of an item that has left Redis out of the index that guards those of
// items on sale, so that it does not grow with the history. It takes pages of limit orders, and
// calls rest after each. It may be stopped and called again.
func (l *Ledger) Settle(
	ctx context.Context, id flashsale.ItemID, limit int, rest func(context.Context) error,
) error {
	operation := "settle item " + id.String()
	var generation, sequence int64
	for {
		err := l.pool.QueryRow(ctx, settleSQL, int64(id), generation, sequence, limit).Scan(&generation, &sequence)
		if errors.Is(err, pgx.ErrNoRows) {
			break
		}
		if err == nil {
			err = rest(ctx)
		}
		if err != nil {
			return classify(operation, err)
		}
	}
	_, err := l.pool.Exec(ctx, settledSQL, int64(id))
	return classify(operation, err)
}
