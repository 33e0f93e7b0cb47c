package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// reasonForeign is the reason of a refund of which nothing is left for us to give back.
const reasonForeign = "given back in the provider's console"

const foreignColumns = `refund_no, coalesce(provider_no, ''), order_no, method, trade_no, amount, refunded_at, settled_at`

// What is not known by its number is the part of the total that nobody else accounts for.
const insertForeignSQL = `
WITH known AS (
    SELECT (SELECT count(*) FROM foreign_refunds WHERE order_no = $1) AS numbered,
        (SELECT coalesce(sum(amount), 0) FROM foreign_refunds WHERE method = $2 AND trade_no = $3) +
        (SELECT coalesce(sum(amount), 0) FROM refunds WHERE method = $2 AND trade_no = $3 AND state = 'done') AS amount
), fresh AS (
    SELECT numbered, least(coalesce(nullif($5::bigint, 0), $6::bigint - amount), $7::bigint - amount)::bigint AS amount
    FROM known
)
INSERT INTO foreign_refunds (refund_no, order_no, method, trade_no, provider_no, amount, refunded_at)
SELECT 'F' || $1::bigint || '-' || numbered + 1, $1, $2, $3, nullif($4::text, ''), amount, $8 FROM fresh
WHERE amount > 0
ON CONFLICT (method, trade_no, provider_no) DO NOTHING
RETURNING ` + foreignColumns

// What we owe of the trade ourselves is what is left of it. Nobody can have given it back in the
// amount that was owed so far: the provider gives back no more than has come.
const adjustRefundSQL = `
UPDATE refunds r SET elsewhere = b.elsewhere, amount = p.amount - b.elsewhere, state = 'due', fault = NULL,
    attempts = 0, next_at = now()
FROM payments p, LATERAL (SELECT` + wentBack + ` AS elsewhere) b
WHERE p.method = $1 AND p.trade_no = $2 AND r.method = p.method AND r.trade_no = p.trade_no
    AND r.state <> 'done' AND r.elsewhere <> b.elsewhere`

// RecordForeignRefund notes that money of a trade went back without us, and reports whether that is
// news. Total is all that went back of the trade by then, whole its amount: an amount that is not
// known is the part of the total that nothing else accounts for. A refund of ours that is still
// owed is from then on for the rest. [flashsale.ErrNotFound] when there is no such order.
func (l *Ledger) RecordForeignRefund(
	ctx context.Context, f flashsale.ForeignRefund, total, whole int64,
) (news bool, err error) {
	operation := fmt.Sprintf("record refund %s of trade %s", f.ProviderNo, f.TradeNo)
	err = l.transact(ctx, operation, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := lockOrder(ctx, tx, f.OrderNo); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, insertForeignSQL, int64(f.OrderNo), string(f.Method), f.TradeNo, f.ProviderNo,
			f.Amount, total, whole, f.At) // its error comes with the rows
		recorded, err := pgx.CollectRows(rows, scanForeign)
		if err != nil || len(recorded) == 0 {
			return err
		}
		news = true
		_, err = tx.Exec(ctx, adjustRefundSQL, string(f.Method), f.TradeNo)
		return err
	})
	return news, err
}

// SettleForeignRefund notes that an operator has seen to a refund that was not ours, and returns
// its order. Once all of the money of a paid order went back so, the order becomes refunded and
// gives its units back: then the receipt is new. The number is ours, or the provider's where
// that is of one refund only. [flashsale.ErrNotFound] when there is no such refund,
// [flashsale.ErrConflict] when it was settled before.
func (l *Ledger) SettleForeignRefund(ctx context.Context, number string) (receipt flashsale.Receipt, err error) {
	err = l.transact(ctx, "settle refund "+number, pgx.TxOptions{}, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `SELECT `+foreignColumns+` FROM foreign_refunds WHERE refund_no = $1 OR provider_no = $1`, number)
		found, err := pgx.CollectExactlyOneRow(rows, scanForeign)
		switch {
		case errors.Is(err, pgx.ErrTooManyRows):
			return fmt.Errorf("%w: several refunds have this number: give the one that starts with F", flashsale.ErrConflict)
		case err != nil:
			return err
		}
		if receipt.Order, err = lockOrder(ctx, tx, found.OrderNo); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx,
			`UPDATE foreign_refunds SET settled_at = now() WHERE refund_no = $1 AND settled_at IS NULL`, found.RefundNo)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			return fmt.Errorf("%w: it is settled already", flashsale.ErrConflict)
		case receipt.Order.Status != flashsale.Paid:
			return nil
		}
		return refundedElsewhere(ctx, tx, &receipt)
	})
	return receipt, err
}

// refundedElsewhere ends a paid order of whose payment nothing is left, all of it settled.
func refundedElsewhere(ctx context.Context, tx pgx.Tx, receipt *flashsale.Receipt) error {
	var payment flashsale.Payment
	err := tx.QueryRow(ctx, `
SELECT p.method, p.trade_no FROM payments p
WHERE p.order_no = $1 AND NOT p.surplus AND p.amount <= (SELECT sum(f.amount) FROM foreign_refunds f
    WHERE f.method = p.method AND f.trade_no = p.trade_no AND f.settled_at IS NOT NULL)`,
		int64(receipt.Order.OrderNo)).Scan(&payment.Method, &payment.TradeNo)
	if err != nil {
		return notFoundIsNone(err)
	}
	order := receipt.Order
	rows, _ := tx.Query(ctx, startRefundSQL, int64(order.OrderNo), order.User)
	if _, err := pgx.CollectExactlyOneRow(rows, scanOrder); err != nil {
		return err
	}
	refund, err := insertRefund(ctx, tx, orderRefundNo(order.OrderNo), reasonForeign, payment)
	if err != nil {
		return err
	}
	*receipt, err = finishRefund(ctx, tx, refund.RefundNo)
	return err
}

func foreignRefunds(ctx context.Context, q querier, number flashsale.OrderNo) ([]flashsale.ForeignRefund, error) {
	rows, _ := q.Query(ctx, `SELECT `+foreignColumns+` FROM foreign_refunds WHERE order_no = $1 ORDER BY created_at, refund_no`,
		int64(number))
	return pgx.CollectRows(rows, scanForeign)
}

func scanForeign(row pgx.CollectableRow) (f flashsale.ForeignRefund, err error) {
	var settledAt *time.Time
	err = row.Scan(&f.RefundNo, &f.ProviderNo, (*int64)(&f.OrderNo), &f.Method, &f.TradeNo, &f.Amount, &f.At, &settledAt)
	if settledAt != nil {
		f.SettledAt = *settledAt
	}
	return f, err
}
