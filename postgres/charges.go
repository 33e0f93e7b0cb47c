package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// retryLead is how long whoever has begun a step has for it before a recovery takes it up as
// well, which would do no harm.
const retryLead = 2 // seconds

// claimed marks rows as taken up: no other recovery sees them before they were likely done. The
// wait doubles with each attempt, up to five minutes.
const claimed = `attempts = attempts + 1, next_at = now() + make_interval(secs => least(2 ^ least(attempts + 1, 20), 300))`

const startChargeSQL = `
INSERT INTO charges (order_no, expires_at, next_at)
SELECT order_no, pay_deadline, pay_deadline FROM orders
WHERE order_no = $1 AND user_id = $2 AND status = 'unpaid' AND pay_deadline > now() AND` + notCancelled + `
ON CONFLICT (order_no) DO UPDATE SET state = charges.state
RETURNING state = 'open'`

// StartCharge notes that a pay page is about to be handed out for an order, and reports whether
// it may be: for an unpaid order of the user, before its deadline, whose trade was not ended.
// From then on the order's timeout waits for the end of the trade.
func (l *Ledger) StartCharge(ctx context.Context, number flashsale.OrderNo, user string) (open bool, err error) {
	rows, _ := l.pool.Query(ctx, startChargeSQL, int64(number), user) // its error comes with the rows
	states, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	return len(states) == 1 && states[0], classify("start charge of order "+number.String(), err)
}

// ChargeOpen reports whether a pay page was handed out for an order whose trade may yet be paid.
func (l *Ledger) ChargeOpen(ctx context.Context, number flashsale.OrderNo) (open bool, err error) {
	err = l.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM charges WHERE order_no = $1 AND state = 'open')`,
		int64(number)).Scan(&open)
	return open, classify("charge of order "+number.String(), err)
}

// EndCharge notes that nobody can pay the trade of an order any more.
func (l *Ledger) EndCharge(ctx context.Context, number flashsale.OrderNo) error {
	_, err := l.pool.Exec(ctx,
		`UPDATE charges SET state = 'closed' WHERE order_no = $1 AND state = 'open'`, int64(number))
	return classify("end charge of order "+number.String(), err)
}

const dueChargesSQL = `
UPDATE charges SET ` + claimed + `
WHERE order_no IN (
    SELECT c.order_no FROM charges c JOIN orders o ON o.order_no = c.order_no
    WHERE c.state = 'open' AND c.next_at <= now() AND (o.status <> 'unpaid' OR o.pay_deadline <= now())
    ORDER BY c.next_at LIMIT $1 FOR NO KEY UPDATE OF c SKIP LOCKED
)
RETURNING order_no, expires_at <= now()`

// DueCharges takes up to limit payments whose trade is to be closed: of orders whose deadline
// has passed, or that are over or paid otherwise. One that is not ended comes again later.
func (l *Ledger) DueCharges(ctx context.Context, limit int) ([]flashsale.Charge, error) {
	rows, _ := l.pool.Query(ctx, dueChargesSQL, limit)
	charges, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c flashsale.Charge, err error) {
		return c, row.Scan((*int64)(&c.OrderNo), &c.Expired)
	})
	return charges, classify("due charges", err)
}

// hasten lets what an order has left open elsewhere be ended at once: its trade, and a payment
// with points that lost against another.
func hasten(ctx context.Context, tx pgx.Tx, number flashsale.OrderNo) error {
	batch := &pgx.Batch{}
	batch.Queue(`UPDATE charges SET next_at = now() WHERE order_no = $1 AND state = 'open'`, int64(number))
	batch.Queue(`UPDATE points_intents SET next_at = now() WHERE order_no = $1 AND state IN ('trying', 'short')`,
		int64(number))
	return tx.SendBatch(ctx, batch).Close()
}
