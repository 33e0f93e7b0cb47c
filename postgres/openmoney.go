package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

const openMoneySQL = `
SELECT * FROM (
    SELECT 'refused_refund', r.refund_no, r.order_no, o.status, r.method, r.trade_no, r.amount, r.fault AS detail,
        r.created_at AS since, r.attempts
    FROM refunds r JOIN orders o ON o.order_no = r.order_no WHERE r.state = 'refused'
    UNION ALL
    SELECT 'foreign_refund', f.refund_no, f.order_no, o.status, f.method, f.trade_no, f.amount,
        coalesce(f.provider_no, ''), f.created_at, 0
    FROM foreign_refunds f JOIN orders o ON o.order_no = f.order_no WHERE f.settled_at IS NULL
    UNION ALL
    SELECT 'surplus_payment', r.refund_no, r.order_no, o.status, r.method, r.trade_no, r.amount, r.reason,
        r.created_at, r.attempts
    FROM refunds r JOIN orders o ON o.order_no = r.order_no WHERE r.state = 'due' AND r.surplus
) open
ORDER BY since LIMIT $1`

// OpenMoney returns the money that waits for a hand, what waits longest first, at most limit of it.
func (l *Ledger) OpenMoney(ctx context.Context, limit int) ([]flashsale.OpenMoney, error) {
	rows, _ := l.pool.Query(ctx, openMoneySQL, limit) // its error comes with the rows
	open, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m flashsale.OpenMoney, err error) {
		return m, row.Scan(&m.Kind, &m.Number, (*int64)(&m.OrderNo), &m.Status, &m.Method, &m.TradeNo, &m.Amount,
			&m.Detail, &m.Since, &m.Attempts)
	})
	return open, classify("open money", err)
}
