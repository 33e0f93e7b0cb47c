package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// Unpaid returns, by item, the units in orders that nobody has paid yet, by way of the index of the
// deadlines.
func (l *Ledger) Unpaid(ctx context.Context) (map[flashsale.ItemID]flashsale.UnpaidUnits, error) {
	rows, _ := l.pool.Query(ctx, `
SELECT item_id, sum(quantity)::bigint, min(pay_deadline), max(pay_deadline)
FROM orders WHERE status = 'unpaid' GROUP BY item_id`)
	unpaid := make(map[flashsale.ItemID]flashsale.UnpaidUnits)
	var id int64
	var units flashsale.UnpaidUnits
	_, err := pgx.ForEachRow(rows, []any{&id, &units.Units, &units.First, &units.Last}, func() error {
		unpaid[flashsale.ItemID(id)] = units
		return nil
	})
	return unpaid, classify("unpaid units", err)
}
