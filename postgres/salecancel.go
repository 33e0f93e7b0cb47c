package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// notCancelled is the condition on orders of a sale that was not cancelled as a whole.
const notCancelled = ` NOT EXISTS (SELECT FROM items i JOIN sale_cancellations c ON c.sale_id = i.sale_id
    WHERE i.id = orders.item_id)`

// The shortest time to pay lets orders that are on their way to the ledger time out by themselves.
const pauseSaleSQL = `
WITH paused AS (
    UPDATE items SET paused = true, pay_timeout = interval '1 second' WHERE sale_id = $1 RETURNING id
)
INSERT INTO outbox (kind, item_id, quantity) SELECT 'pause', id, 0 FROM paused ORDER BY id`

// CancelSale begins to cancel a whole sale and reports whether it was this call that did. Its items
// are paused, for good, and that is owed to Redis; from then on nobody can begin to pay. The
// orders follow by CancelSaleOrders. [flashsale.ErrNotFound] when there is no such sale.
func (l *Ledger) CancelSale(ctx context.Context, id flashsale.SaleID, reason string) (started bool, err error) {
	err = l.transact(ctx, "cancel sale "+id.String(), pgx.TxOptions{}, func(tx pgx.Tx) error {
		const lockSQL = `SELECT id FROM items WHERE sale_id = $1 ORDER BY id FOR NO KEY UPDATE`
		tag, err := tx.Exec(ctx, lockSQL, int64(id))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return pgx.ErrNoRows
		}
		tag, err = tx.Exec(ctx, `
INSERT INTO sale_cancellations (sale_id, reason) VALUES ($1, $2) ON CONFLICT (sale_id) DO NOTHING`, int64(id), reason)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		started = true
		_, err = tx.Exec(ctx, pauseSaleSQL, int64(id))
		return err
	})
	return started, err
}

const saleCancellationSQL = `
SELECT c.sale_id, c.reason, c.created_at, c.walked_at IS NOT NULL,
    count(*) FILTER (WHERE o.status = 'unpaid'), count(*) FILTER (WHERE o.status = 'paid'),
    count(*) FILTER (WHERE o.status = 'refunding'),
    count(*) FILTER (WHERE o.status = 'refunding' AND EXISTS (
        SELECT FROM refunds r WHERE r.order_no = o.order_no AND NOT r.surplus AND r.state = 'refused')),
    count(*) FILTER (WHERE o.status = 'refunded'), count(*) FILTER (WHERE o.status = 'cancelled')
FROM sale_cancellations c
JOIN items i ON i.sale_id = c.sale_id
LEFT JOIN orders o ON o.item_id = i.id
WHERE c.sale_id = $1
GROUP BY c.sale_id`

// SaleCancellation says how far the cancellation of a sale has come, or [flashsale.ErrNotFound]
// where none was begun. It reads all orders of the sale.
func (l *Ledger) SaleCancellation(ctx context.Context, id flashsale.SaleID) (c flashsale.SaleCancellation, err error) {
	err = l.pool.QueryRow(ctx, saleCancellationSQL, int64(id)).Scan((*int64)(&c.SaleID), &c.Reason, &c.StartedAt, &c.Walked,
		&c.Unpaid, &c.Paid, &c.Refunding, &c.Refused, &c.Refunded, &c.Cancelled)
	return c, classify("cancellation of sale "+id.String(), err)
}

// notOfCancelledSale refuses what a cancelled sale does not allow.
func notOfCancelledSale(ctx context.Context, tx pgx.Tx, id flashsale.SaleID) error {
	var cancelled bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM sale_cancellations WHERE sale_id = $1)`, int64(id)).Scan(&cancelled)
	if err == nil && cancelled {
		err = fmt.Errorf("%w: its sale was cancelled", flashsale.ErrConflict)
	}
	return err
}

// place is where the walk through a cancelled sale stands.
type place struct {
	sale, item, generation, sequence, order int64
	reason                                  string
}

const nextCancellationSQL = `
SELECT sale_id, item_id, generation, sequence, order_no, reason FROM sale_cancellations
WHERE walked_at IS NULL ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED`

const ordersFromSQL = `
SELECT ` + orderColumns + ` FROM orders
WHERE item_id = $1 AND (generation, sequence, order_no) > ($2, $3, $4)
ORDER BY generation, sequence, order_no LIMIT $5`

const cancelManySQL = `
WITH gone AS (
    UPDATE orders SET status = 'cancelled', reason = $2, updated_at = now()
    WHERE order_no = ANY ($1) AND status = 'unpaid'
    RETURNING *
), ended AS (
    UPDATE charges c SET next_at = now() FROM gone WHERE c.order_no = gone.order_no AND c.state = 'open'
)` + giveBack

const refundManySQL = `
WITH refunding AS (
    UPDATE orders o SET status = 'refunding', updated_at = now()
    WHERE order_no = ANY ($1) AND status = 'paid'
        AND EXISTS (SELECT FROM payments p WHERE p.order_no = o.order_no AND NOT p.surplus)
    RETURNING o.*
), owed AS (
    INSERT INTO refunds (refund_no, order_no, method, trade_no, amount, elsewhere, surplus, reason, next_at)
    SELECT 'R' || p.order_no, p.order_no, p.method, p.trade_no, p.amount - b.elsewhere, b.elsewhere, false, $2, now()
    FROM refunding r JOIN payments p ON p.order_no = r.order_no AND NOT p.surplus,
        LATERAL (SELECT` + wentBack + ` AS elsewhere) b
)
SELECT ` + orderColumns + ` FROM refunding ORDER BY order_no`

// CancelSaleOrders takes up to limit orders of a sale that was cancelled: unpaid ones are cancelled,
// of paid ones the refund is owed. It returns what they have become, and whether there is more to
// do. What it did and the place that it has come to are one transaction, so that it goes on where it
// was, whoever calls it, however it ended before. Callers share the sales.
func (l *Ledger) CancelSaleOrders(ctx context.Context, limit int) (results []flashsale.Result, more bool, err error) {
	err = l.transact(ctx, "cancel orders of a sale", pgx.TxOptions{}, func(tx pgx.Tx) error {
		var at place
		err := tx.QueryRow(ctx, nextCancellationSQL).Scan(&at.sale, &at.item, &at.generation, &at.sequence, &at.order, &at.reason)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		more = true
		rows, _ := tx.Query(ctx, ordersFromSQL, at.item, at.generation, at.sequence, at.order, limit)
		orders, err := pgx.CollectRows(rows, scanOrder)
		if err != nil {
			return err
		}
		if results, err = endOrders(ctx, tx, orders, at.reason); err != nil {
			return err
		}
		return at.move(ctx, tx, orders, len(orders) == limit)
	})
	if err != nil {
		return nil, false, err
	}
	return results, more, nil
}

// endOrders cancels or begins to refund orders, whatever their state is by now.
func endOrders(ctx context.Context, tx pgx.Tx, orders []flashsale.Order, reason string) (results []flashsale.Result, err error) {
	var unpaid, paid []flashsale.OrderNo
	for _, order := range orders {
		switch order.Status {
		case flashsale.Unpaid: // and may be paid by now
			unpaid, paid = append(unpaid, order.OrderNo), append(paid, order.OrderNo)
		case flashsale.Paid:
			paid = append(paid, order.OrderNo)
		}
	}
	for _, step := range []struct {
		sql    string
		orders []flashsale.OrderNo
		reason string
	}{{cancelManySQL, unpaid, ReasonSale}, {refundManySQL, paid, reason}} {
		rows, _ := tx.Query(ctx, step.sql, int64s(step.orders), step.reason) // its error comes with the rows
		ended, err := pgx.CollectRows(rows, scanOrder)
		if err != nil {
			return nil, err
		}
		for i := range ended {
			results = append(results, resultOf(&ended[i], ended[i].Status, ended[i].Reason))
		}
	}
	return results, nil
}

// move notes the place after some orders of an item: the last of them, or else the beginning of the
// next item, or else the end.
func (p place) move(ctx context.Context, tx pgx.Tx, orders []flashsale.Order, inItem bool) error {
	if inItem {
		last := orders[len(orders)-1]
		_, err := tx.Exec(ctx, `
UPDATE sale_cancellations SET generation = $2, sequence = $3, order_no = $4 WHERE sale_id = $1`,
			p.sale, last.Generation, last.Sequence, int64(last.OrderNo))
		return err
	}
	_, err := tx.Exec(ctx, `
UPDATE sale_cancellations c SET generation = 0, sequence = 0, order_no = 0, item_id = coalesce(n.id, c.item_id),
    walked_at = CASE WHEN n.id IS NULL THEN now() END
FROM (SELECT min(id) AS id FROM items WHERE sale_id = $1 AND id > $2) n
WHERE c.sale_id = $1`, p.sale, p.item)
	return err
}

// CancelOrder cancels an unpaid order on an operator's word and returns it. One in any other state is
// returned as it stands, with [flashsale.ErrConflict]; [flashsale.ErrNotFound] when the ledger does
// not hold it.
func (l *Ledger) CancelOrder(ctx context.Context, number flashsale.OrderNo) (order flashsale.Order, err error) {
	err = transactOnce(ctx, l, "cancel order "+number.String(), &order, func(tx pgx.Tx) error {
		if order, err = lockOrder(ctx, tx, number); err != nil {
			return err
		}
		if order.Status != flashsale.Unpaid {
			return fmt.Errorf("%w: it is %s", flashsale.ErrConflict, order.Status)
		}
		rows, _ := tx.Query(ctx, cancelManySQL, []int64{int64(number)}, ReasonOperator)
		order, err = pgx.CollectExactlyOneRow(rows, scanOrder)
		return err
	})
	return order, err
}
