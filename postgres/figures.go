package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// Units are added up from the orders, not read from stock or holdings: the audit must not
// believe the columns that it checks.
const figuresSQL = `
WITH held AS (
    SELECT item_id, user_id, sum(quantity) AS units FROM orders
    WHERE status IN ('unpaid', 'paid', 'refunding')
    GROUP BY item_id, user_id
), live AS (
    SELECT h.item_id, sum(h.units)::bigint AS units,
        count(*) FILTER (WHERE h.units > i."limit") AS over_limit
    FROM held h JOIN items i ON i.id = h.item_id
    GROUP BY h.item_id
), owed AS (
    SELECT item_id, sum(quantity) AS units FROM outbox WHERE kind IN ('release', 'restock')
    GROUP BY item_id
)
SELECT ` + itemColumns + `, i.sequence, coalesce(l.units, 0), coalesce(l.over_limit, 0),
    coalesce(o.units, 0)
FROM items i
JOIN products p ON p.id = i.product_id
LEFT JOIN live l ON l.item_id = i.id
LEFT JOIN owed o ON o.item_id = i.id
ORDER BY i.id`

const outboxLenSQL = `
SELECT count(*) FROM outbox o JOIN items i ON i.id = o.item_id WHERE i.generation > 0`

// Figures returns what the audit adds up, all of one snapshot. The length of the outbox leaves
// out what waits for an item's first load into Redis: a sale may be restocked before it is
// preheated.
func (l *Ledger) Figures(ctx context.Context) (figures flashsale.Figures, err error) {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = l.transact(ctx, "figures", snapshot, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, figuresSQL) // its error comes with the rows
		items, err := pgx.CollectRows(rows, scanFigures)
		if err != nil {
			return err
		}
		figures.Items = items
		return tx.QueryRow(ctx, outboxLenSQL).Scan(&figures.Outbox)
	})
	return figures, err
}

func scanFigures(row pgx.CollectableRow) (f flashsale.ItemFigures, err error) {
	err = row.Scan(append(itemFields(&f.Item),
		&f.Sequence, &f.LiveUnits, &f.UsersOverLimit, &f.OwedUnits)...)
	return f, err
}
