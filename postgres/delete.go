package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// DeleteSale deletes a sale that nobody has bought from and returns it as it was. It calls remove
// for each item, which takes it out of Redis; meanwhile the items are locked, so that nobody loads
// or rebuilds one. An order in the ledger, also one that is over, is [flashsale.ErrConflict], and
// so is what remove returns when Redis holds one: then items before it are gone from Redis until
// they are loaded again.
func (l *Ledger) DeleteSale(
	ctx context.Context, id flashsale.SaleID, remove func(context.Context, flashsale.ItemID) error,
) (deleted flashsale.Sale, err error) {
	err = transactOnce(ctx, l, "delete sale "+id.String(), &deleted, func(tx pgx.Tx) error {
		const lockSQL = `SELECT id FROM items WHERE sale_id = $1 ORDER BY id FOR UPDATE`
		if _, err := tx.Exec(ctx, lockSQL, int64(id)); err != nil {
			return err
		}
		sales, err := querySales(ctx, tx, oneSaleSQL, flashsale.SaleItemsMax, int64(id))
		if err != nil {
			return err
		}
		if len(sales) == 0 {
			return pgx.ErrNoRows
		}
		deleted = sales[0]
		items := make([]flashsale.ItemID, len(deleted.Items))
		for n, item := range deleted.Items {
			items[n] = item.ID
		}
		const boughtSQL = `SELECT EXISTS (SELECT FROM orders WHERE item_id = ANY($1))`
		var bought bool
		if err := tx.QueryRow(ctx, boughtSQL, int64s(items)).Scan(&bought); err != nil {
			return err
		}
		if bought {
			return fmt.Errorf("it has orders: %w", flashsale.ErrConflict)
		}
		for _, item := range items {
			if err := remove(ctx, item); err != nil {
				return err
			}
		}
		for _, sql := range []string{
			`DELETE FROM outbox WHERE item_id = ANY($1)`, // pauses and restocks of what is gone
			`DELETE FROM items WHERE id = ANY($1)`,
		} {
			if _, err := tx.Exec(ctx, sql, int64s(items)); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `DELETE FROM sales WHERE id = $1`, int64(id))
		return err
	})
	return deleted, err
}
