package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"flashsale"
)

// storable names the orders with values that no column was made for. An order that passes fits
// the schema: what PostgreSQL then has against it is, as a rule, a fault of the schema.
func storable(orders []flashsale.Order) error {
	var bad []flashsale.Unstorable
	for i := range orders {
		if reason := unstorable(&orders[i]); reason != "" {
			bad = append(bad, flashsale.Unstorable{Index: i, Reason: reason})
		}
	}
	if len(bad) > 0 {
		return &flashsale.UnstorableError{Orders: bad}
	}
	return nil
}

// unstorable returns what is wrong with an order, or "".
func unstorable(order *flashsale.Order) string {
	switch {
	case order.OrderNo <= 0 || order.ItemID <= 0:
		return fmt.Sprintf("order %s of item %s: ids must be positive", order.OrderNo, order.ItemID)
	case order.Quantity < 1 || order.Quantity > math.MaxInt32:
		return fmt.Sprintf("quantity %d must be from 1 to %d", order.Quantity, math.MaxInt32)
	case order.ReservedAt.Year() < 1970 || order.ReservedAt.Year() > 9999:
		return fmt.Sprintf("reserved at %s, outside of the years 1970 to 9999", order.ReservedAt)
	case order.User == "" || utf8.RuneCountInString(order.User) > flashsale.UserLenMax:
		return fmt.Sprintf("user %.80q must have 1 to %d characters", order.User, flashsale.UserLenMax)
	case !isText(order.User):
		return fmt.Sprintf("user %.80q is not text", order.User)
	case !isText(order.IdempotencyKey):
		return fmt.Sprintf("key %.80q is not text", order.IdempotencyKey)
	}
	return ""
}

// isText reports whether PostgreSQL takes it as text.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// refusesValues reports whether PostgreSQL refuses values of a row: a character that it does not
// have, or a CHECK. No other code can be about an order that [storable] has passed.
func refusesValues(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch pgErr.Code {
	case notInRepertoire, untranslatable:
		return true
	case checkViolation: // without a name it is a partition that is missing
		return pgErr.ConstraintName != ""
	}
	return false
}

// blame finds the orders that a refusal is about, and returns the refusal itself when it is not
// about orders. It is about an order if its text alone is at fault: PostgreSQL takes the same
// order of a user with another name. So neither an impossible CHECK nor one about the item, the
// amount or a length is held against an order; and when all orders of a batch fail alike, it is
// not the orders.
func (l *Ledger) blame(
	ctx context.Context, orders []flashsale.Order, suspects batch, refusal error,
) error {
	namesakes := make(batch, len(suspects))
	for i, order := range suspects {
		other := *order
		other.User, other.IdempotencyKey = rename(order.User), rename(order.IdempotencyKey)
		namesakes[i] = &other
	}
	if l.insertTrial(ctx, namesakes) != nil {
		return refusal
	}
	guilty := make(map[purchase]string)
	if err := l.search(ctx, suspects, guilty); err != nil {
		return err
	}
	if len(guilty) == 0 || len(guilty) == len(suspects) && len(suspects) > 1 {
		return refusal
	}
	bad := &flashsale.UnstorableError{}
	for i := range orders {
		if reason, ok := guilty[purchaseOf(&orders[i])]; ok {
			bad.Orders = append(bad.Orders, flashsale.Unstorable{Index: i, Reason: reason})
		}
	}
	return bad
}

// search halves the batch until each order that PostgreSQL refuses stands alone.
func (l *Ledger) search(ctx context.Context, suspects batch, guilty map[purchase]string) error {
	err := l.insertTrial(ctx, suspects)
	switch {
	case err == nil:
		return nil
	case !refusesValues(err):
		return err
	case len(suspects) == 1:
		guilty[purchaseOf(suspects[0])] = err.Error()
		return nil
	}
	half := len(suspects) / 2
	if err := l.search(ctx, suspects[:half], guilty); err != nil {
		return err
	}
	return l.search(ctx, suspects[half:], guilty)
}

// errTrial ends a transaction that was only tried.
var errTrial = errors.New("only tried")

// insertTrial tells whether PostgreSQL takes the orders, and stores none of them.
func (l *Ledger) insertTrial(ctx context.Context, orders batch) error {
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertOrSkipSQL, append(orders.columns(), orders.quantities())...)
		if err != nil {
			return err
		}
		return errTrial
	})
	if errors.Is(err, errTrial) {
		return nil
	}
	return err
}

// rename makes another text of the same length and of the same kinds of characters.
func rename(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return 'a' + (r-'a'+1)%26
		case r >= 'A' && r <= 'Z':
			return 'A' + (r-'A'+1)%26
		case r >= '0' && r <= '9':
			return '0' + (r-'0'+1)%10
		case r < utf8.RuneSelf:
			return r
		}
		return 'x'
	}, text)
}
