package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

const ofTradeSQL = `
SELECT order_no FROM payments WHERE method IN ('alipay', 'points') AND trade_no = $1
UNION SELECT order_no FROM refunds WHERE refund_no = $1
UNION SELECT order_no FROM foreign_refunds WHERE refund_no = $1
ORDER BY order_no`

// OfTrade returns the orders that a trade or refund number has to do with.
func (l *Ledger) OfTrade(ctx context.Context, number string) ([]flashsale.OrderNo, error) {
	rows, _ := l.pool.Query(ctx, ofTradeSQL, number) // its error comes with the rows
	orders, err := pgx.CollectRows(rows, pgx.RowTo[flashsale.OrderNo])
	return orders, classify("orders of trade "+number, err)
}

// What happened at the same time is told in the order in which it must have happened.
const eventsSQL = `
SELECT at, event, detail FROM (
    SELECT 1 AS step, reserved_at AS at, 'reserved' AS event,
        format('%s units, generation %s, sequence %s', quantity, generation, sequence) AS detail
    FROM orders WHERE order_no = $1
    UNION ALL
    SELECT 2, created_at, CASE status WHEN 'rejected' THEN 'rejected' ELSE 'confirmed' END,
        coalesce(CASE status WHEN 'rejected' THEN reason END, '')
    FROM orders WHERE order_no = $1
    UNION ALL
    SELECT 3, created_at, 'payment_started', 'alipay, ' || state FROM charges WHERE order_no = $1
    UNION ALL
    SELECT 3, created_at, 'payment_started', format('points, trade %s, %s', trade_no, state)
    FROM points_intents WHERE order_no = $1
    UNION ALL
    SELECT 4, paid_at, CASE WHEN surplus THEN 'paid_too_much' ELSE 'paid' END,
        format('%s %s, trade %s', method, amount, trade_no)
    FROM payments WHERE order_no = $1
    UNION ALL
    SELECT 5, updated_at, 'cancelled', coalesce(reason, '')
    FROM orders WHERE order_no = $1 AND status = 'cancelled'
    UNION ALL
    SELECT 6, created_at, 'refund_asked_for', format('%s %s, refund %s: %s', method, amount, refund_no, reason)
    FROM refunds WHERE order_no = $1
    UNION ALL
    SELECT 6, created_at, 'refunded_elsewhere', format('%s %s, refund %s', method, amount, refund_no)
    FROM foreign_refunds WHERE order_no = $1
    UNION ALL
    SELECT 7, coalesce(done_at, next_at), CASE state WHEN 'done' THEN 'refunded' ELSE 'refund_refused' END,
        format('refund %s %s', refund_no, coalesce(fault, ''))
    FROM refunds WHERE order_no = $1 AND state <> 'due'
    UNION ALL
    SELECT 8, created_at, 'release_owed', format('%s units to redis', quantity)
    FROM outbox WHERE order_no = $1 AND kind = 'release'
) e ORDER BY at, step, detail`

// Events returns what happened to an order, from the script to the refund, in the order of time;
// nothing for an order that the ledger does not hold.
func (l *Ledger) Events(
	ctx context.Context, number flashsale.OrderNo,
) ([]flashsale.OrderEvent, error) {
	rows, _ := l.pool.Query(ctx, eventsSQL, int64(number)) // its error comes with the rows
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[flashsale.OrderEvent])
	return events, classify("events of order "+number.String(), err)
}
