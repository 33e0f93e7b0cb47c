package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// SalesMax is how many sales one page of [Ledger.Sales] holds at most.
const SalesMax = 100

// itemColumns is what scanItem reads, from items i joined with products p.
const itemColumns = `i.id, i.sale_id, p.name, i.price_fen, i.points_price, i.total, i.stock, i."limit",
    i.opens_at, i.closes_at, i.pay_timeout, i.paused, i.generation`

const itemSQL = `
SELECT ` + itemColumns + ` FROM items i JOIN products p ON p.id = i.product_id WHERE i.id = $1`

// shownColumns is what a catalogue reads besides.
const shownColumns = itemColumns + `, s.hide_left, coalesce(d.list_price_fen, 0), coalesce(d.image_url, ''),
    coalesce(d.description, ''), d.names, d.descriptions`

const shownItemSQL = `
SELECT ` + shownColumns + `
FROM items i JOIN sales s ON s.id = i.sale_id JOIN products p ON p.id = i.product_id
LEFT JOIN item_details d ON d.item_id = i.id
WHERE `

// salesSQL begins with the sales, as the callers choose them, and goes on with their first items.
const salesSQL = `
SELECT s.id, s.name, s.names, s.hide_left, s.opens_at, s.closes_at,
    (SELECT count(*) FROM items WHERE sale_id = s.id), ` + shownColumns + `
FROM chosen s
CROSS JOIN LATERAL (SELECT * FROM items WHERE sale_id = s.id ORDER BY id LIMIT $1) i
JOIN products p ON p.id = i.product_id
LEFT JOIN item_details d ON d.item_id = i.id
ORDER BY s.id DESC, i.id`

const oneSaleSQL = `WITH chosen AS (SELECT * FROM sales WHERE id = $2)` + salesSQL

// Products are locked in the order of their names, as two sales may share some.
const upsertProductsSQL = `
INSERT INTO products (name) SELECT DISTINCT name FROM unnest($1::text[]) AS e (name) ORDER BY name
ON CONFLICT (name) DO NOTHING`

// insertItemsSQL returns the ids in the order of the items.
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
ORDER BY e.position
RETURNING id`

const insertDetailsSQL = `
INSERT INTO item_details (item_id, list_price_fen, image_url, description, names, descriptions)
SELECT item_id, nullif(list_price_fen, 0), nullif(image_url, ''), nullif(description, ''), names, descriptions
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::jsonb[], $6::jsonb[])
    AS e (item_id, list_price_fen, image_url, description, names, descriptions)`

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
		created      flashsale.Sale
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
	err := transactOnce(ctx, l, "create sale", &created, func(tx pgx.Tx) error {
		const insertSaleSQL = `
INSERT INTO sales (name, opens_at, closes_at, hide_left, names) VALUES ($1, $2, $3, $4, $5) RETURNING id`
		var id int64
		err := tx.QueryRow(ctx, insertSaleSQL, sale.Name, sale.OpensAt, sale.ClosesAt, sale.HideLeft,
			jsonOf(sale.Names)).Scan(&id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, upsertProductsSQL, products); err != nil {
			return fmt.Errorf("products: %w", err)
		}
		rows, _ := tx.Query(ctx, insertItemsSQL, id, products, pricesFen, pointsPrices, totals, limits,
			payTimeouts, opensAt, closesAt)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return fmt.Errorf("items: %w", err)
		}
		slices.Sort(ids)
		if err := insertDetails(ctx, tx, ids, sale.Items); err != nil {
			return fmt.Errorf("details: %w", err)
		}
		sales, err := querySales(ctx, tx, oneSaleSQL, flashsale.SaleItemsMax, id)
		if err == nil {
			created = sales[0]
		}
		return err
	})
	if err != nil {
		return flashsale.Sale{}, err
	}
	return created, nil
}

// insertDetails stores how the items are shown, for those that say it.
func insertDetails(ctx context.Context, tx pgx.Tx, ids []int64, items []flashsale.Item) error {
	var (
		owners              []int64
		prices              []int64
		images              []string
		descriptions        []string
		names, translations []*string
	)
	for n, item := range items {
		d := item.Details
		if d.Empty() {
			continue
		}
		owners, prices = append(owners, ids[n]), append(prices, d.ListPriceFen)
		images, descriptions = append(images, d.ImageURL), append(descriptions, d.Description)
		names, translations = append(names, jsonOf(d.Names)), append(translations, jsonOf(d.Descriptions))
	}
	if len(owners) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, insertDetailsSQL, owners, prices, images, descriptions, names, translations)
	return err
}

// jsonOf writes texts by language; nil, where there are none, is NULL.
func jsonOf(texts map[string]string) *string {
	if len(texts) == 0 {
		return nil
	}
	text, _ := json.Marshal(texts) //nolint:errchkjson // strings always can be
	written := string(text)
	return &written
}

// Sales returns a page of sales, newest first: at most SalesMax, each with its first items, at
// most [flashsale.SaleItemsMax].
func (l *Ledger) Sales(ctx context.Context, query flashsale.SalesQuery) ([]flashsale.Sale, error) {
	const pageSQL = `
WITH chosen AS (
    SELECT * FROM sales
    WHERE id < $2 AND ($3 = '' OR $3 = CASE
        WHEN $4 < opens_at THEN 'upcoming' WHEN $4 < closes_at THEN 'open' ELSE 'ended' END)
        AND ($3 IN ('', 'ended') OR closes_at > $4) -- by the index
    ORDER BY id DESC LIMIT $5)` + salesSQL
	before := int64(query.Before)
	if before <= 0 {
		before = math.MaxInt64
	}
	sales, err := querySales(ctx, l.pool, pageSQL, min(max(query.Items, 1), flashsale.SaleItemsMax),
		before, string(query.State), query.At, min(max(query.Limit, 1), SalesMax))
	return sales, classify("list sales", err)
}

// Sale returns a sale with all its items, or [flashsale.ErrNotFound].
func (l *Ledger) Sale(ctx context.Context, id flashsale.SaleID) (flashsale.Sale, error) {
	sales, err := querySales(ctx, l.pool, oneSaleSQL, flashsale.SaleItemsMax, int64(id))
	if err == nil && len(sales) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return flashsale.Sale{}, classify("sale "+id.String(), err)
	}
	return sales[0], nil
}

// Item returns an item with its details, or [flashsale.ErrNotFound].
func (l *Ledger) Item(ctx context.Context, id flashsale.ItemID) (flashsale.Item, error) {
	rows, _ := l.pool.Query(ctx, shownItemSQL+`i.id = $1`, int64(id)) // its error comes with the rows
	item, err := pgx.CollectExactlyOneRow(rows, scanShownItem)
	return item, classify("item "+id.String(), err)
}

// OnSale returns the items that close after a moment with their details, those that close first
// first, at most limit.
func (l *Ledger) OnSale(ctx context.Context, at time.Time, limit int) ([]flashsale.Item, error) {
	rows, _ := l.pool.Query(ctx, shownItemSQL+`i.closes_at > $1 ORDER BY i.closes_at LIMIT $2`, at, limit)
	items, err := pgx.CollectRows(rows, scanShownItem)
	return items, classify("list items on sale", err)
}

// Titles returns what orders say of items. Items that do not exist are missing.
func (l *Ledger) Titles(ctx context.Context, ids []flashsale.ItemID) (map[flashsale.ItemID]flashsale.Title, error) {
	const titlesSQL = `
SELECT i.id, i.sale_id, s.name, s.names, p.name, d.names, coalesce(d.image_url, '')
FROM items i JOIN sales s ON s.id = i.sale_id JOIN products p ON p.id = i.product_id
LEFT JOIN item_details d ON d.item_id = i.id
WHERE i.id = ANY ($1)`
	var (
		titles = make(map[flashsale.ItemID]flashsale.Title, len(ids))
		id     flashsale.ItemID
		title  flashsale.Title
	)
	rows, _ := l.pool.Query(ctx, titlesSQL, int64s(ids))
	_, err := pgx.ForEachRow(rows, []any{
		(*int64)(&id), (*int64)(&title.SaleID), &title.SaleName, &title.SaleNames, &title.Product, &title.Names, &title.ImageURL,
	}, func() error {
		titles[id] = title
		title.SaleNames, title.Names = nil, nil // the next row gets maps of its own
		return nil
	})
	return titles, classify("titles of items", err)
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

// querySales reads what a statement of salesSQL chooses. Every sale has an item.
func querySales(ctx context.Context, q querier, sql string, args ...any) ([]flashsale.Sale, error) {
	var (
		sales []flashsale.Sale
		sale  flashsale.Sale
		item  shownItem
	)
	rows, _ := q.Query(ctx, sql, args...)
	into := append([]any{
		(*int64)(&sale.ID), &sale.Name, &sale.Names, &sale.HideLeft, &sale.OpensAt, &sale.ClosesAt, &sale.ItemCount,
	}, item.fields()...)
	_, err := pgx.ForEachRow(rows, into, func() error {
		if len(sales) == 0 || sales[len(sales)-1].ID != sale.ID {
			sales = append(sales, sale)
		}
		sale.Names = nil // the next row gets a map of its own
		last := &sales[len(sales)-1]
		last.Items = append(last.Items, item.take())
		return nil
	})
	return sales, err
}

// shownItem is where a row of shownColumns goes.
type shownItem struct {
	flashsale.Item
	details flashsale.Details
}

func (i *shownItem) fields() []any {
	d := &i.details
	return append(itemFields(&i.Item), &i.HideLeft, &d.ListPriceFen, &d.ImageURL, &d.Description, &d.Names, &d.Descriptions)
}

// take returns the item and makes room for the next row.
func (i *shownItem) take() flashsale.Item {
	item := i.Item
	if !i.details.Empty() {
		details := i.details
		item.Details = &details
	}
	i.details = flashsale.Details{}
	return item
}

func scanShownItem(row pgx.CollectableRow) (flashsale.Item, error) {
	var item shownItem
	err := row.Scan(item.fields()...)
	return item.take(), err
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
