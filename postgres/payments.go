package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

const lockOrderSQL = orderSQL + ` FOR NO KEY UPDATE`

const payOrderSQL = `
UPDATE orders SET status = 'paid', updated_at = now() WHERE order_no = $1 AND status = 'unpaid'
RETURNING ` + orderColumns

const insertPaymentSQL = `
INSERT INTO payments (method, trade_no, order_no, amount, surplus, paid_at)
VALUES ($1, $2, $3, $4, $5, $6)`

// Pay records money that has arrived at Alipay for an order. An unpaid order becomes paid.
// Money for an order that is over or paid already is surplus: the order stays as it is, and the
// refund that is owed now stands in the same transaction. The receipt of a payment that was
// recorded before is the same, but not new.
//
// [flashsale.ErrNotFound] when there is no such order; [flashsale.ErrConflict] when the trade
// number was used for another order, or the amount is not that of the order: nothing is recorded.
func (l *Ledger) Pay(ctx context.Context, p flashsale.Payment) (receipt flashsale.Receipt, err error) {
	operation := fmt.Sprintf("pay order %s by trade %s", p.OrderNo, p.TradeNo)
	err = l.transact(ctx, operation, pgx.TxOptions{}, func(tx pgx.Tx) error {
		order, err := lockOrder(ctx, tx, p.OrderNo)
		if err != nil {
			return err
		}
		switch recorded, err := findPayment(ctx, tx, p.Method, p.TradeNo); {
		case err == nil && recorded.OrderNo != p.OrderNo:
			return fmt.Errorf("%w: the trade has paid order %s", flashsale.ErrConflict, recorded.OrderNo)
		case err == nil:
			receipt = flashsale.Receipt{Order: order}
			receipt.Refund, err = findRefund(ctx, tx, refundOfPayment, string(p.Method), p.TradeNo)
			return notFoundIsNone(err)
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		case p.Amount != order.AmountFen:
			return fmt.Errorf("%w: %d fen were paid, the order costs %d", flashsale.ErrConflict, p.Amount, order.AmountFen)
		}
		p.Surplus = order.Status != flashsale.Unpaid
		if !p.Surplus {
			if order, err = payOrder(ctx, tx, p.OrderNo); err != nil {
				return err
			}
		}
		receipt = flashsale.Receipt{Order: order, New: true}
		if err := insertPayment(ctx, tx, p); err != nil {
			return err
		}
		if p.Surplus {
			receipt.Refund, err = insertRefund(ctx, tx, surplusRefundNo(p.OrderNo), reasonSurplus, p)
			if err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `UPDATE charges SET state = 'paid' WHERE order_no = $1`, int64(p.OrderNo))
		if err != nil {
			return err
		}
		return hasten(ctx, tx, p.OrderNo)
	})
	return receipt, err
}

// History returns what is known of an order's money, or [flashsale.ErrNotFound].
func (l *Ledger) History(ctx context.Context, number flashsale.OrderNo) (h flashsale.PaymentHistory, err error) {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = l.transact(ctx, "payments of order "+number.String(), snapshot, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, orderSQL, int64(number)) // its error comes with the rows
		var err error
		if h.Order, err = pgx.CollectExactlyOneRow(rows, scanOrder); err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `SELECT state FROM charges WHERE order_no = $1`, int64(number)).Scan(&h.Charge)
		if err = notFoundIsNone(err); err != nil {
			return err
		}
		h.Intent, err = findIntent(ctx, tx, number)
		if err = notFoundIsNone(err); err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, `SELECT `+paymentColumns+` FROM payments WHERE order_no = $1 ORDER BY created_at`, int64(number))
		if h.Payments, err = pgx.CollectRows(rows, scanPayment); err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, `SELECT `+refundColumns+` FROM refunds WHERE order_no = $1 ORDER BY created_at`, int64(number))
		if h.Refunds, err = pgx.CollectRows(rows, scanRefund); err != nil {
			return err
		}
		h.Foreign, err = foreignRefunds(ctx, tx, number)
		return err
	})
	return h, err
}

func lockOrder(ctx context.Context, tx pgx.Tx, number flashsale.OrderNo) (flashsale.Order, error) {
	rows, _ := tx.Query(ctx, lockOrderSQL, int64(number)) // its error comes with the rows
	return pgx.CollectExactlyOneRow(rows, scanOrder)
}

// payOrder takes the edge from unpaid to paid. The caller has locked the order and seen that it
// is unpaid; that one row changes is checked all the same.
func payOrder(ctx context.Context, tx pgx.Tx, number flashsale.OrderNo) (flashsale.Order, error) {
	rows, _ := tx.Query(ctx, payOrderSQL, int64(number))
	order, err := pgx.CollectExactlyOneRow(rows, scanOrder)
	if errors.Is(err, pgx.ErrNoRows) {
		return order, errChangedMeanwhile
	}
	return order, err
}

const paymentColumns = `method, trade_no, order_no, amount, surplus, paid_at`

func scanPayment(row pgx.CollectableRow) (p flashsale.Payment, err error) {
	err = row.Scan(&p.Method, &p.TradeNo, (*int64)(&p.OrderNo), &p.Amount, &p.Surplus, &p.PaidAt)
	return p, err
}

func findPayment(ctx context.Context, tx pgx.Tx, method flashsale.Method, tradeNo string) (flashsale.Payment, error) {
	rows, _ := tx.Query(ctx, `SELECT `+paymentColumns+` FROM payments WHERE method = $1 AND trade_no = $2`,
		string(method), tradeNo)
	return pgx.CollectExactlyOneRow(rows, scanPayment)
}

// insertPayment turns a number that another order's transaction has just used into a conflict.
func insertPayment(ctx context.Context, tx pgx.Tx, p flashsale.Payment) error {
	if p.PaidAt.IsZero() {
		p.PaidAt = time.Now()
	}
	_, err := tx.Exec(ctx, insertPaymentSQL, string(p.Method), p.TradeNo, int64(p.OrderNo), p.Amount, p.Surplus, p.PaidAt)
	if isUniqueViolation(err) {
		return fmt.Errorf("%w: %w", flashsale.ErrConflict, err)
	}
	return err
}

// notFoundIsNone keeps the zero value of what may be there or not.
func notFoundIsNone(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}
