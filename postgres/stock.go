package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// Restock adds units to an item and owes them to Redis, and returns the item. Without
// an attempt it is not idempotent: after an error that is not permanent the caller looks at the
// item's total.
// [flashsale.ErrConflict] when the total would exceed flashsale.StockMax.
func (l *Ledger) Restock(
	ctx context.Context, id flashsale.ItemID, add int64,
) (flashsale.Item, error) {
	operation := "restock item " + id.String()
	if add < 1 || add > flashsale.StockMax {
		return flashsale.Item{}, fmt.Errorf("%s: %w: add must be from 1 to %d, is %d",
			operation, flashsale.ErrConflict, flashsale.StockMax, add)
	}
	return l.change(ctx, operation, id, flashsale.Restock, add,
		func(tx pgx.Tx, item *flashsale.Item) error {
			if item.Total+add > flashsale.StockMax {
				return fmt.Errorf("%w: a total of %d and %d more would exceed %d",
					flashsale.ErrConflict, item.Total, add, flashsale.StockMax)
			}
			item.Total, item.Stock = item.Total+add, item.Stock+add
			_, err := tx.Exec(ctx, `UPDATE items SET total = total + $2, stock = stock + $2 WHERE id = $1`,
				int64(id), add)
			return err
		})
}

// SetPaused pauses or resumes an item and owes it to Redis, also when the item has that state
// already: an operator who asks again may have reason to. It returns the item. An item of a sale that
// was cancelled is not resumed: [flashsale.ErrConflict].
func (l *Ledger) SetPaused(
	ctx context.Context, id flashsale.ItemID, paused bool,
) (flashsale.Item, error) {
	kind := flashsale.Resume
	if paused {
		kind = flashsale.Pause
	}
	return l.change(ctx, string(kind)+" item "+id.String(), id, kind, 0,
		func(tx pgx.Tx, item *flashsale.Item) error {
			if !paused {
				if err := notOfCancelledSale(ctx, tx, item.SaleID); err != nil {
					return err
				}
			}
			item.Paused = paused
			_, err := tx.Exec(ctx, `UPDATE items SET paused = $2 WHERE id = $1`, int64(id), paused)
			return err
		})
}

// An item that has left Redis is owed nothing.
const oweChangeSQL = `
INSERT INTO outbox (kind, item_id, quantity)
SELECT $1, id, $3 FROM items WHERE id = $2 AND retired_at IS NULL`

// change runs fn on a locked item and writes the outbox row that it owes. The row's id is drawn
// while the item is locked, so the rows of an item are in the order of its changes.
func (l *Ledger) change(
	ctx context.Context, operation string, id flashsale.ItemID, kind flashsale.OutboxKind,
	quantity int64, fn func(pgx.Tx, *flashsale.Item) error,
) (item flashsale.Item, err error) {
	err = transactOnce(ctx, l, operation, &item, func(tx pgx.Tx) error {
		locked, err := lockItem(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := fn(tx, &locked); err != nil {
			return err
		}
		item = locked
		_, err = tx.Exec(ctx, oweChangeSQL, string(kind), int64(id), quantity)
		return err
	})
	if err != nil {
		return flashsale.Item{}, err
	}
	return item, nil
}
