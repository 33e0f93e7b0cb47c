package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"flashsale"
)

// The parts that the fast statements share. per adds the inserted orders up; locked takes the
// items' rows in the order of their ids, whatever plan the UPDATE gets; taken is the one update
// an item. items_stock is checked on the newest version of the row. An order of an older
// generation was accepted by a Redis that lost its memory, and its units are on sale again: it
// makes the stock negative, so that the careful road rejects it. doubled looks for a sequence that
// another order of the generation has, which proves that Redis was rolled back; as sequences
// ascend, there is nothing to look for but where one is not above all that were seen before.
const (
	perItem = `per AS (
    SELECT item_id, generation, count(*) AS orders, sum(quantity) AS units, max(sequence) AS sequence,
        min(sequence) AS first
    FROM ins GROUP BY item_id, generation
)`
	takeStock = `taken AS (
    UPDATE items i
    SET stock = CASE WHEN s.outdated THEN -1 ELSE i.stock - s.units END,
        sequence = greatest(i.sequence, s.sequence), rolled_back = i.rolled_back OR s.doubled
    FROM (SELECT l.id, sum(p.units) AS units, bool_or(p.generation < l.generation) AS outdated,
                 max(p.sequence) FILTER (WHERE p.generation = l.generation) AS sequence,
                 bool_or(p.generation = l.generation AND p.first > 0
                     AND (p.orders > p.sequence - p.first + 1
                         OR p.first <= l.sequence AND EXISTS (
                             SELECT FROM ins n JOIN orders o ON o.item_id = n.item_id
                                 AND o.generation = n.generation AND o.sequence = n.sequence
                             WHERE n.item_id = l.id))) AS doubled
          FROM locked l JOIN per p ON p.item_id = l.id GROUP BY l.id) s
    WHERE i.id = s.id
)
SELECT coalesce(sum(orders), 0)::bigint FROM per`
)

// persistSinglesSQL persists orders for one unit of items whose limit is 1: nearly all there
// are. It returns how many it inserted; an order whose item is not of that kind is left out.
// A plain INSERT, without ON CONFLICT, saves a fifth of the whole statement (no second look at
// each unique index, no speculative insertion): a conflict fails the batch, which then takes
// the careful road. Columns without a value in the batch come as NULL arrays, for free.
const persistSinglesSQL = `
WITH ins AS (
    INSERT INTO orders (order_no, item_id, amount_fen, amount_points, generation, sequence,
        reserved_at, pay_deadline, quantity, single, status, user_id, idempotency_key)
    SELECT e.order_no, i.id, i.price_fen, i.points_price, e.generation, e.sequence,
        to_timestamp(e.reserved_ms / 1000::float8), now() + i.pay_timeout, 1, true, 'unpaid',
        e.user_id, nullif(e.key, '')
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
            $7::bigint[])
        AS e (order_no, item_id, user_id, key, generation, sequence, reserved_ms)
    JOIN items i ON i.id = e.item_id
    WHERE i."limit" = 1
    ORDER BY e.order_no
    RETURNING item_id, generation, sequence, quantity
), ` + perItem + `, locked AS (
    SELECT i.id, i.generation, i.sequence FROM items i WHERE i.id IN (SELECT item_id FROM per)
    ORDER BY i.id FOR NO KEY UPDATE
), ` + takeStock

// insertOrders is the INSERT for orders of any item and quantity; those over the limit by
// themselves, or of an unknown item, are left out.
const insertOrders = `
    INSERT INTO orders (order_no, item_id, amount_fen, amount_points, generation, sequence,
        reserved_at, pay_deadline, quantity, single, status, user_id, idempotency_key)
    SELECT e.order_no, i.id, i.price_fen * e.quantity, i.points_price * e.quantity, e.generation,
        e.sequence, to_timestamp(e.reserved_ms / 1000::float8), now() + i.pay_timeout, e.quantity,
        i."limit" = 1, 'unpaid', e.user_id, nullif(e.key, '')
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
            $7::bigint[], $8::integer[])
        AS e (order_no, item_id, user_id, key, generation, sequence, reserved_ms, quantity)
    JOIN items i ON i.id = e.item_id
    WHERE e.quantity <= i."limit"
    ORDER BY e.order_no`

// persistManySQL is persistSinglesSQL for a batch with any other order: it counts what users
// hold where the limit is more than 1, with holdings_within_limit as its guard. Asking for
// held's count first makes it lock holdings before items.
const persistManySQL = `
WITH ins AS (` + insertOrders + `
    RETURNING item_id, user_id, generation, sequence, quantity, single
), held AS (
    INSERT INTO holdings AS h (item_id, user_id, units, "limit")
    SELECT n.item_id, n.user_id, sum(n.quantity), i."limit"
    FROM ins n JOIN items i ON i.id = n.item_id
    WHERE NOT n.single
    GROUP BY n.item_id, n.user_id, i."limit"
    ORDER BY n.item_id, n.user_id
    ON CONFLICT (item_id, user_id)
        DO UPDATE SET units = h.units + excluded.units, "limit" = excluded."limit"
    RETURNING 1
), ` + perItem + `, locked AS (
    SELECT i.id, i.generation, i.sequence FROM items i
    WHERE (SELECT count(*) FROM held) >= 0 AND i.id IN (SELECT item_id FROM per)
    ORDER BY i.id FOR NO KEY UPDATE
), ` + takeStock

// Persist stores a batch of pending orders and returns what became of each, in the order of
// the batch: unpaid, or rejected with a reason (an outcome: sold_out, limit_reached,
// duplicate_order, item_not_found; or rebuilt) and its release owed in the outbox. Of orders that compete
// the one with the lower order_no wins. An order that is in the ledger already is reported as
// it stands now, so a redelivered batch changes nothing.
//
// The whole batch commits before Persist returns, normally in one round trip. A
// [flashsale.UnstorableError] names the orders that can never be stored, such as those whose
// text PostgreSQL refuses: nothing of the batch was stored, and the caller persists the others
// again. On [flashsale.ErrRefused] it is not the orders: schema, rights or settings are wrong, and
// the batch waits until somebody mends them. After any other error it is persisted again, later;
// it may have been committed.
func (l *Ledger) Persist(
	ctx context.Context, orders []flashsale.Order,
) ([]flashsale.Result, error) {
	if len(orders) == 0 {
		return nil, nil
	}
	operation := fmt.Sprintf("persist %d orders", len(orders))
	if err := storable(orders); err != nil {
		return nil, fmt.Errorf("%s: %w", operation, err)
	}
	batch, collided := newBatch(orders)
	results, err := l.persist(ctx, orders, batch, collided)
	if refusesValues(err) {
		err = l.blame(ctx, orders, batch, err)
	}
	return results, classify(operation, err)
}

func (l *Ledger) persist(
	ctx context.Context, orders []flashsale.Order, batch, collided batch,
) ([]flashsale.Result, error) {
	results := make([]flashsale.Result, len(orders))
	if len(collided) == 0 {
		inserted, err := l.persistFast(ctx, batch)
		if err != nil && !refusedByAnOrder(err) {
			return nil, err
		}
		if err == nil && inserted == len(batch) {
			for i := range orders {
				results[i] = resultOf(&orders[i], flashsale.Unpaid, "")
			}
			return results, nil
		}
	}
	for try := 1; ; try++ {
		found, err := l.persistCarefully(ctx, batch, collided)
		if errors.Is(err, errChangedMeanwhile) && try < carefulTries {
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range orders {
			results[i] = found[purchaseOf(&orders[i])]
		}
		return results, nil
	}
}

// persistFast sends the one statement for a batch without surprises.
func (l *Ledger) persistFast(ctx context.Context, batch batch) (inserted int, err error) {
	sql, args := persistSinglesSQL, batch.columns()
	if l.countsHoldings(batch) {
		sql, args = persistManySQL, append(args, batch.quantities())
	}
	err = l.pool.QueryRow(ctx, sql, args...).Scan(&inserted)
	return inserted, err
}

func (l *Ledger) countsHoldings(batch batch) bool {
	var last flashsale.ItemID // neighbours are mostly of one item
	for _, order := range batch {
		if order.Quantity != 1 {
			return true
		}
		if order.ItemID == last {
			continue
		}
		if _, many := l.many.Load(order.ItemID); many {
			return true
		}
		last = order.ItemID
	}
	return false
}

// batch is orders to persist, ascending by order_no, each order_no once. All transactions insert
// in this order, so two that meet at a unique index queue instead of deadlocking.
type batch []*flashsale.Order

// purchase is what tells two orders apart that came under one order_no.
type purchase struct {
	number flashsale.OrderNo
	item   flashsale.ItemID
	user   string
}

func purchaseOf(order *flashsale.Order) purchase {
	return purchase{order.OrderNo, order.ItemID, order.User}
}

// newBatch sorts the orders. What was delivered twice is in the batch once; a further purchase
// under the order_no of another has collided with it.
func newBatch(orders []flashsale.Order) (unique, collided batch) {
	sorted := make(batch, len(orders))
	for i := range orders {
		sorted[i] = &orders[i]
	}
	byNumber := func(a, b *flashsale.Order) int { return cmp.Compare(a.OrderNo, b.OrderNo) }
	if !slices.IsSortedFunc(sorted, byNumber) {
		slices.SortStableFunc(sorted, byNumber)
	}
	unique = sorted[:1]
	for _, order := range sorted[1:] {
		last := unique[len(unique)-1]
		if order.OrderNo != last.OrderNo {
			unique = append(unique, order)
		} else if purchaseOf(order) != purchaseOf(last) {
			collided = append(collided, order)
		}
	}
	return unique, collided
}

// columns are the arguments $1 to $7 of the statements that insert.
func (b batch) columns() []any {
	var (
		numbers     = make([]int64, len(b))
		items       = make([]int64, len(b))
		users       = make([]string, len(b))
		generations = make([]int64, len(b))
		sequences   = make([]int64, len(b))
		reservedMs  = make([]int64, len(b)) // half the cost of timestamps
		keys        []string
	)
	for i, order := range b {
		numbers[i], items[i], users[i] = int64(order.OrderNo), int64(order.ItemID), order.User
		generations[i], sequences[i] = order.Generation, order.Sequence
		reservedMs[i] = order.ReservedAt.UnixMilli()
		if order.IdempotencyKey != "" {
			if keys == nil {
				keys = make([]string, len(b))
			}
			keys[i] = order.IdempotencyKey
		}
	}
	return []any{numbers, items, users, keys, generations, sequences, reservedMs}
}

func (b batch) quantities() []int32 {
	quantities := make([]int32, len(b))
	for i, order := range b {
		quantities[i] = int32(order.Quantity) // storable checked the range
	}
	return quantities
}

func resultOf(order *flashsale.Order, status flashsale.Status, reason string) flashsale.Result {
	return flashsale.Result{
		OrderNo: order.OrderNo, User: order.User, Status: status, Reason: reason,
	}
}
