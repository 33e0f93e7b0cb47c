package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// exportPage is how many orders an export holds in memory.
const exportPage = 1_000

// ExportOrders calls fn with the orders of a sale, page by page: of each item in the order of their
// decision. No connection is held while fn runs. An order that changes meanwhile is shown as it was
// when its page was read. [flashsale.ErrNotFound] when there is no such sale.
func (l *Ledger) ExportOrders(ctx context.Context, id flashsale.SaleID, fn func([]flashsale.Order) error) error {
	operation := "export orders of sale " + id.String()
	rows, _ := l.pool.Query(ctx, `SELECT id FROM items WHERE sale_id = $1 ORDER BY id`, int64(id))
	items, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err == nil && len(items) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return classify(operation, err)
	}
	for _, item := range items {
		var last flashsale.Order
		for {
			rows, _ := l.pool.Query(ctx, ordersFromSQL, item, last.Generation, last.Sequence, int64(last.OrderNo), exportPage)
			orders, err := pgx.CollectRows(rows, scanOrder)
			if err != nil {
				return classify(operation, err)
			}
			if err := fn(orders); err != nil {
				return fmt.Errorf("%s: %w", operation, err)
			}
			if len(orders) < exportPage {
				break
			}
			last = orders[len(orders)-1]
		}
	}
	return nil
}
