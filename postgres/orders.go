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

const ordersSQL = `
SELECT ` + orderColumns + ` FROM orders WHERE user_id = $1 AND order_no < $2
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

// Known returns the state of each of the orders that the ledger holds. What is missing in it
// is not persisted: the audit counts such entries of the stream as pending.
func (l *Ledger) Known(
	ctx context.Context, numbers []flashsale.OrderNo,
) (map[flashsale.OrderNo]flashsale.Status, error) {
	var (
		known  = make(map[flashsale.OrderNo]flashsale.Status, len(numbers))
		number int64
		status flashsale.Status
	)
	rows, _ := l.pool.Query(ctx,
		`SELECT order_no, status FROM orders WHERE order_no = ANY ($1)`, int64s(numbers))
	_, err := pgx.ForEachRow(rows, []any{&number, &status}, func() error {
		known[flashsale.OrderNo(number)] = status
		return nil
	})
	return known, classify("look up orders", err)
}

func scanOrder(row pgx.CollectableRow) (o flashsale.Order, err error) {
	err = row.Scan((*int64)(&o.OrderNo), (*int64)(&o.ItemID), &o.User, &o.Quantity,
		&o.IdempotencyKey, &o.Generation, &o.Sequence, &o.Status, &o.Reason, &o.AmountFen,
		&o.AmountPoints, &o.ReservedAt, &o.CreatedAt, &o.UpdatedAt, &o.PayDeadline)
	return o, err
}
