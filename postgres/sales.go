package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// SalesMax is how many sales [Ledger.Sales] returns at most.
const SalesMax = 100

// itemColumns is what scanItem reads, from items i joined with products p.
const itemColumns = `i.id, i.sale_id, p.name, i.price_fen, i.points_price, i.total, i.stock, i."limit",
    i.opens_at, i.closes_at, i.pay_timeout, i.paused, i.generation`

const itemSQL = `
SELECT ` + itemColumns + ` FROM items i JOIN products p ON p.id = i.product_id WHERE i.id = $1`

const salesSQL = `
SELECT s.id, s.name, s.opens_at, s.closes_at, ` + itemColumns + `
FROM (SELECT * FROM sales WHERE $1::bigint = 0 OR id = $1 ORDER BY id DESC LIMIT $2) s
JOIN items i ON i.sale_id = s.id
JOIN products p ON p.id = i.product_id
ORDER BY s.id DESC, i.id`

// Products are locked in the order of their names, as two sales may share some.
const upsertProductsSQL = `
INSERT INTO products (name) SELECT DISTINCT name FROM unnest($1::text[]) AS e (name) ORDER BY name
ON CONFLICT (name) DO NOTHING`

const insertItemsSQL = `
INSERT INTO items (sale_id, product_id, opens_at, closes_at, price_fen, points_price, total, stock,
    "limit", pay_timeout)
SELECT s.id, p.id, coalesce(e.opens_at, s.opens_at), coalesce(e.closes_at, s.closes_at),
    e.price_fen, e.points_price, e.total, e.total AS stock, e."limit", e.pay_timeout
FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::integer[], $7::interval[],
        $8::timestamptz[], $9::timestamptz[])
    WITH ORDINALITY AS e (product, price_fen, points_price, total, "limit", pay_timeout, opens_at,
        closes_at, position)
JOIN sales s ON s.id = $1
JOIN products p ON p.name = e.product
ORDER BY e.position`

// CreateSale stores a sale with its items, whose ids ascend in their order, and returns it as
// it stands in the ledger. An item without a window of its own gets that of the sale; every item
// gets its total as stock and generation 0. Products are known by their names.
func (l *Ledger) CreateSale(ctx context.Context, sale flashsale.Sale) (flashsale.Sale, error) {
	if err := sale.Validate(); err != nil {
		return flashsale.Sale{}, fmt.Errorf("create sale: %w", err)
	}
	var (
		n            = len(sale.Items)
		products     = make([]string, n)
		pricesFen    = make([]int64, n)
		pointsPrices = make([]int64, n)
		totals       = make([]int64, n)
		limits       = make([]int32, n)
		payTimeouts  = make([]time.Duration, n)
		opensAt      = make([]*time.Time, n) // nil: as the sale
		closesAt     = make([]*time.Time, n)
		created      []flashsale.Sale
	)
	for i, item := range sale.Items {
		products[i], pricesFen[i], pointsPrices[i] = item.Product, item.PriceFen, item.PointsPrice
		totals[i], payTimeouts[i] = item.Total, item.PayTimeout
		limits[i] = int32(item.Limit)
		if !item.OpensAt.IsZero() {
			opensAt[i] = &sale.Items[i].OpensAt
		}
		if !item.ClosesAt.IsZero() {
			closesAt[i] = &sale.Items[i].ClosesAt
		}
	}
	err := l.transact(ctx, "create sale", pgx.TxOptions{}, func(tx pgx.Tx) error {
		const insertSaleSQL = `
INSERT INTO sales (name, opens_at, closes_at) VALUES ($1, $2, $3) RETURNING id`
		var id int64
		err := tx.QueryRow(ctx, insertSaleSQL, sale.Name, sale.OpensAt, sale.ClosesAt).Scan(&id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, upsertProductsSQL, products); err != nil {
			return fmt.Errorf("products: %w", err)
		}
		_, err = tx.Exec(ctx, insertItemsSQL, id, products, pricesFen, pointsPrices, totals, limits,
			payTimeouts, opensAt, closesAt)
		if err != nil {
			return fmt.Errorf("items: %w", err)
		}
		created, err = querySales(ctx, tx, flashsale.SaleID(id))
		return err
	})
	if err != nil {
		return flashsale.Sale{}, err
	}
	return created[0], nil
}

// Sales returns the newest sales, at most SalesMax, newest first.
func (l *Ledger) Sales(ctx context.Context) ([]flashsale.Sale, error) {
	sales, err := querySales(ctx, l.pool, 0)
	return sales, classify("list sales", err)
}

// Sale returns a sale with its items, or [flashsale.ErrNotFound].
func (l *Ledger) Sale(ctx context.Context, id flashsale.SaleID) (flashsale.Sale, error) {
	sales, err := querySales(ctx, l.pool, id)
	if err == nil && len(sales) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return flashsale.Sale{}, classify("sale "+id.String(), err)
	}
	return sales[0], nil
}

// Item returns an item, or [flashsale.ErrNotFound].
func (l *Ledger) Item(ctx context.Context, id flashsale.ItemID) (flashsale.Item, error) {
	item, err := queryItem(ctx, l.pool, id)
	return item, classify("item "+id.String(), err)
}

// Load loads an item into Redis by way of fn, for the first time or to make sure that it is
// there. While fn runs the item's row is locked, so one process at a time loads it, and nobody
// restocks or pauses it in between. fn gets the item with the generation to load it as (1 the
// first time), which is stored only if fn returns nil, and with the stock less the restocks
// that the outbox still owes: the relay adds those, once, whatever crashes in between; and it is
// told whether the item was loaded before. It must not call the ledger, whose connection waits.
func (l *Ledger) Load(
	ctx context.Context, id flashsale.ItemID, fn func(item flashsale.Item, before bool) error,
) error {
	return l.transact(ctx, "load item "+id.String(), pgx.TxOptions{}, func(tx pgx.Tx) error {
		item, err := lockItem(ctx, tx, id)
		if err != nil {
			return err
		}
		const owedSQL = `
SELECT coalesce(sum(quantity), 0)::bigint FROM outbox WHERE item_id = $1 AND kind = 'restock'`
		var owed int64
		if err := tx.QueryRow(ctx, owedSQL, int64(id)).Scan(&owed); err != nil {
			return err
		}
		item.Stock = max(0, item.Stock-owed)
		before := item.Generation > 0
		item.Generation = max(1, item.Generation)
		if err := fn(item, before); err != nil {
			return err
		}
		const setGenerationSQL = `UPDATE items SET generation = $2 WHERE id = $1 AND generation <> $2`
		_, err = tx.Exec(ctx, setGenerationSQL, int64(id), item.Generation)
		return err
	})
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func queryItem(ctx context.Context, q querier, id flashsale.ItemID) (flashsale.Item, error) {
	rows, _ := q.Query(ctx, itemSQL, int64(id)) // its error comes with the rows
	return pgx.CollectExactlyOneRow(rows, scanItem)
}

func lockItem(ctx context.Context, tx pgx.Tx, id flashsale.ItemID) (flashsale.Item, error) {
	rows, _ := tx.Query(ctx, itemSQL+` FOR NO KEY UPDATE OF i`, int64(id))
	return pgx.CollectExactlyOneRow(rows, scanItem)
}

// querySales reads one sale, or the newest for id 0. Every sale has an item.
func querySales(ctx context.Context, q querier, id flashsale.SaleID) ([]flashsale.Sale, error) {
	var (
		sales []flashsale.Sale
		sale  flashsale.Sale
		item  flashsale.Item
	)
	rows, _ := q.Query(ctx, salesSQL, int64(id), SalesMax)
	into := append([]any{(*int64)(&sale.ID), &sale.Name, &sale.OpensAt, &sale.ClosesAt}, itemFields(&item)...)
	_, err := pgx.ForEachRow(rows, into, func() error {
		if len(sales) == 0 || sales[len(sales)-1].ID != sale.ID {
			sales = append(sales, sale)
		}
		last := &sales[len(sales)-1]
		last.Items = append(last.Items, item)
		return nil
	})
	return sales, err
}

func scanItem(row pgx.CollectableRow) (item flashsale.Item, err error) {
	err = row.Scan(itemFields(&item)...)
	return item, err
}

// itemFields are the fields for itemColumns.
func itemFields(item *flashsale.Item) []any {
	return []any{
		(*int64)(&item.ID), (*int64)(&item.SaleID), &item.Product, &item.PriceFen, &item.PointsPrice,
		&item.Total, &item.Stock, &item.Limit, &item.OpensAt, &item.ClosesAt, &item.PayTimeout,
		&item.Paused, &item.Generation,
	}
}
