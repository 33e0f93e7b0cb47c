package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// moneyFaultsMax bounds the lines of a report.
const moneyFaultsMax = 100

const moneySQL = `
WITH elsewhere AS (
    SELECT method, trade_no, sum(amount) AS amount FROM foreign_refunds GROUP BY method, trade_no
)
SELECT p.method, sum(p.amount)::bigint,
    coalesce(sum(p.amount - b.amount) FILTER (WHERE NOT p.surplus AND o.status = 'paid'), 0)::bigint,
    coalesce(sum(r.amount) FILTER (WHERE r.state <> 'done'), 0)::bigint,
    (coalesce(sum(r.amount) FILTER (WHERE r.state = 'done'), 0) + sum(b.amount))::bigint
FROM payments p
JOIN orders o ON o.order_no = p.order_no AND p.order_no >= $1
LEFT JOIN refunds r ON r.method = p.method AND r.trade_no = p.trade_no
LEFT JOIN elsewhere e ON e.method = p.method AND e.trade_no = p.trade_no
CROSS JOIN LATERAL (SELECT least(coalesce(e.amount, 0), p.amount - coalesce(r.amount, 0)) AS amount) b
GROUP BY p.method
ORDER BY p.method`

// Whatever the constraints promise is not asked again: a trade number is used once, a refund is
// its payment, and each payment is given back once.
const moneyFaultsSQL = `
SELECT format('order %s is %s without a payment', o.order_no, o.status) AS line
FROM orders o LEFT JOIN payments p ON p.order_no = o.order_no AND NOT p.surplus
WHERE o.status IN ('paid', 'refunding', 'refunded') AND p.order_no IS NULL AND o.order_no >= $1
UNION ALL
SELECT format('order %s is %s, but trade %s has paid it', o.order_no, o.status, p.trade_no)
FROM payments p JOIN orders o ON o.order_no = p.order_no
WHERE NOT p.surplus AND o.status NOT IN ('paid', 'refunding', 'refunded') AND p.order_no >= $1
UNION ALL
SELECT format('trade %s has paid %s for order %s, which costs %s', p.trade_no, p.amount, o.order_no,
    CASE p.method WHEN 'points' THEN o.amount_points ELSE o.amount_fen END)
FROM payments p JOIN orders o ON o.order_no = p.order_no
WHERE p.order_no >= $1 AND p.amount <> CASE p.method WHEN 'points' THEN o.amount_points ELSE o.amount_fen END
UNION ALL
SELECT format('order %s is %s, but its refund is %s', o.order_no, o.status, coalesce(r.state, 'missing'))
FROM orders o JOIN payments p ON p.order_no = o.order_no AND NOT p.surplus
LEFT JOIN refunds r ON r.method = p.method AND r.trade_no = p.trade_no
WHERE o.order_no >= $1 AND CASE o.status
    WHEN 'refunding' THEN r.state IS NULL OR r.state = 'done'
    WHEN 'refunded' THEN r.state IS DISTINCT FROM 'done'
    ELSE r.state IS NOT NULL END
UNION ALL
SELECT format('surplus trade %s of order %s is not given back', p.trade_no, p.order_no)
FROM payments p LEFT JOIN refunds r ON r.method = p.method AND r.trade_no = p.trade_no
WHERE p.surplus AND r.refund_no IS NULL AND p.order_no >= $1
UNION ALL
SELECT format('refund %s of order %s was refused: %s', r.refund_no, r.order_no, r.fault)
FROM refunds r WHERE r.state = 'refused'
UNION ALL
SELECT format('%s of trade %s of order %s went back without us as %s: settle %s', f.amount, f.trade_no,
    f.order_no, coalesce(f.provider_no, 'a refund without a number'), f.refund_no)
FROM foreign_refunds f WHERE f.settled_at IS NULL
ORDER BY line
LIMIT $2`

const moneyOpenSQL = `
SELECT (SELECT count(*) FROM refunds WHERE state = 'due') +
    (SELECT count(*) FROM points_intents WHERE state NOT IN ('short', 'done'))`

// Money returns what the order database holds of the money of orders from a number on, in one
// snapshot; for 0 of all orders ever, which takes as long as it takes. Refunds that wait for an
// operator are always told.
func (l *Ledger) Money(ctx context.Context, since flashsale.OrderNo) (report flashsale.MoneyReport, err error) {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = l.transact(ctx, "money", snapshot, func(tx pgx.Tx) error {
		if since == 0 {
			if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
				return err
			}
		}
		rows, _ := tx.Query(ctx, moneySQL, int64(since)) // its error comes with the rows
		if report.Figures, err = pgx.CollectRows(rows, pgx.RowToStructByPos[flashsale.MoneyFigures]); err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, moneyFaultsSQL, int64(since), moneyFaultsMax)
		if report.Broken, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		return tx.QueryRow(ctx, moneyOpenSQL).Scan(&report.Open)
	})
	return report, err
}

const pointsPaymentsSQL = `
SELECT i.order_no, i.user_id, i.points, i.trade_no, i.state, i.attempts, p.order_no IS NOT NULL,
    coalesce(r.state, '')
FROM points_intents i
LEFT JOIN payments p ON p.method = 'points' AND p.trade_no = i.trade_no::text
LEFT JOIN refunds r ON r.method = 'points' AND r.trade_no = i.trade_no::text
WHERE i.order_no > $1
ORDER BY i.order_no
LIMIT $2`

// PointsPayments returns a page of the payments with points after an order number, ascending.
func (l *Ledger) PointsPayments(
	ctx context.Context, after flashsale.OrderNo, limit int,
) ([]flashsale.PointsPayment, error) {
	rows, _ := l.pool.Query(ctx, pointsPaymentsSQL, int64(after), limit) // its error comes with the rows
	payments, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p flashsale.PointsPayment, err error) {
		return p, row.Scan((*int64)(&p.OrderNo), &p.User, &p.Points, &p.TradeNo, &p.State, &p.Attempts,
			&p.Paid, &p.Refund)
	})
	return payments, classify("points payments", err)
}
