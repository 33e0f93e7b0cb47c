package postgres

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

const intentColumns = `order_no, user_id, points, trade_no, state, attempts`

// A shopper who had too few points may try again: the intent, with its trade number, is the same.
const beginIntentSQL = `
INSERT INTO points_intents (order_no, user_id, points, trade_no, next_at)
SELECT order_no, user_id, amount_points, $2, now() + make_interval(secs => $3) FROM orders
WHERE order_no = $1 AND status = 'unpaid' AND pay_deadline > now() AND amount_points > 0
    AND` + notCancelled + `
ON CONFLICT (order_no) DO UPDATE
    SET state = 'trying', attempts = 0, next_at = excluded.next_at, updated_at = now()
    WHERE points_intents.state = 'short'
RETURNING ` + intentColumns

// BeginIntent notes that an order is about to be paid with points, before anything happens in
// the points database, and returns the order with its intent: the one that is there already, if
// any; none when the order cannot be paid, has no price in points, or its deadline has passed.
func (l *Ledger) BeginIntent(
	ctx context.Context, number flashsale.OrderNo, user string, tradeNo int64,
) (order flashsale.Order, intent flashsale.Intent, err error) {
	err = l.transact(ctx, "begin points payment of order "+number.String(), pgx.TxOptions{}, func(tx pgx.Tx) error {
		if order, err = lockOrder(ctx, tx, number); err != nil {
			return err
		}
		if order.User != user {
			order = flashsale.Order{}
			return flashsale.ErrNotFound
		}
		rows, _ := tx.Query(ctx, beginIntentSQL, int64(number), tradeNo, retryLead) // its error comes with the rows
		intent, err = pgx.CollectExactlyOneRow(rows, scanIntent)
		if errors.Is(err, pgx.ErrNoRows) {
			intent, err = findIntent(ctx, tx, number)
		}
		return notFoundIsNone(err)
	})
	return order, intent, err
}

// PayWithPoints is what decides a payment with points whose points are frozen: in one
// transaction the order becomes paid, the payment is logged and the intent is to be confirmed;
// or, if the order was not unpaid any more, the intent is to be cancelled. An intent that was
// decided before is returned as it stands.
func (l *Ledger) PayWithPoints(
	ctx context.Context, number flashsale.OrderNo,
) (receipt flashsale.Receipt, intent flashsale.Intent, err error) {
	err = l.transact(ctx, "pay order "+number.String()+" with points", pgx.TxOptions{}, func(tx pgx.Tx) error {
		if receipt.Order, err = lockOrder(ctx, tx, number); err != nil {
			return err
		}
		if intent, err = findIntent(ctx, tx, number); err != nil {
			return err
		}
		if intent.State != flashsale.IntentTrying && intent.State != flashsale.IntentShort {
			return nil
		}
		if receipt.Order.Status != flashsale.Unpaid {
			intent, err = moveOrFind(ctx, tx, number, intent.State, flashsale.IntentCancelling)
			return err
		}
		if receipt.Order, err = payOrder(ctx, tx, number); err != nil {
			return err
		}
		receipt.New = true
		err = insertPayment(ctx, tx, flashsale.Payment{
			Method: flashsale.Points, TradeNo: strconv.FormatInt(intent.TradeNo, 10),
			OrderNo: number, Amount: intent.Points,
		})
		if err != nil {
			return err
		}
		if intent, err = moveIntent(ctx, tx, number, intent.State, flashsale.IntentConfirming); err != nil {
			return err
		}
		return hasten(ctx, tx, number)
	})
	return receipt, intent, err
}

const abandonIntentSQL = `
UPDATE points_intents i SET state = 'cancelling', updated_at = now()
WHERE order_no = $1 AND state IN ('trying', 'short')
    AND EXISTS (SELECT FROM orders o WHERE o.order_no = i.order_no AND o.status <> 'unpaid')`

// AbandonIntent lets an undecided intent be cancelled if its order cannot become paid by it any
// more, and returns the intent as it stands.
func (l *Ledger) AbandonIntent(ctx context.Context, number flashsale.OrderNo) (intent flashsale.Intent, err error) {
	err = l.transact(ctx, "abandon points payment of order "+number.String(), pgx.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, abandonIntentSQL, int64(number)); err != nil {
			return err
		}
		intent, err = findIntent(ctx, tx, number)
		return err
	})
	return intent, err
}

// MoveIntent takes an intent from one state to the next and returns it; if it is in another
// state by now, as it stands.
func (l *Ledger) MoveIntent(
	ctx context.Context, number flashsale.OrderNo, from, to flashsale.IntentState,
) (intent flashsale.Intent, err error) {
	err = l.transact(ctx, "points payment of order "+number.String()+" is "+string(to), pgx.TxOptions{}, func(tx pgx.Tx) error {
		intent, err = moveOrFind(ctx, tx, number, from, to)
		return err
	})
	return intent, err
}

// moveOrFind moves an intent, or returns it as it stands when somebody else has moved it: it is
// not locked by whoever has locked its order.
func moveOrFind(
	ctx context.Context, tx pgx.Tx, number flashsale.OrderNo, from, to flashsale.IntentState,
) (flashsale.Intent, error) {
	intent, err := moveIntent(ctx, tx, number, from, to)
	if errors.Is(err, pgx.ErrNoRows) {
		return findIntent(ctx, tx, number)
	}
	return intent, err
}

const dueIntentsSQL = `
UPDATE points_intents SET ` + claimed + `
WHERE order_no IN (
    SELECT order_no FROM points_intents WHERE state <> 'done' AND next_at <= now()
    ORDER BY next_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING ` + intentColumns

// DueIntents takes up to limit intents that a crash or a fault has left open. One that is not
// finished comes again later.
func (l *Ledger) DueIntents(ctx context.Context, limit int) ([]flashsale.Intent, error) {
	rows, _ := l.pool.Query(ctx, dueIntentsSQL, limit) // its error comes with the rows
	intents, err := pgx.CollectRows(rows, scanIntent)
	return intents, classify("due points payments", err)
}

// An intent that is short rests until its order is over: then whatever a try that was given up
// may have frozen all the same is set free.
const moveIntentSQL = `
UPDATE points_intents i SET state = $3, updated_at = now(),
    next_at = CASE $3 WHEN 'short' THEN o.pay_deadline ELSE now() + make_interval(secs => $4) END
FROM orders o
WHERE i.order_no = $1 AND o.order_no = $1 AND i.state = $2
RETURNING i.order_no, i.user_id, i.points, i.trade_no, i.state, i.attempts`

func moveIntent(
	ctx context.Context, tx pgx.Tx, number flashsale.OrderNo, from, to flashsale.IntentState,
) (flashsale.Intent, error) {
	rows, _ := tx.Query(ctx, moveIntentSQL, int64(number), string(from), string(to), retryLead)
	return pgx.CollectExactlyOneRow(rows, scanIntent)
}

func findIntent(ctx context.Context, q querier, number flashsale.OrderNo) (flashsale.Intent, error) {
	rows, _ := q.Query(ctx, `SELECT `+intentColumns+` FROM points_intents WHERE order_no = $1`, int64(number))
	return pgx.CollectExactlyOneRow(rows, scanIntent)
}

func scanIntent(row pgx.CollectableRow) (i flashsale.Intent, err error) {
	err = row.Scan((*int64)(&i.OrderNo), &i.User, &i.Points, &i.TradeNo, &i.State, &i.Attempts)
	return i, err
}
