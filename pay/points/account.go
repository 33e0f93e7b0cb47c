package points

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// Bounds of what comes in; the schema repeats them as constraints.
const (
	PointsMax  = 1_000_000_000_000     // of one grant or hold
	GrantedMax = 1_000_000_000_000_000 // that one user may ever be given
	EntriesMax = 100                   // of one page
)

// Account is what a user has. The zero account is that of a user who was never given points.
type Account struct {
	User    string
	Balance int64 // the sum of the entries
	Frozen  int64 // the part of it that is held for orders
}

// Free is what the user can spend.
func (a Account) Free() int64 { return a.Balance - a.Frozen }

// EntryType says what moved points.
type EntryType string

// The types of entries.
const (
	EntryGrant  EntryType = "grant"
	EntryDebit  EntryType = "debit"
	EntryRefund EntryType = "refund"
)

// Entry is one movement of points. Entries are never changed.
type Entry struct {
	Sequence int64 // the how manieth of the user
	Type     EntryType
	OrderNo  flashsale.OrderNo // 0: a grant
	Ref      string            // the reference of a grant, the number of a refund
	TradeNo  int64
	Points   int64 // added to the balance; negative for a debit
	Balance  int64 // after this entry
	At       time.Time
}

// The account is locked before the entry is written, and a reference that is there already
// makes the whole step roll back.
const grantSQL = `
WITH account AS (
    INSERT INTO accounts AS a (user_id, balance, granted, sequence) VALUES ($1, $2, $2, 1)
    ON CONFLICT (user_id) DO UPDATE
    SET balance = a.balance + $2, granted = a.granted + $2, sequence = a.sequence + 1
    WHERE a.granted + $2 <= $5
    RETURNING user_id, sequence, balance
)
INSERT INTO entries (user_id, sequence, balance, points, trade_no, type, ref)
SELECT user_id, sequence, balance, $2, $3, 'grant', $4 FROM account
ON CONFLICT ON CONSTRAINT entries_ref_once DO NOTHING`

// Grant gives points to a user, once for each reference: 1 to 128 characters of
// [A-Za-z0-9_.:@+/=-]. The outcome is Granted, AlreadyGranted or LimitReached.
func (l *Ledger) Grant(ctx context.Context, user string, points int64, ref string) (Outcome, error) {
	if err := validate(user, points); err != nil {
		return 0, err
	}
	if !flashsale.ValidIdempotencyKey(ref) {
		return 0, invalid("the reference %.130q of a grant is not valid", ref)
	}
	operation := fmt.Sprintf("grant %s %d points by %s", user, points, ref)
	tradeNo, err := l.tradeNo(operation)
	if err != nil {
		return 0, err
	}
	return l.step(ctx, operation, func(tx pgx.Tx) (Outcome, error) {
		granted, err := write(ctx, tx, grantSQL, user, points, tradeNo, ref, int64(GrantedMax))
		if err != nil {
			return 0, err
		}
		if granted {
			return Granted, nil
		}
		var same bool
		err = tx.QueryRow(ctx, `
SELECT user_id = $2 AND points = $3 FROM entries WHERE type = 'grant' AND ref = $1`,
			ref, user, points).Scan(&same)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return LimitReached, nil
		case err != nil:
			return 0, err
		case !same:
			return 0, fmt.Errorf("%w: the reference stands for another grant", flashsale.ErrConflict)
		}
		return AlreadyGranted, nil
	})
}

// Account returns what the user has, nothing if the ledger does not know him.
func (l *Ledger) Account(ctx context.Context, user string) (Account, error) {
	account := Account{User: user}
	if err := validateUser(user); err != nil {
		return Account{}, err
	}
	err := l.pool.QueryRow(ctx, `SELECT balance, frozen FROM accounts WHERE user_id = $1`, user).
		Scan(&account.Balance, &account.Frozen)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Account{}, classify("account of "+user, err)
	}
	return account, nil
}

const entriesSQL = `
SELECT sequence, type, coalesce(order_no, 0), coalesce(ref, ''), trade_no, points, balance, created_at
FROM entries
WHERE user_id = $1 AND ($2 = 0::bigint OR sequence < $2)
ORDER BY sequence DESC
LIMIT $3`

// Entries returns a user's entries, newest first, older than the sequence before (0: from the
// newest on), at most limit of them, which is from 1 to EntriesMax.
func (l *Ledger) Entries(ctx context.Context, user string, before int64, limit int) ([]Entry, error) {
	if err := validateUser(user); err != nil {
		return nil, err
	}
	if before < 0 {
		return nil, invalid("entries before %d: the sequence must not be negative", before)
	}
	if limit < 1 || limit > EntriesMax {
		return nil, invalid("the limit must be from 1 to %d, is %d", EntriesMax, limit)
	}
	rows, _ := l.pool.Query(ctx, entriesSQL, user, before, limit) // its error comes with the rows
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Entry, err error) {
		return e, row.Scan(&e.Sequence, &e.Type, &e.OrderNo, &e.Ref, &e.TradeNo, &e.Points, &e.Balance, &e.At)
	})
	return entries, classify("entries of "+user, err)
}

func validate(user string, points int64) error {
	if points < 1 || points > PointsMax {
		return invalid("points must be from 1 to %d, are %d", int64(PointsMax), points)
	}
	return validateUser(user)
}

func validateUser(user string) error {
	if !flashsale.ValidUser(user) {
		return invalid("the user id %.66q is not valid", user)
	}
	return nil
}
