package points

import (
	"context"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// Bounds of what the audit reads at once.
const (
	MismatchesMax = 100
	OrdersMax     = 1_000
)

// Figures are what the audit adds up, all of one snapshot. In a sound ledger
// Granted + Refunded = Debited + Balance, Held = Frozen, and there are no mismatches.
type Figures struct {
	Accounts int64
	Granted  int64 // points, by the entries
	Debited  int64 // likewise
	Refunded int64 // likewise
	Balance  int64 // by the accounts, with what is frozen
	Frozen   int64 // by the accounts
	Held     int64 // by the holds
	// Mismatches are rows that contradict each other, MismatchesMax of them at most.
	Mismatches []Mismatch
}

// Mismatch is one row that contradicts the others.
type Mismatch struct {
	Rule    string // account, chain, order or fence
	Subject string // the user or the order number
	Detail  string
}

// String returns the line that an audit prints.
func (m Mismatch) String() string { return m.Rule + " " + m.Subject + ": " + m.Detail }

// Everything is added up from the entries and the holds: the audit must not believe the columns
// that it checks.
const figuresSQL = `
SELECT
    (SELECT count(*) FROM accounts),
    coalesce(sum(points) FILTER (WHERE type = 'grant'), 0)::bigint,
    coalesce(-sum(points) FILTER (WHERE type = 'debit'), 0)::bigint,
    coalesce(sum(points) FILTER (WHERE type = 'refund'), 0)::bigint,
    (SELECT coalesce(sum(balance), 0)::bigint FROM accounts),
    (SELECT coalesce(sum(frozen), 0)::bigint FROM accounts),
    (SELECT coalesce(sum(points), 0)::bigint FROM holds WHERE state = 'held')
FROM entries`

const mismatchesSQL = `
WITH ledger AS (
    SELECT user_id, sum(points) AS balance, count(*) AS entries,
        coalesce(sum(points) FILTER (WHERE type = 'grant'), 0) AS granted
    FROM entries
    GROUP BY user_id
), held AS (
    SELECT user_id, sum(points) AS points FROM holds WHERE state = 'held' GROUP BY user_id
), chain AS (
    SELECT user_id, sequence, points, balance, row_number() OVER account AS number,
        lag(balance, 1, 0::bigint) OVER account AS before
    FROM entries
    WINDOW account AS (PARTITION BY user_id ORDER BY sequence)
), moved AS (
    SELECT order_no, min(user_id) AS user_id, count(DISTINCT user_id) AS users,
        count(*) FILTER (WHERE type = 'debit') AS debits,
        count(*) FILTER (WHERE type = 'refund') AS refunds,
        coalesce(-sum(points) FILTER (WHERE type = 'debit'), 0) AS debit,
        coalesce(sum(points) FILTER (WHERE type = 'refund'), 0) AS refund,
        max(trade_no) FILTER (WHERE type = 'debit') AS trade_no
    FROM entries
    WHERE order_no IS NOT NULL
    GROUP BY order_no
), due AS (
    SELECT order_no, user_id, state, points, trade_no,
        state IN ('confirmed', 'refunded') AS debited, state = 'refunded' AS refunded
    FROM holds
), fenced AS (
    SELECT order_no, string_agg(step, '+' ORDER BY step) AS steps FROM fences GROUP BY order_no
)
SELECT 'account' AS rule, a.user_id::text AS subject,
    format('balance %s, frozen %s, granted %s, sequence %s; entries and holds say %s, %s, %s, %s',
        a.balance, a.frozen, a.granted, a.sequence, coalesce(l.balance, 0),
        coalesce(h.points, 0), coalesce(l.granted, 0), coalesce(l.entries, 0)) AS detail
FROM accounts a
LEFT JOIN ledger l ON l.user_id = a.user_id
LEFT JOIN held h ON h.user_id = a.user_id
WHERE (a.balance, a.frozen, a.granted, a.sequence) IS DISTINCT FROM
    (coalesce(l.balance, 0), coalesce(h.points, 0), coalesce(l.granted, 0), coalesce(l.entries, 0))
UNION ALL
SELECT 'chain', c.user_id, format('entry %s is number %s and takes the balance from %s by %s to %s',
    c.sequence, c.number, c.before, c.points, c.balance)
FROM chain c
WHERE c.sequence <> c.number OR c.balance <> c.before + c.points
UNION ALL
SELECT 'order', coalesce(d.order_no, m.order_no)::text,
    format('%s of %s for %s points; %s debits of %s, %s refunds of %s, for %s',
        coalesce(d.state, 'no hold'), d.user_id, d.points, coalesce(m.debits, 0),
        coalesce(m.debit, 0), coalesce(m.refunds, 0), coalesce(m.refund, 0), m.user_id)
FROM due d
FULL JOIN moved m ON m.order_no = d.order_no
WHERE d.order_no IS NULL
    OR coalesce(m.debits, 0) <> d.debited::int
    OR coalesce(m.refunds, 0) <> d.refunded::int
    OR coalesce(m.debit, 0) <> d.points * d.debited::int
    OR coalesce(m.refund, 0) <> d.points * d.refunded::int
    OR m.users > 1 OR m.user_id <> d.user_id OR m.trade_no <> d.trade_no
UNION ALL
SELECT 'fence', coalesce(f.order_no, h.order_no)::text,
    format('fences %s for a payment that is %s', coalesce(f.steps, 'none'),
        coalesce(h.state, 'empty'))
FROM fenced f
FULL JOIN holds h ON h.order_no = f.order_no
WHERE f.steps IS DISTINCT FROM CASE h.state
    WHEN 'held' THEN 'try'
    WHEN 'confirmed' THEN 'confirm+try'
    WHEN 'refunded' THEN 'confirm+try'
    ELSE 'cancel+try' END
ORDER BY rule, subject
LIMIT $1`

// Figures adds up the whole ledger. It reads every row, so it is for audits.
func (l *Ledger) Figures(ctx context.Context) (f Figures, err error) {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = l.transact(ctx, "points figures", snapshot, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, figuresSQL).Scan(&f.Accounts, &f.Granted, &f.Debited,
			&f.Refunded, &f.Balance, &f.Frozen, &f.Held)
		if err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, mismatchesSQL, MismatchesMax) // its error comes with the rows
		f.Mismatches, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Mismatch])
		return err
	})
	return f, err
}

// OrderFigures are the points that one order has moved, by the entries.
type OrderFigures struct {
	OrderNo flashsale.OrderNo
	User    string
	State   State
	Points  int64 // that it holds or held
	TradeNo int64
	Debit   int64 // points taken
	Refund  int64 // points put back
}

const ordersSQL = `
SELECT h.order_no, h.user_id, h.state, h.points, h.trade_no,
    coalesce(-sum(e.points) FILTER (WHERE e.type = 'debit'), 0)::bigint,
    coalesce(sum(e.points) FILTER (WHERE e.type = 'refund'), 0)::bigint
FROM (SELECT * FROM holds WHERE order_no > $1 ORDER BY order_no LIMIT $2) h
LEFT JOIN entries e ON e.order_no = h.order_no
GROUP BY h.order_no, h.user_id, h.state, h.points, h.trade_no
ORDER BY h.order_no`

// Orders returns the figures of the orders after a number (0: from the first on), in ascending
// order, at most limit of them, which is from 1 to OrdersMax: an audit compares them, page by
// page, with the orders that say they were paid with points. Empty rollbacks are left out.
func (l *Ledger) Orders(
	ctx context.Context, after flashsale.OrderNo, limit int,
) ([]OrderFigures, error) {
	if after < 0 {
		return nil, invalid("the order number %d must not be negative", int64(after))
	}
	if limit < 1 || limit > OrdersMax {
		return nil, invalid("the limit must be from 1 to %d, is %d", OrdersMax, limit)
	}
	rows, _ := l.pool.Query(ctx, ordersSQL, after, limit) // its error comes with the rows
	orders, err := pgx.CollectRows(rows, pgx.RowToStructByPos[OrderFigures])
	return orders, classify("points by order", err)
}
