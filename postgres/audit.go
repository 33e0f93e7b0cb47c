package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// auditPage is how many orders one statement of an examination reads: some 10 ms of work, so
// that no statement comes near its timeout however many orders an item has.
const auditPage = 10_000

const auditItemsSQL = `
SELECT ` + itemColumns + `
FROM items i JOIN products p ON p.id = i.product_id
WHERE i.id > $1 AND ($3 OR i.retired_at IS NULL)
ORDER BY i.id LIMIT $2`

// AuditItems returns a page of the items after an id, ascending: those that have not left Redis
// for good, or all.
func (l *Ledger) AuditItems(
	ctx context.Context, after flashsale.ItemID, limit int, all bool,
) ([]flashsale.Item, error) {
	rows, _ := l.pool.Query(ctx, auditItemsSQL, int64(after), limit, all) // its error comes with the rows
	items, err := pgx.CollectRows(rows, scanItem)
	return items, classify("items to audit", err)
}

const auditItemSQL = `
SELECT ` + itemColumns + `, i.sequence, i.retired_at IS NOT NULL
FROM items i JOIN products p ON p.id = i.product_id WHERE i.id = $1`

const discardedSQL = `
SELECT order_no, user_id, quantity, generation, sequence FROM discarded WHERE item_id = $1
UNION ALL
SELECT order_no, user_id, quantity, generation, sequence FROM collisions WHERE item_id = $1
ORDER BY generation, sequence`

const sealsSQL = `SELECT generation, orders, digest FROM seals WHERE item_id = $1`

const unknownSQL = `
SELECT e.order_no FROM unnest($1::bigint[]) AS e (order_no)
WHERE NOT EXISTS (SELECT FROM orders o WHERE o.order_no = e.order_no AND o.item_id = $2)`

// The first condition is what the index understands, the second makes it exact.
const auditOrdersSQL = `
SELECT ` + orderColumns + `, single FROM orders
WHERE item_id = $1 AND (generation, sequence) >= ($2, $3)
    AND (generation, sequence, order_no) > ($2, $3, $4)
ORDER BY generation, sequence, order_no LIMIT $5`

const holdingsPageSQL = `
SELECT user_id, units FROM holdings WHERE item_id = $1 AND user_id > $2
ORDER BY user_id LIMIT $3`

// Examine reads an item and all its orders, in one snapshot. It asks which of the orders in asked
// are not the item's. visit is called with an empty page as soon as the snapshot stands, and then
// with the orders a page at a time, in the order of their generations and sequences; the slice is
// used again for the next page. Everything but Holdings is known from the first call on.
//
// The snapshot lasts as long as visit takes for all pages: about a second for a million orders.
func (l *Ledger) Examine(ctx context.Context, id flashsale.ItemID, asked []flashsale.OrderNo,
	visit func(books *flashsale.ItemBooks, page []flashsale.Order) error,
) (books flashsale.ItemBooks, err error) {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = l.transact(ctx, "examine item "+id.String(), snapshot, func(tx pgx.Tx) error {
		if err := readBooks(ctx, tx, id, asked, &books); err != nil {
			return err
		}
		if err := visit(&books, nil); err != nil {
			return err
		}
		held, err := visitOrders(ctx, tx, &books, visit)
		if err != nil {
			return err
		}
		counted, err := sumHoldings(ctx, tx, id)
		books.Holdings = held == counted
		return err
	})
	return books, err
}

func readBooks(ctx context.Context, tx pgx.Tx, id flashsale.ItemID, asked []flashsale.OrderNo,
	books *flashsale.ItemBooks,
) error {
	fields := append(itemFields(&books.Item), &books.Sequence, &books.Retired)
	if err := tx.QueryRow(ctx, auditItemSQL, int64(id)).Scan(fields...); err != nil {
		return err
	}
	rows, _ := tx.Query(ctx, owedToItemSQL, int64(id)) // its error comes with the rows, as the next ones'
	var err error
	if books.Owed, err = pgx.CollectRows(rows, scanOutboxRow); err != nil {
		return fmt.Errorf("owed: %w", err)
	}
	rows, _ = tx.Query(ctx, discardedSQL, int64(id))
	if books.Discarded, err = pgx.CollectRows(rows, pgx.RowToStructByPos[flashsale.Discarded]); err != nil {
		return fmt.Errorf("discarded: %w", err)
	}
	var generation int64
	var seal flashsale.Seal
	books.Seals = make(map[int64]flashsale.Seal)
	rows, _ = tx.Query(ctx, sealsSQL, int64(id))
	_, err = pgx.ForEachRow(rows, []any{&generation, &seal.Orders, &seal.Digest}, func() error {
		books.Seals[generation] = seal
		return nil
	})
	if err != nil {
		return fmt.Errorf("seals: %w", err)
	}
	var number int64
	books.Unknown = make(map[flashsale.OrderNo]bool)
	for len(asked) > 0 {
		page := asked[:min(len(asked), auditPage)]
		asked = asked[len(page):]
		rows, _ = tx.Query(ctx, unknownSQL, int64s(page), int64(id))
		_, err = pgx.ForEachRow(rows, []any{&number}, func() error {
			books.Unknown[flashsale.OrderNo(number)] = true
			return nil
		})
		if err != nil {
			return fmt.Errorf("unknown orders: %w", err)
		}
	}
	return nil
}

// visitOrders also adds up what users hold of an item whose limit is more than 1, as a number
// that stands for all of them: the sum of their units, each times a hash of the user.
func visitOrders(ctx context.Context, tx pgx.Tx, books *flashsale.ItemBooks,
	visit func(*flashsale.ItemBooks, []flashsale.Order) error,
) (held uint64, err error) {
	var (
		last   flashsale.Order
		single bool
		page   = make([]flashsale.Order, 0, auditPage)
	)
	last.Generation = -1
	for {
		page = page[:0]
		rows, _ := tx.Query(ctx, auditOrdersSQL, int64(books.ID), last.Generation, last.Sequence,
			int64(last.OrderNo), auditPage)
		var order flashsale.Order
		_, err := pgx.ForEachRow(rows, append(orderFields(&order), &single), func() error {
			page = append(page, order)
			if !single && order.Status.Live() {
				held += holdingOf(order.User) * uint64(order.Quantity)
			}
			return nil
		})
		if err != nil {
			return 0, fmt.Errorf("orders: %w", err)
		}
		if len(page) > 0 {
			if err := visit(books, page); err != nil {
				return 0, err
			}
			last = page[len(page)-1]
		}
		if len(page) < auditPage {
			return held, nil
		}
	}
}

func sumHoldings(ctx context.Context, tx pgx.Tx, id flashsale.ItemID) (held uint64, err error) {
	var (
		user  string
		units int64
	)
	for {
		rows, _ := tx.Query(ctx, holdingsPageSQL, int64(id), user, auditPage)
		tag, err := pgx.ForEachRow(rows, []any{&user, &units}, func() error {
			held += holdingOf(user) * uint64(units)
			return nil
		})
		if err != nil {
			return 0, fmt.Errorf("holdings: %w", err)
		}
		if tag.RowsAffected() < auditPage {
			return held, nil
		}
	}
}

func holdingOf(user string) uint64 {
	sum := sha256.Sum256([]byte(user))
	return binary.BigEndian.Uint64(sum[:8])
}

const lookUpOrdersSQL = `
SELECT ` + orderColumns + `,
    EXISTS (SELECT FROM outbox x WHERE x.kind = 'release' AND x.order_no = orders.order_no)
FROM orders WHERE order_no = ANY ($1)`

// LookUp returns those of the orders that the ledger holds, and whether their units are still
// owed to Redis.
func (l *Ledger) LookUp(
	ctx context.Context, numbers []flashsale.OrderNo,
) (map[flashsale.OrderNo]flashsale.OwedOrder, error) {
	found := make(map[flashsale.OrderNo]flashsale.OwedOrder, len(numbers))
	for len(numbers) > 0 {
		page := numbers[:min(len(numbers), auditPage)]
		numbers = numbers[len(page):]
		var order flashsale.OwedOrder
		rows, _ := l.pool.Query(ctx, lookUpOrdersSQL, int64s(page)) // its error comes with the rows
		_, err := pgx.ForEachRow(rows, append(orderFields(&order.Order), &order.Owed), func() error {
			found[order.OrderNo] = order
			return nil
		})
		if err != nil {
			return nil, classify("look up orders", err)
		}
	}
	return found, nil
}

// Owed returns how many effects on Redis are not carried out. What waits for an item's first
// load is left out: a sale may be restocked before it is preheated.
func (l *Ledger) Owed(ctx context.Context) (rows int64, err error) {
	err = l.pool.QueryRow(ctx, outboxLenSQL).Scan(&rows)
	return rows, classify("count what is owed", err)
}

const sealSQL = `
INSERT INTO seals (item_id, generation, orders, digest) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING`

// Seal keeps what the orders of a generation that is over are. The first seal stays.
func (l *Ledger) Seal(
	ctx context.Context, id flashsale.ItemID, generation int64, seal flashsale.Seal,
) error {
	_, err := l.pool.Exec(ctx, sealSQL, int64(id), generation, seal.Orders, seal.Digest)
	return classify("seal item "+id.String(), err)
}

const discardSQL = `
INSERT INTO discarded (item_id, generation, sequence, order_no, quantity, user_id, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`

// Discard keeps that an order which Redis accepted can be no order of the ledger, and why: so its
// sequence is accounted for.
func (l *Ledger) Discard(
	ctx context.Context, item flashsale.ItemID, order flashsale.Discarded, reason string,
) error {
	_, err := l.pool.Exec(ctx, discardSQL, int64(item), order.Generation, order.Sequence,
		int64(order.OrderNo), order.Quantity, order.User, strings.ToValidUTF8(reason, "?"))
	return classify("discard order "+order.OrderNo.String(), err)
}
