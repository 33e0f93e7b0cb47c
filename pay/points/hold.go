package points

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// Hold is what an order asks to freeze.
type Hold struct {
	OrderNo flashsale.OrderNo
	User    string
	Points  int64
	TradeNo int64 // of the debit that a confirm writes; 0: the ledger draws one
}

// State is where a hold stands.
type State string

// The states of a hold. Their edges are drawn in the documentation of the package.
const (
	StateHeld      State = "held"
	StateConfirmed State = "confirmed"
	StateCancelled State = "cancelled"
	StateRefunded  State = "refunded"
)

// Payment is what the ledger knows of an order. After an empty rollback it is only cancelled:
// without user, points and trade number.
type Payment struct {
	Hold
	State         State
	RefundNo      string // "" until refunded
	RefundTradeNo int64  // 0 until refunded
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// step is what a fence stands for. A refund needs none: its entry is unique by itself.
type step string

const (
	stepTry     step = "try"
	stepConfirm step = "confirm"
	stepCancel  step = "cancel"
)

// Try freezes points of a user for an order. The outcome is Held, AlreadyHeld,
// InsufficientPoints (nothing is left behind: try again, or never), AlreadyCancelled (refused,
// because a cancel came first) or AlreadyConfirmed. The same order with another user, other
// points or another trade number is [flashsale.ErrConflict].
func (l *Ledger) Try(ctx context.Context, hold Hold) (Outcome, error) {
	if err := hold.validate(); err != nil {
		return 0, err
	}
	operation := "try order " + hold.OrderNo.String()
	tradeNo := hold.TradeNo
	if tradeNo == 0 {
		drawn, err := l.tradeNo(operation)
		if err != nil {
			return 0, err
		}
		tradeNo = drawn
	}
	return l.step(ctx, operation, func(tx pgx.Tx) (Outcome, error) {
		first, err := fence(ctx, tx, hold.OrderNo, stepTry)
		if err != nil {
			return 0, err
		}
		if !first {
			return hold.again(ctx, tx)
		}
		enough, err := write(ctx, tx, `
UPDATE accounts SET frozen = frozen + $2 WHERE user_id = $1 AND balance - frozen >= $2`,
			hold.User, hold.Points)
		if err != nil {
			return 0, err
		}
		if !enough {
			return InsufficientPoints, nil
		}
		_, err = write(ctx, tx, `
INSERT INTO holds (order_no, user_id, points, trade_no, state) VALUES ($1, $2, $3, $4, 'held')`,
			hold.OrderNo, hold.User, hold.Points, tradeNo)
		return Held, err
	})
}

// again answers a try whose fence is there.
func (h Hold) again(ctx context.Context, tx pgx.Tx) (Outcome, error) {
	found, err := payment(ctx, tx, h.OrderNo)
	if err != nil {
		return 0, err
	}
	first := found.Hold
	if h.TradeNo == 0 {
		h.TradeNo = first.TradeNo
	}
	// An empty rollback does not know what it has cancelled.
	if emptied := first.User == ""; !emptied && h != first {
		return 0, fmt.Errorf("%w: it has tried %d points of %s before, with trade number %d",
			flashsale.ErrConflict, first.Points, first.User, first.TradeNo)
	}
	switch found.State {
	case StateHeld:
		return AlreadyHeld, nil
	case StateCancelled:
		return AlreadyCancelled, nil
	default:
		return AlreadyConfirmed, nil
	}
}

// Confirm takes the points that an order holds and writes the debit. The outcome is Confirmed,
// AlreadyConfirmed, NotHeld or AlreadyCancelled.
func (l *Ledger) Confirm(ctx context.Context, orderNo flashsale.OrderNo) (Outcome, error) {
	if err := validateOrderNo(orderNo); err != nil {
		return 0, err
	}
	return l.step(ctx, "confirm order "+orderNo.String(), func(tx pgx.Tx) (Outcome, error) {
		first, err := fence(ctx, tx, orderNo, stepConfirm)
		if err != nil {
			return 0, err
		}
		if !first {
			return AlreadyConfirmed, nil
		}
		hold, moved, err := move(ctx, tx, orderNo, StateHeld, StateConfirmed)
		if err != nil {
			return 0, err
		}
		if !moved {
			state, err := standing(ctx, tx, orderNo)
			if state == StateCancelled {
				return AlreadyCancelled, err
			}
			// It may be held by now: its try was not done when we looked for it.
			return NotHeld, err
		}
		return Confirmed, book(ctx, tx, `
WITH account AS (
    UPDATE accounts SET balance = balance - $2, frozen = frozen - $2, sequence = sequence + 1
    WHERE user_id = $1
    RETURNING user_id, sequence, balance
)
INSERT INTO entries (user_id, sequence, balance, points, trade_no, type, order_no)
SELECT user_id, sequence, balance, -$2::bigint, $3, 'debit', $4 FROM account`,
			hold.User, hold.Points, hold.TradeNo, orderNo)
	})
}

// Cancel sets the points that an order holds free. The outcome is Cancelled, AlreadyCancelled,
// EmptyRollback (there was no try; a later one is refused) or AlreadyConfirmed (it cannot be
// cancelled any more).
func (l *Ledger) Cancel(ctx context.Context, orderNo flashsale.OrderNo) (Outcome, error) {
	if err := validateOrderNo(orderNo); err != nil {
		return 0, err
	}
	return l.step(ctx, "cancel order "+orderNo.String(), func(tx pgx.Tx) (Outcome, error) {
		first, err := fence(ctx, tx, orderNo, stepCancel)
		if err != nil {
			return 0, err
		}
		if !first {
			return AlreadyCancelled, nil
		}
		// Taking the place of the try is what decides a race: a try under way is waited for,
		// and after us there is none.
		empty, err := fence(ctx, tx, orderNo, stepTry)
		if err != nil {
			return 0, err
		}
		if empty {
			return EmptyRollback, nil
		}
		hold, moved, err := move(ctx, tx, orderNo, StateHeld, StateCancelled)
		if err != nil {
			return 0, err
		}
		if !moved {
			return AlreadyConfirmed, nil
		}
		return Cancelled, book(ctx, tx, `UPDATE accounts SET frozen = frozen - $2 WHERE user_id = $1`,
			hold.User, hold.Points)
	})
}

// Refund puts back what an order has paid, all of it and once. refundNo is 1 to 128 characters
// of [A-Za-z0-9_.:@+/=-] and names no other order's refund. The outcome is Refunded,
// AlreadyRefunded (by whatever number), NotHeld, NotConfirmed or AlreadyCancelled.
func (l *Ledger) Refund(
	ctx context.Context, orderNo flashsale.OrderNo, refundNo string,
) (Outcome, error) {
	if err := validateOrderNo(orderNo); err != nil {
		return 0, err
	}
	if !flashsale.ValidIdempotencyKey(refundNo) {
		return 0, invalid("the refund number %.130q is not valid", refundNo)
	}
	operation := fmt.Sprintf("refund order %s by %s", orderNo, refundNo)
	tradeNo, err := l.tradeNo(operation)
	if err != nil {
		return 0, err
	}
	return l.step(ctx, operation, func(tx pgx.Tx) (Outcome, error) {
		hold, moved, err := move(ctx, tx, orderNo, StateConfirmed, StateRefunded)
		if err != nil {
			return 0, err
		}
		if !moved {
			state, err := standing(ctx, tx, orderNo)
			switch state {
			case "":
				return NotHeld, err
			case StateCancelled:
				return AlreadyCancelled, err
			case StateRefunded:
				return AlreadyRefunded, err
			default: // held, or confirmed since we looked for it
				return NotConfirmed, err
			}
		}
		return Refunded, book(ctx, tx, `
WITH account AS (
    UPDATE accounts SET balance = balance + $2, sequence = sequence + 1
    WHERE user_id = $1
    RETURNING user_id, sequence, balance
)
INSERT INTO entries (user_id, sequence, balance, points, trade_no, type, order_no, ref)
SELECT user_id, sequence, balance, $2, $3, 'refund', $4, $5 FROM account`,
			hold.User, hold.Points, tradeNo, orderNo, refundNo)
	})
}

// Payment returns what the ledger knows of an order, [flashsale.ErrNotFound] if nothing.
func (l *Ledger) Payment(ctx context.Context, orderNo flashsale.OrderNo) (Payment, error) {
	if err := validateOrderNo(orderNo); err != nil {
		return Payment{}, err
	}
	found, err := payment(ctx, l.pool, orderNo)
	return found, classify("payment of order "+orderNo.String(), err)
}

// fence inserts the fence of a step and reports whether it was not there. A transaction that is
// just inserting it is waited for; the next statement then sees all that it has done.
func fence(ctx context.Context, tx pgx.Tx, orderNo flashsale.OrderNo, s step) (first bool, err error) {
	return write(ctx, tx, `
INSERT INTO fences (order_no, step) VALUES ($1, $2) ON CONFLICT (order_no, step) DO NOTHING`,
		orderNo, string(s))
}

// move takes a hold from one state to the next and reports whether it was in the first.
func move(
	ctx context.Context, tx pgx.Tx, orderNo flashsale.OrderNo, from, to State,
) (hold Hold, moved bool, err error) {
	hold.OrderNo = orderNo
	err = tx.QueryRow(ctx, `
UPDATE holds SET state = $3, updated_at = now() WHERE order_no = $1 AND state = $2
RETURNING user_id, points, trade_no`, orderNo, string(from), string(to)).
		Scan(&hold.User, &hold.Points, &hold.TradeNo)
	if errors.Is(err, pgx.ErrNoRows) {
		return Hold{}, false, nil
	}
	return hold, err == nil, err
}

// book runs the statement that changes the account of a hold, which is there by foreign key.
func book(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	booked, err := write(ctx, tx, sql, args...)
	if err == nil && !booked {
		return errors.New("the account of the hold is gone")
	}
	return err
}

// standing returns the state of an order's hold, "" if it has none.
func standing(ctx context.Context, tx pgx.Tx, orderNo flashsale.OrderNo) (State, error) {
	found, err := payment(ctx, tx, orderNo)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return found.State, err
}

// The fence of the try is there whenever anything is: a try or an empty rollback set it.
const paymentSQL = `
SELECT coalesce(h.user_id, ''), coalesce(h.points, 0), coalesce(h.trade_no, 0),
    coalesce(h.state, 'cancelled'), coalesce(e.ref, ''), coalesce(e.trade_no, 0),
    f.created_at, coalesce(h.updated_at, f.created_at)
FROM fences f
LEFT JOIN holds h ON h.order_no = f.order_no
LEFT JOIN entries e ON e.order_no = f.order_no AND e.type = 'refund'
WHERE f.order_no = $1 AND f.step = 'try'`

func payment(ctx context.Context, from interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, orderNo flashsale.OrderNo,
) (p Payment, err error) {
	p.OrderNo = orderNo
	err = from.QueryRow(ctx, paymentSQL, orderNo).Scan(&p.User, &p.Points, &p.TradeNo,
		&p.State, &p.RefundNo, &p.RefundTradeNo, &p.CreatedAt, &p.UpdatedAt)
	return p, err
}

func (h Hold) validate() error {
	if err := validateOrderNo(h.OrderNo); err != nil {
		return err
	}
	if h.TradeNo < 0 {
		return invalid("the trade number %d must not be negative", h.TradeNo)
	}
	return validate(h.User, h.Points)
}

func validateOrderNo(orderNo flashsale.OrderNo) error {
	if orderNo < 1 {
		return invalid("the order number %d must be positive", int64(orderNo))
	}
	return nil
}
