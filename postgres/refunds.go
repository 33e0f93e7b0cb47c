package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// reasonSurplus is why money that nothing was owed for is given back.
const reasonSurplus = "order was over or paid already"

// The numbers of refunds are derived from the order, so that whoever repeats a refund repeats
// that very one.
func orderRefundNo(number flashsale.OrderNo) string   { return "R" + number.String() }
func surplusRefundNo(number flashsale.OrderNo) string { return "L" + number.String() }

const startRefundSQL = `
UPDATE orders SET status = 'refunding', updated_at = now()
WHERE order_no = $1 AND user_id = $2 AND status = 'paid'
RETURNING ` + orderColumns

const refundColumns = `refund_no, order_no, method, trade_no, amount, surplus, state, reason, coalesce(fault, ''), attempts`

// wentBack is what of a payment p went back without us.
const wentBack = `
    least(p.amount, (SELECT coalesce(sum(f.amount), 0) FROM foreign_refunds f
        WHERE f.method = p.method AND f.trade_no = p.trade_no))::bigint`

const insertRefundSQL = `
INSERT INTO refunds (refund_no, order_no, method, trade_no, amount, elsewhere, surplus, reason, next_at)
SELECT $1, p.order_no, p.method, p.trade_no, p.amount - b.elsewhere, b.elsewhere, p.surplus, $4,
    now() + make_interval(secs => $5)
FROM payments p, LATERAL (SELECT` + wentBack + ` AS elsewhere) b
WHERE p.method = $2 AND p.trade_no = $3
RETURNING ` + refundColumns

// StartRefund begins to give the money of a paid order back to its user, as it was paid: all of it,
// less what went back without us. The order still holds its units. The receipt of an order that is refunding or refunded
// already is its refund, not new. An order in any other state is returned with
// [flashsale.ErrConflict]; one that is another user's is [flashsale.ErrNotFound].
func (l *Ledger) StartRefund(
	ctx context.Context, number flashsale.OrderNo, user, reason string,
) (receipt flashsale.Receipt, err error) {
	operation := "start refund of order " + number.String()
	err = l.transact(ctx, operation, pgx.TxOptions{}, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, startRefundSQL, int64(number), user) // its error comes with the rows
		order, err := pgx.CollectExactlyOneRow(rows, scanOrder)
		if errors.Is(err, pgx.ErrNoRows) {
			return startedRefund(ctx, tx, number, user, &receipt)
		}
		if err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, `SELECT `+paymentColumns+` FROM payments WHERE order_no = $1 AND NOT surplus`, int64(number))
		payment, err := pgx.CollectExactlyOneRow(rows, scanPayment)
		if err != nil {
			return fmt.Errorf("a paid order without its payment: %w", err)
		}
		receipt = flashsale.Receipt{Order: order, New: true}
		receipt.Refund, err = insertRefund(ctx, tx, orderRefundNo(number), reason, payment)
		return err
	})
	return receipt, err
}

// startedRefund answers for an order that is not paid.
func startedRefund(
	ctx context.Context, tx pgx.Tx, number flashsale.OrderNo, user string, receipt *flashsale.Receipt,
) error {
	rows, _ := tx.Query(ctx, orderSQL, int64(number))
	order, err := pgx.CollectExactlyOneRow(rows, scanOrder)
	switch {
	case err != nil:
		return err
	case order.User != user:
		return flashsale.ErrNotFound
	}
	receipt.Order = order
	if order.Status != flashsale.Refunding && order.Status != flashsale.Refunded {
		return fmt.Errorf("%w: it is %s", flashsale.ErrConflict, order.Status)
	}
	receipt.Refund, err = findRefund(ctx, tx, refundOfOrder, int64(number))
	return err
}

// The refund changes first and the order by it, so that one of any number of attempts wins.
const finishRefundSQL = `
WITH finished AS (
    UPDATE refunds SET state = 'done', done_at = now() WHERE refund_no = $1 AND state <> 'done'
    RETURNING order_no, surplus
), gone AS (
    UPDATE orders o SET status = 'refunded', updated_at = now()
    FROM finished f WHERE o.order_no = f.order_no AND NOT f.surplus AND o.status = 'refunding'
    RETURNING o.*
)` + giveBack

// FinishRefund notes that the money of a refund is back. Its order becomes refunded, gives its
// units back and owes them to Redis, in one statement; the refund of surplus money changes no
// order. The receipt is new for the one call that did it.
func (l *Ledger) FinishRefund(ctx context.Context, refundNo string) (receipt flashsale.Receipt, err error) {
	err = l.transact(ctx, "finish refund "+refundNo, pgx.TxOptions{}, func(tx pgx.Tx) (err error) {
		receipt, err = finishRefund(ctx, tx, refundNo)
		return err
	})
	return receipt, err
}

func finishRefund(ctx context.Context, tx pgx.Tx, refundNo string) (receipt flashsale.Receipt, err error) {
	var done bool
	err = tx.QueryRow(ctx, `SELECT state = 'done' FROM refunds WHERE refund_no = $1 FOR NO KEY UPDATE`, refundNo).Scan(&done)
	if err != nil {
		return receipt, err
	}
	receipt.New = !done
	rows, _ := tx.Query(ctx, finishRefundSQL, refundNo) // its error comes with the rows
	if _, err := pgx.CollectRows(rows, scanOrder); err != nil {
		return receipt, err
	}
	if receipt.Refund, err = findRefund(ctx, tx, refundByNumber, refundNo); err != nil {
		return receipt, err
	}
	rows, _ = tx.Query(ctx, orderSQL, int64(receipt.Refund.OrderNo))
	receipt.Order, err = pgx.CollectExactlyOneRow(rows, scanOrder)
	return receipt, err
}

// RefuseRefund notes that the provider will never give the amount of a refund back. The order
// stays refunding, until an operator has seen to it. It changes nothing when another amount is
// owed by now, because some of it went back without us.
func (l *Ledger) RefuseRefund(ctx context.Context, refund flashsale.Refund, fault string) error {
	_, err := l.pool.Exec(ctx, `
UPDATE refunds SET state = 'refused', fault = $3 WHERE refund_no = $1 AND state = 'due' AND amount = $2`,
		refund.RefundNo, refund.Amount, fault)
	return classify("refuse refund "+refund.RefundNo, err)
}

// RetryRefund lets a refund that was refused be asked for again. One that was not refused is
// [flashsale.ErrConflict].
func (l *Ledger) RetryRefund(ctx context.Context, refundNo string) error {
	operation := "retry refund " + refundNo
	tag, err := l.pool.Exec(ctx, `
UPDATE refunds SET state = 'due', attempts = 0, next_at = now() WHERE refund_no = $1 AND state = 'refused'`, refundNo)
	if err == nil && tag.RowsAffected() == 0 {
		err = fmt.Errorf("%w: there is no such refund that was refused", flashsale.ErrConflict)
	}
	return classify(operation, err)
}

// Refund returns a refund by its number, or [flashsale.ErrNotFound].
func (l *Ledger) Refund(ctx context.Context, refundNo string) (flashsale.Refund, error) {
	refund, err := findRefund(ctx, l.pool, refundByNumber, refundNo)
	return refund, classify("refund "+refundNo, err)
}

const dueRefundsSQL = `
UPDATE refunds SET ` + claimed + `
WHERE refund_no IN (
    SELECT refund_no FROM refunds WHERE state = 'due' AND next_at <= now()
    ORDER BY next_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING ` + refundColumns

// DueRefunds takes up to limit refunds that are to be asked for again. One that is not final
// then comes again later.
func (l *Ledger) DueRefunds(ctx context.Context, limit int) ([]flashsale.Refund, error) {
	rows, _ := l.pool.Query(ctx, dueRefundsSQL, limit) // its error comes with the rows
	refunds, err := pgx.CollectRows(rows, scanRefund)
	return refunds, classify("due refunds", err)
}

// Ways to find a refund.
const (
	refundByNumber  = `refund_no = $1`
	refundOfOrder   = `order_no = $1 AND NOT surplus`
	refundOfPayment = `method = $1 AND trade_no = $2`
)

func findRefund(ctx context.Context, q querier, where string, args ...any) (flashsale.Refund, error) {
	rows, _ := q.Query(ctx, `SELECT `+refundColumns+` FROM refunds WHERE `+where, args...)
	return pgx.CollectExactlyOneRow(rows, scanRefund)
}

func insertRefund(
	ctx context.Context, tx pgx.Tx, refundNo, reason string, p flashsale.Payment,
) (flashsale.Refund, error) {
	rows, _ := tx.Query(ctx, insertRefundSQL, refundNo, string(p.Method), p.TradeNo, reason, retryLead)
	return pgx.CollectExactlyOneRow(rows, scanRefund)
}

func scanRefund(row pgx.CollectableRow) (r flashsale.Refund, err error) {
	err = row.Scan(&r.RefundNo, (*int64)(&r.OrderNo), &r.Method, &r.TradeNo, &r.Amount, &r.Surplus,
		&r.State, &r.Reason, &r.Fault, &r.Attempts)
	return r, err
}
