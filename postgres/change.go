package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// openingMargin keeps a change of the price away from the opening, where only Redis' clock counts.
const openingMargin = "1 second"

const changeItemSQL = `
UPDATE items SET opens_at = $2, closes_at = $3, price_fen = $4, points_price = $5, "limit" = $6, total = $7, stock = $8
WHERE id = $1`

// A sale lasts as long as its items.
const stretchSaleSQL = `
UPDATE sales s SET opens_at = w.opens_at, closes_at = w.closes_at
FROM (SELECT min(opens_at) AS opens_at, max(closes_at) AS closes_at FROM items WHERE sale_id = $1) w
WHERE s.id = $1`

// Units that users hold are counted anew where the limit changes: one each is what the unique index
// guards, more is what holdings do.
var changeLimitSQL = []string{
	`DELETE FROM holdings WHERE item_id = $1 AND $2::integer > 0`,
	`UPDATE orders SET single = $2 = 1 WHERE item_id = $1 AND single <> ($2 = 1)`,
	`INSERT INTO holdings (item_id, user_id, units, "limit")
SELECT item_id, user_id, sum(quantity), $2 FROM orders
WHERE item_id = $1 AND $2 > 1 AND status IN ('unpaid', 'paid', 'refunding') GROUP BY item_id, user_id`,
}

const mostHeldSQL = `
SELECT coalesce(max(units), 0) FROM (SELECT sum(quantity) AS units FROM orders
    WHERE item_id = $1 AND status IN ('unpaid', 'paid', 'refunding') GROUP BY user_id) h`

// errInRedis ends a change that Redis has to know of.
var errInRedis = errors.New("redis holds the item")

// ChangeUnloaded changes an item of which Redis need not know, and reports whether it is such a one.
// Otherwise nothing was changed, and [Ledger.ChangeLoaded] does it. [flashsale.ErrConflict] says why
// the item cannot be changed so, and is of no value for an item that is selling: what is on its way
// does not count yet.
func (l *Ledger) ChangeUnloaded(ctx context.Context, id flashsale.ItemID, change flashsale.ItemChange) (done bool, err error) {
	err = l.transact(ctx, "change item "+id.String(), pgx.TxOptions{}, func(tx pgx.Tx) error {
		item, err := lockItem(ctx, tx, id)
		if err != nil {
			return err
		}
		if item, err = changeItem(ctx, tx, item, change); err != nil {
			return err
		}
		if change.InRedis() && item.Generation > 0 {
			return errInRedis
		}
		return nil
	})
	if errors.Is(err, errInRedis) {
		return false, nil
	}
	return err == nil, err
}

// ChangeLoaded is [Ledger.Rebuild] of an item that is changed in the same transaction, so that Redis
// is written as the ledger then is.
func (l *Ledger) ChangeLoaded(ctx context.Context, id flashsale.ItemID, change flashsale.ItemChange,
	fn func(flashsale.RebuildState) (rebuilt bool, err error),
) error {
	return l.rebuild(ctx, id, fn, func(tx pgx.Tx, item flashsale.Item) error {
		_, err := changeItem(ctx, tx, item, change)
		return err
	})
}

// changeItem changes a locked item.
func changeItem(ctx context.Context, tx pgx.Tx, item flashsale.Item, change flashsale.ItemChange) (flashsale.Item, error) {
	refused := func(format string, args ...any) (flashsale.Item, error) {
		return item, fmt.Errorf("%w: "+format, append([]any{flashsale.ErrConflict}, args...)...)
	}
	var (
		now             time.Time
		open, retired   bool
		changed         = change.Apply(item)
		limitChanges    = changed.Limit != item.Limit
		held, mostUnits = item.Total - item.Stock, 0
	)
	err := tx.QueryRow(ctx, `SELECT now(), opens_at < now() + interval '`+openingMargin+`', retired_at IS NOT NULL FROM items WHERE id = $1`,
		int64(item.ID)).Scan(&now, &open, &retired)
	if err == nil {
		err = notOfCancelledSale(ctx, tx, item.SaleID)
	}
	if err == nil && limitChanges {
		err = tx.QueryRow(ctx, mostHeldSQL, int64(item.ID)).Scan(&mostUnits)
	}
	switch {
	case err != nil:
		return item, err
	case retired:
		return refused("it is over for good: its account has left Redis")
	case open && change.BeforeOpening():
		return refused("it has opened at %s: its opening and its prices stay", item.OpensAt.Format(time.RFC3339))
	}
	if err := changed.ValidateChange(now); err != nil {
		return item, fmt.Errorf("%w: %w", flashsale.ErrUnacceptable, err)
	}
	switch {
	case changed.Stock < 0:
		return refused("%d units are held: stock must be at least that", held)
	case limitChanges && mostUnits > changed.Limit:
		return refused("somebody holds %d units: limit must be at least that", mostUnits)
	}
	_, err = tx.Exec(ctx, changeItemSQL, int64(item.ID), changed.OpensAt, changed.ClosesAt, changed.PriceFen,
		changed.PointsPrice, changed.Limit, changed.Total, changed.Stock)
	if err != nil {
		return item, err
	}
	if limitChanges {
		for _, sql := range changeLimitSQL {
			if _, err := tx.Exec(ctx, sql, int64(item.ID), changed.Limit); err != nil {
				return item, err
			}
		}
	}
	_, err = tx.Exec(ctx, stretchSaleSQL, int64(item.SaleID))
	return changed, err
}
