package baseline

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// conditional takes a unit where one is left, and stores the order under a unique constraint,
// in one transaction.
//
// It is how a database is meant to be used, it is right on any number of nodes and after any
// crash, and for most shops it is enough. The order goes in first, so that the hot row is
// locked last and for as short as can be. But the row stays locked until the commit is on disk:
// an item sells as fast as the disk flushes, one order after the other, and those who are too
// late cost PostgreSQL a transaction each.
type conditional struct{ table }

func openConditional(s Stores) (Strategy, error) {
	c := &conditional{newTable(s)}
	c.orders = "baseline.unique_orders"
	return c, nil
}

// Buy implements [Strategy].
func (c *conditional) Buy(ctx context.Context, user string, number int64) (outcome Outcome, err error) {
	err = c.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO baseline.unique_orders (number, item, "user")
			VALUES ($1, $2, $3) ON CONFLICT (item, "user") DO NOTHING`, number, c.item, user)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			outcome = Duplicate
			return errRefused
		}
		tag, err = tx.Exec(ctx, `UPDATE baseline.stock SET stock = stock - 1
			WHERE item = $1 AND stock > 0`, c.item)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			outcome = SoldOut
			return errRefused
		}
		outcome = Accepted
		return nil
	})
	return outcome, err
}
