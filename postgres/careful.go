package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

const insertOrSkipSQL = insertOrders + `
    ON CONFLICT DO NOTHING
    RETURNING order_no`

const lookUpSQL = `
SELECT coalesce(o.item_id, 0), coalesce(o.user_id, ''), coalesce(o.status, ''),
    coalesce(o.reason, ''), coalesce(i."limit", 0)
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS e (order_no, item_id, place)
LEFT JOIN orders o ON o.order_no = e.order_no
LEFT JOIN items i ON i.id = e.item_id
ORDER BY e.place`

// oweRelease ends a statement whose CTE refused names the orders that became rejected. An item
// that does not exist, or that has left Redis, has nothing to give back to.
const oweRelease = `owed AS (
    INSERT INTO outbox (kind, item_id, order_no, quantity, user_id)
    SELECT 'release', r.item_id, r.order_no, r.quantity, r.user_id
    FROM refused r JOIN items i ON i.id = r.item_id AND i.retired_at IS NULL
    ORDER BY r.order_no
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM refused`

const insertRejectedSQL = `
WITH refused AS (
    INSERT INTO orders (order_no, item_id, amount_fen, amount_points, generation, sequence,
        reserved_at, pay_deadline, quantity, single, status, user_id, idempotency_key, reason)
    SELECT e.order_no, e.item_id, 0, 0, e.generation, e.sequence,
        to_timestamp(e.reserved_ms / 1000::float8), now(), e.quantity, false, 'rejected', e.user_id,
        nullif(e.key, ''), e.reason
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
            $7::bigint[], $8::integer[], $9::text[])
        AS e (order_no, item_id, user_id, key, generation, sequence, reserved_ms, quantity, reason)
    ORDER BY e.order_no
    ON CONFLICT DO NOTHING
    RETURNING order_no, item_id, quantity, user_id
), ` + oweRelease

const lockHoldingsSQL = `
INSERT INTO holdings AS h (item_id, user_id, units, "limit")
SELECT DISTINCT e.item_id, e.user_id, 0, i."limit"
FROM unnest($1::bigint[], $2::text[]) AS e (item_id, user_id)
JOIN items i ON i.id = e.item_id
WHERE i."limit" > 1
ORDER BY 1, 2
ON CONFLICT (item_id, user_id) DO UPDATE SET units = h.units
RETURNING item_id, user_id, units`

const lockItemsSQL = `
SELECT id, stock, "limit", generation FROM items WHERE id = ANY ($1)
ORDER BY id FOR NO KEY UPDATE`

const rejectInsertedSQL = `
WITH refused AS (
    UPDATE orders o
    SET status = 'rejected', reason = e.reason, amount_fen = 0, amount_points = 0
    FROM unnest($1::bigint[], $2::text[]) AS e (order_no, reason)
    WHERE o.order_no = e.order_no AND o.status = 'unpaid'
    RETURNING o.order_no, o.item_id, o.quantity, o.user_id
), ` + oweRelease

const takeStockSQL = `
UPDATE items i SET stock = i.stock - e.units, sequence = greatest(i.sequence, e.sequence)
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS e (id, units, sequence)
WHERE i.id = e.id`

// markRolledBackSQL looks for orders with the sequence of another one.
const markRolledBackSQL = `
UPDATE items i SET rolled_back = true
WHERE NOT i.rolled_back AND EXISTS (
    SELECT FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
        AS e (order_no, item_id, generation, sequence)
    JOIN orders o ON o.item_id = e.item_id AND o.generation = e.generation
        AND o.sequence = e.sequence AND o.order_no <> e.order_no
    WHERE e.item_id = i.id AND e.generation = i.generation AND e.sequence > 0)
    AND i.id = ANY ($2)`

const setHoldingsSQL = `
UPDATE holdings h SET units = e.units
FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS e (item_id, user_id, units)
WHERE h.item_id = e.item_id AND h.user_id = e.user_id`

// A collision is recorded once, however often it is delivered, and so is released once.
const insertCollidedSQL = `
WITH refused AS (
    INSERT INTO collisions (order_no, item_id, generation, sequence, reserved_at, quantity, user_id)
    SELECT e.order_no, e.item_id, e.generation, e.sequence,
        to_timestamp(e.reserved_ms / 1000::float8), e.quantity, e.user_id
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
            $7::bigint[], $8::integer[])
        AS e (order_no, item_id, user_id, key, generation, sequence, reserved_ms, quantity)
    ORDER BY e.order_no, e.item_id, e.user_id
    ON CONFLICT DO NOTHING
    RETURNING order_no, item_id, quantity, user_id
), ` + oweRelease

// The reasons of a rejection that are no outcome. An order was accepted by a Redis that lost its
// memory, and its item was rebuilt: its units are on sale again. Or its number is that of another
// order, as when two processes share a node id.
const (
	reasonRebuilt     = "rebuilt"
	reasonNumberTaken = "number_taken"
)

// carefulTries is how often a batch is decided anew after errChangedMeanwhile. The other worker
// has committed by then, so the second try sees what it did.
const carefulTries = 3

// errChangedMeanwhile ends a careful transaction that met an order in another state than a
// moment before: another worker is at the same batch. It is transient.
var errChangedMeanwhile = errors.New("an order changed meanwhile")

// carefully is one run of persistCarefully: a transaction and what it found out.
type carefully struct {
	tx       pgx.Tx
	collided batch // with a number that another order has
	results  map[purchase]flashsale.Result
	accounts map[flashsale.ItemID]*account
}

// account is an item's row while this transaction holds it.
type account struct {
	stock, limit, generation int64
	taken, sequence          int64
}

type holder struct {
	item flashsale.ItemID
	user string
}

// rejection is a set of orders to reject and why, ascending by order_no.
type rejection struct {
	orders  batch
	reasons []string
}

func (r *rejection) add(order *flashsale.Order, reason string) {
	r.orders, r.reasons = append(r.orders, order), append(r.reasons, reason)
}

// persistCarefully decides a batch order by order, in one transaction of up to nine
// statements: what happens after a redelivery, or when Redis accepted what the ledger cannot.
// It inserts what no unique index refuses, finds out about the rest, then locks the stock it
// takes and rejects what does not fit.
func (l *Ledger) persistCarefully(
	ctx context.Context, orders, collided batch,
) (map[purchase]flashsale.Result, error) {
	c := carefully{
		results:  make(map[purchase]flashsale.Result, len(orders)+len(collided)),
		accounts: make(map[flashsale.ItemID]*account),
	}
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		c.tx = tx
		return c.persist(ctx, orders, collided)
	})
	if err != nil {
		return nil, err
	}
	for item, account := range c.accounts {
		if account.limit > 1 {
			l.many.Store(item, struct{}{})
		}
	}
	rejected := make(map[string]int)
	for _, result := range c.results {
		if result.Status == flashsale.Rejected {
			rejected[result.Reason]++
		}
	}
	if len(rejected) > 0 {
		l.logger.WarnContext(ctx, "batch holds rejected orders",
			"orders", len(orders), "rejected", rejected)
	}
	return c.results, nil
}

func (c *carefully) persist(ctx context.Context, orders, collided batch) error {
	inserted, rest, err := c.insert(ctx, orders)
	if err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	refused, err := c.lookUp(ctx, rest, collided)
	if err != nil {
		return fmt.Errorf("look up: %w", err)
	}
	if err := c.insertRejected(ctx, refused); err != nil {
		return fmt.Errorf("reject: %w", err)
	}
	if err := c.insertCollided(ctx); err != nil {
		return fmt.Errorf("reject collided: %w", err)
	}
	if err := c.admit(ctx, inserted, slices.Concat(refused.orders, c.collided)); err != nil {
		return fmt.Errorf("admit: %w", err)
	}
	return nil
}

// insert stores the orders that no unique index refuses, as unpaid until admit has decided.
func (c *carefully) insert(ctx context.Context, orders batch) (inserted, rest batch, err error) {
	rows, _ := c.tx.Query(ctx, insertOrSkipSQL, // its error comes with the rows
		append(orders.columns(), orders.quantities())...)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, nil, err
	}
	isInserted := make(map[flashsale.OrderNo]bool, len(numbers))
	for _, number := range numbers {
		isInserted[flashsale.OrderNo(number)] = true
	}
	for _, order := range orders {
		if isInserted[order.OrderNo] {
			inserted = append(inserted, order)
		} else {
			rest = append(rest, order)
		}
	}
	return inserted, rest, nil
}

// lookUp finds out why orders were not inserted: redelivered, or to be rejected. Of two orders
// with one number the ledger's own, if it has one, keeps it; else the one that was not collided.
func (c *carefully) lookUp(ctx context.Context, rest, collided batch) (refused rejection, err error) {
	asked := slices.Concat(rest, collided)
	if len(asked) == 0 {
		return refused, nil
	}
	numbers, items := make([]int64, len(asked)), make([]int64, len(asked))
	for i, order := range asked {
		numbers[i], items[i] = int64(order.OrderNo), int64(order.ItemID)
	}
	var (
		item         int64
		user, reason string
		status       flashsale.Status
		limit, next  int
	)
	rows, _ := c.tx.Query(ctx, lookUpSQL, numbers, items)
	_, err = pgx.ForEachRow(rows, []any{&item, &user, &status, &reason, &limit}, func() error {
		order := asked[next] // rows come in the order asked
		next++
		switch {
		case status != "" && (flashsale.ItemID(item) != order.ItemID || user != order.User),
			status == "" && next > len(rest):
			c.collided = append(c.collided, order)
		case status != "":
			c.results[purchaseOf(order)] = resultOf(order, status, reason)
		case limit == 0:
			refused.add(order, flashsale.ItemNotFound.String())
		case order.Quantity > limit:
			refused.add(order, flashsale.LimitReached.String())
		case limit == 1:
			refused.add(order, flashsale.DuplicateOrder.String())
		default: // nothing but its own order_no, or a changed limit, could refuse it
			return errChangedMeanwhile
		}
		return nil
	})
	return refused, err
}

// insertRejected records orders that were never admitted. Only a row that this transaction
// inserts owes a release: another worker may have persisted the same order a moment ago.
func (c *carefully) insertRejected(ctx context.Context, refused rejection) error {
	if len(refused.orders) == 0 {
		return nil
	}
	var count int
	args := append(refused.orders.columns(), refused.orders.quantities(), refused.reasons)
	if err := c.tx.QueryRow(ctx, insertRejectedSQL, args...).Scan(&count); err != nil {
		return err
	}
	return c.rejected(refused, count)
}

// insertCollided rejects the orders whose number another order has. They have no row among the
// orders, but their units come back and their sequences count.
func (c *carefully) insertCollided(ctx context.Context) error {
	if len(c.collided) == 0 {
		return nil
	}
	if _, err := c.tx.Exec(ctx, insertCollidedSQL,
		append(c.collided.columns(), c.collided.quantities())...); err != nil {
		return err
	}
	for _, order := range c.collided {
		c.results[purchaseOf(order)] = resultOf(order, flashsale.Rejected, reasonNumberTaken)
	}
	return nil
}

// rejected notes the results of a rejection of which count rows were written.
func (c *carefully) rejected(refused rejection, count int) error {
	if count != len(refused.orders) {
		return errChangedMeanwhile
	}
	for i, order := range refused.orders {
		c.results[purchaseOf(order)] = resultOf(order, flashsale.Rejected, refused.reasons[i])
	}
	return nil
}

// admit gives the inserted orders their units, in order while the limit and the stock allow,
// and rejects the others.
func (c *carefully) admit(ctx context.Context, inserted, refused batch) error {
	if len(inserted)+len(refused) == 0 {
		return nil
	}
	held, err := c.lock(ctx, inserted, refused)
	if err != nil {
		return err
	}
	var over rejection
	for _, order := range inserted {
		account, ok := c.accounts[order.ItemID]
		if !ok {
			return errChangedMeanwhile // the item was deleted by hand
		}
		units, key := int64(order.Quantity), holder{order.ItemID, order.User}
		switch {
		case order.Generation < account.generation:
			over.add(order, reasonRebuilt)
		case account.limit > 1 && held[key]+units > account.limit:
			over.add(order, flashsale.LimitReached.String())
		case account.stock < units:
			over.add(order, flashsale.SoldOut.String())
		default:
			account.stock, account.taken = account.stock-units, account.taken+units
			if account.limit > 1 {
				held[key] += units
			}
			c.results[purchaseOf(order)] = resultOf(order, flashsale.Unpaid, "")
		}
	}
	for _, orders := range []batch{inserted, refused} {
		for _, order := range orders {
			// A rejected order, too, shows how far Redis has counted.
			account, ok := c.accounts[order.ItemID]
			if ok && order.Generation == account.generation {
				account.sequence = max(account.sequence, order.Sequence)
			}
		}
	}
	return c.write(ctx, held, over, slices.Concat(inserted, refused))
}

// lock takes the rows that admit decides on: holdings first, then items, each in order.
func (c *carefully) lock(ctx context.Context, inserted, refused batch) (map[holder]int64, error) {
	items := make([]int64, 0, len(inserted)+len(refused))
	users := make([]string, 0, len(inserted))
	for _, order := range inserted {
		items, users = append(items, int64(order.ItemID)), append(users, order.User)
	}
	held := make(map[holder]int64)
	var (
		id, units int64
		user      string
	)
	rows, _ := c.tx.Query(ctx, lockHoldingsSQL, items, users)
	_, err := pgx.ForEachRow(rows, []any{&id, &user, &units}, func() error {
		held[holder{flashsale.ItemID(id), user}] = units
		return nil
	})
	if err != nil {
		return nil, err
	}

	for _, order := range refused { // their sequences count as well
		items = append(items, int64(order.ItemID))
	}
	var row account
	rows, _ = c.tx.Query(ctx, lockItemsSQL, items)
	_, err = pgx.ForEachRow(rows, []any{&id, &row.stock, &row.limit, &row.generation}, func() error {
		locked := row
		c.accounts[flashsale.ItemID(id)] = &locked
		return nil
	})
	return held, err
}

// write carries the decisions of admit out, in one round trip.
func (c *carefully) write(ctx context.Context, held map[holder]int64, over rejection, all batch) error {
	var rejected int
	writes := &pgx.Batch{}
	if len(over.orders) > 0 {
		numbers := make([]int64, len(over.orders))
		for i, order := range over.orders {
			numbers[i] = int64(order.OrderNo)
		}
		writes.Queue(rejectInsertedSQL, numbers, over.reasons).QueryRow(func(row pgx.Row) error {
			return row.Scan(&rejected)
		})
	}
	if len(held) > 0 {
		var items, units []int64
		var users []string
		for key, sum := range held {
			items, users = append(items, int64(key.item)), append(users, key.user)
			units = append(units, sum)
		}
		writes.Queue(setHoldingsSQL, items, users, units)
	}
	var items, taken, sequences []int64
	for id, account := range c.accounts {
		items, taken = append(items, int64(id)), append(taken, account.taken)
		sequences = append(sequences, account.sequence)
	}
	writes.Queue(takeStockSQL, items, taken, sequences)
	columns := all.columns()
	writes.Queue(markRolledBackSQL, columns[0], columns[1], columns[4], columns[5])
	if err := c.tx.SendBatch(ctx, writes).Close(); err != nil {
		return err
	}
	return c.rejected(over, rejected)
}
