package baseline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// schema is all that the strategies keep in PostgreSQL. A node that trusts its own check keeps
// its orders where the database checks nothing; the index is there for that check.
const schema = `
CREATE SCHEMA IF NOT EXISTS baseline;
CREATE TABLE IF NOT EXISTS baseline.stock (
    item    bigint PRIMARY KEY,
    stock   bigint NOT NULL,
    version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50); -- one hot row: leave room for its next versions
CREATE TABLE IF NOT EXISTS baseline.orders (
    number bigint PRIMARY KEY,
    item   bigint NOT NULL,
    "user" text NOT NULL
);
CREATE INDEX IF NOT EXISTS orders_item_user ON baseline.orders (item, "user");
CREATE TABLE IF NOT EXISTS baseline.unique_orders (
    number bigint PRIMARY KEY,
    item   bigint NOT NULL,
    "user" text NOT NULL,
    UNIQUE (item, "user")
);`

// Setup creates the tables, once a database.
func Setup(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, schema); err != nil {
		return fmt.Errorf("create the baselines' tables: %w", err)
	}
	return nil
}

// errRefused rolls a transaction back whose outcome is known.
var errRefused = errors.New("refused")

// sqlTimeout bounds one decision in PostgreSQL, with the wait for a connection.
const sqlTimeout = 10 * time.Second

// table is what the strategies in PostgreSQL share.
type table struct {
	pool   *pgxpool.Pool
	item   int64
	orders string // the table with the orders
}

func newTable(s Stores) table {
	return table{pool: s.Database, item: s.Item, orders: "baseline.orders"}
}

// Prepare implements [Strategy].
func (t *table) Prepare(ctx context.Context, stock int64) error {
	_, err := t.pool.Exec(ctx, `INSERT INTO baseline.stock (item, stock) VALUES ($1, $2)`, t.item, stock)
	if err != nil {
		return fmt.Errorf("prepare item %d: %w", t.item, err)
	}
	return nil
}

// State implements [Strategy].
func (t *table) State(ctx context.Context) (state State, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read item %d: %w", t.item, err)
		}
	}()
	err = t.pool.QueryRow(ctx, `SELECT stock FROM baseline.stock WHERE item = $1`, t.item).Scan(&state.Left)
	if err != nil {
		return State{}, err
	}
	rows, err := t.pool.Query(ctx, `SELECT number, "user" FROM `+t.orders+` WHERE item = $1`, t.item)
	if err != nil {
		return State{}, err
	}
	state.Orders, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Order])
	return state, err
}

// Forget implements [Strategy]: a few thousand rows of other items burden nobody.
func (t *table) Forget(context.Context) error { return nil }

// read is what a decision that trusts its own check looks at, of one moment.
func (t *table) read(ctx context.Context, tx pgx.Tx, user string) (stock int64, holds bool, err error) {
	err = tx.QueryRow(ctx, `SELECT stock, EXISTS (SELECT FROM baseline.orders WHERE item = $1 AND "user" = $2)
		FROM baseline.stock WHERE item = $1`, t.item, user).Scan(&stock, &holds)
	return stock, holds, err
}

// write stores what was decided from what was read. Nothing here notices if it is no longer so.
func (t *table) write(ctx context.Context, tx pgx.Tx, stock int64, user string, number int64) error {
	_, err := tx.Exec(ctx, `UPDATE baseline.stock SET stock = $2 WHERE item = $1`, t.item, stock)
	if err != nil {
		return err
	}
	return t.insert(ctx, tx, user, number)
}

func (t *table) insert(ctx context.Context, tx pgx.Tx, user string, number int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO baseline.orders (number, item, "user") VALUES ($1, $2, $3)`,
		number, t.item, user)
	return err
}

// readThenWrite decides in the application and writes the result back: right only while nobody
// else does.
func (t *table) readThenWrite(ctx context.Context, user string, number int64) (outcome Outcome, err error) {
	err = t.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		stock, holds, err := t.read(ctx, tx, user)
		switch {
		case err != nil:
			return err
		case holds:
			outcome = Duplicate
			return errRefused
		case stock < 1:
			outcome = SoldOut
			return errRefused
		}
		outcome = Accepted
		return t.write(ctx, tx, stock-1, user, number)
	})
	return outcome, err
}

// transact commits what a function does, unless it returns an error. errRefused is none.
func (t *table) transact(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, t.pool, func(tx pgx.Tx) error { return do(ctx, tx) })
	if errors.Is(err, errRefused) {
		return nil
	}
	return err
}
