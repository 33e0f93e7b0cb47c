package postgres

import (
	"context"
	"math"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// OrdersMax is how many orders one page of [Ledger.Orders] holds at most.
const OrdersMax = 1_000

// orderColumns is what scanOrder reads.
const orderColumns = `order_no, item_id, user_id, quantity, coalesce(idempotency_key, ''), generation,
    sequence, status, coalesce(reason, ''), amount_fen, amount_points, reserved_at, created_at,
    updated_at, pay_deadline`

const orderSQL = `SELECT ` + orderColumns + ` FROM orders WHERE order_no = $1`

// Each half reads an index of its own: that of lately, and that of long ago.
const ordersSQL = `
(SELECT ` + orderColumns + ` FROM orders WHERE user_id = $1 AND order_no < $2 AND NOT settled
ORDER BY order_no DESC LIMIT $3)
UNION ALL
(SELECT ` + orderColumns + ` FROM orders WHERE user_id = $1 AND order_no < $2 AND settled
ORDER BY order_no DESC LIMIT $3)
ORDER BY order_no DESC LIMIT $3`

// Order returns an order, or [flashsale.ErrNotFound]: pending orders are not here yet.
func (l *Ledger) Order(ctx context.Context, number flashsale.OrderNo) (flashsale.Order, error) {
	rows, _ := l.pool.Query(ctx, orderSQL, int64(number)) // its error comes with the rows
	order, err := pgx.CollectExactlyOneRow(rows, scanOrder)
	return order, classify("order "+number.String(), err)
}

// Orders returns a page of a user's orders, newest first: those below the order_no before,
// the newest for 0, at most limit (up to OrdersMax) of them.
func (l *Ledger) Orders(
	ctx context.Context, user string, before flashsale.OrderNo, limit int,
) ([]flashsale.Order, error) {
	if before <= 0 {
		before = math.MaxInt64
	}
	rows, _ := l.pool.Query(ctx, ordersSQL, user, int64(before), min(max(limit, 1), OrdersMax))
	orders, err := pgx.CollectRows(rows, scanOrder)
	return orders, classify("orders of "+user, err)
}

func scanOrder(row pgx.CollectableRow) (o flashsale.Order, err error) {
	err = row.Scan(orderFields(&o)...)
	return o, err
}

// orderFields are the fields for orderColumns.
func orderFields(o *flashsale.Order) []any {
	return []any{
		(*int64)(&o.OrderNo), (*int64)(&o.ItemID), &o.User, &o.Quantity,
		&o.IdempotencyKey, &o.Generation, &o.Sequence, &o.Status, &o.Reason, &o.AmountFen,
		&o.AmountPoints, &o.ReservedAt, &o.CreatedAt, &o.UpdatedAt, &o.PayDeadline,
	}
}
