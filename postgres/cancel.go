package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// ChargeGrace is how long after its deadline an order may wait for its payment with Alipay to be
// ended when Alipay, asked ChargeTries times, has not answered. One that was not asked yet waits
// for its turn, however many others are before it.
const (
	ChargeGrace = 10 * time.Minute
	ChargeTries = 5
)

// The reasons of a cancelled order.
const (
	ReasonPayTimeout = "pay_timeout"
	ReasonShopper    = "shopper"
	ReasonOperator   = "operator"
	ReasonSale       = "sale_cancelled"
)

// giveBack follows a CTE gone with the orders that this statement ends: their units go back to
// their holders' allowance and to the stock, and their releases are owed, unless the item has left
// Redis. Asking for held's
// count first makes it lock holdings before items.
const giveBack = `
, shares AS (
    SELECT item_id, user_id, sum(quantity) AS units FROM gone WHERE NOT single
    GROUP BY item_id, user_id
), holders AS (
    SELECT h.item_id, h.user_id, s.units
    FROM holdings h JOIN shares s ON s.item_id = h.item_id AND s.user_id = h.user_id
    ORDER BY h.item_id, h.user_id FOR NO KEY UPDATE OF h
), held AS (
    UPDATE holdings h SET units = h.units - o.units
    FROM holders o WHERE h.item_id = o.item_id AND h.user_id = o.user_id
    RETURNING 1
), sums AS (
    SELECT item_id, sum(quantity) AS units FROM gone GROUP BY item_id
), locked AS (
    SELECT i.id, i.retired_at FROM items i
    WHERE (SELECT count(*) FROM held) >= 0 AND i.id IN (SELECT item_id FROM sums)
    ORDER BY i.id FOR NO KEY UPDATE
), returned AS (
    UPDATE items i SET stock = i.stock + s.units
    FROM sums s JOIN locked l ON l.id = s.item_id WHERE i.id = l.id
), owed AS (
    INSERT INTO outbox (kind, item_id, order_no, quantity, user_id)
    SELECT 'release', g.item_id, g.order_no, g.quantity, g.user_id
    FROM gone g JOIN locked l ON l.id = g.item_id WHERE l.retired_at IS NULL ORDER BY g.order_no
)
SELECT ` + orderColumns + ` FROM gone ORDER BY order_no`

// The condition on the state is what lets one of any number of attempts win. A payment that was
// started is to be ended at once.
const cancelSQL = `
WITH gone AS (
    UPDATE orders SET status = 'cancelled', reason = $3, updated_at = now()
    WHERE order_no = $1 AND user_id = $2 AND status = 'unpaid'
    RETURNING *
), ended AS (
    UPDATE charges c SET next_at = now() FROM gone WHERE c.order_no = gone.order_no AND c.state = 'open'
)` + giveBack

// notCharged leaves out orders o with a payment that was started and not ended yet: what the
// shopper has paid in time wins over the timeout. One that could not be ended for $1 seconds, though
// it was tried often enough, holds no unit up any more; should the shopper have paid, he gets his
// money back.
var notCharged = fmt.Sprintf(`NOT EXISTS (
        SELECT FROM charges c WHERE c.order_no = o.order_no AND c.state = 'open'
        AND (c.attempts < %d OR o.pay_deadline > now() - make_interval(secs => $1)))`, ChargeTries)

// SKIP LOCKED lets workers share the work; an order that is being paid or cancelled right now
// is left to whoever holds it, and to the next call.
var cancelDueSQL = `
WITH due AS (
    SELECT order_no FROM orders o WHERE status = 'unpaid' AND pay_deadline <= now()
        AND ` + notCharged + `
    ORDER BY pay_deadline LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
), gone AS (
    UPDATE orders o SET status = 'cancelled', reason = $3, updated_at = now()
    FROM due WHERE o.order_no = due.order_no AND o.status = 'unpaid'
    RETURNING o.*
)` + giveBack

// Cancel cancels an unpaid order for its user and returns it. An order that the ledger does
// not hold, or that is another user's, is [flashsale.ErrNotFound]; one in any other state than
// unpaid is returned as it stands, with [flashsale.ErrConflict].
func (l *Ledger) Cancel(
	ctx context.Context, number flashsale.OrderNo, user string,
) (flashsale.Order, error) {
	operation := "cancel order " + number.String()
	rows, _ := l.pool.Query(ctx, cancelSQL, int64(number), user, ReasonShopper)
	order, err := pgx.CollectExactlyOneRow(rows, scanOrder)
	if !errors.Is(err, pgx.ErrNoRows) {
		return order, classify(operation, err)
	}
	order, err = l.Order(ctx, number)
	switch {
	case err != nil:
		return flashsale.Order{}, fmt.Errorf("%s: %w", operation, err)
	case order.User != user:
		return flashsale.Order{}, fmt.Errorf("%s: %w", operation, flashsale.ErrNotFound)
	}
	return order, fmt.Errorf("%s: %w: it is %s", operation, flashsale.ErrConflict, order.Status)
}

// CancelDue cancels unpaid orders whose pay deadline has passed, by PostgreSQL's clock, those
// that waited longest first, at most limit of them, and returns what they became. Orders whose
// payment is under way are left out until it was ended, for at most ChargeGrace. Any number of
// workers may call it at the same time.
func (l *Ledger) CancelDue(ctx context.Context, limit int) ([]flashsale.Result, error) {
	rows, _ := l.pool.Query(ctx, cancelDueSQL, ChargeGrace.Seconds(), max(limit, 1), ReasonPayTimeout)
	results, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (flashsale.Result, error) {
		order, err := scanOrder(row)
		return resultOf(&order, order.Status, order.Reason), err
	})
	return results, classify("cancel due orders", err)
}

var nextDeadlineSQL = `
SELECT pay_deadline FROM orders o WHERE status = 'unpaid'
    AND (pay_deadline > now() OR ` + notCharged + `)
ORDER BY pay_deadline LIMIT 1`

// NextDeadline returns the earliest pay deadline of an unpaid order, passed or not, and the
// zero time when no order is unpaid. It leaves out what CancelDue would leave out.
func (l *Ledger) NextDeadline(ctx context.Context) (next time.Time, err error) {
	err = l.pool.QueryRow(ctx, nextDeadlineSQL, ChargeGrace.Seconds()).Scan(&next)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, nil
	}
	return next, classify("next pay deadline", err)
}
