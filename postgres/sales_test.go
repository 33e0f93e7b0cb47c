package postgres

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"flashsale"
)

// A sale comes back as it was made: items in their order, with ids, the window of the sale and
// the whole total in stock. Two items, and two sales, may offer the same product.
func TestCreateSale(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	opens := time.Date(2030, 1, 2, 3, 4, 5, 678e6, time.FixedZone("CST", 8*3600))
	sale := flashsale.Sale{Name: "秒杀", OpensAt: opens, ClosesAt: opens.Add(time.Hour)}
	for n, product := range []string{"zebra", "apple", "zebra", "mango"} {
		sale.Items = append(sale.Items, flashsale.Item{
			Product: product, PriceFen: int64(100 + n), PointsPrice: int64(n), Total: int64(10 + n),
			Limit: 1 + n, PayTimeout: time.Duration(1+n) * time.Second,
		})
	}
	sale.Items[3].PayTimeout = flashsale.PayTimeoutMax
	var created []flashsale.Sale
	for range 2 {
		got, err := b.CreateSale(b.ctx, sale)
		if err != nil {
			t.Fatal(err)
		}
		want := sale
		want.ID, want.OpensAt, want.ClosesAt = got.ID, opens.UTC(), opens.Add(time.Hour).UTC()
		want.Items, want.ItemCount = slices.Clone(sale.Items), len(sale.Items)
		for n := range want.Items {
			item := &want.Items[n]
			item.ID, item.SaleID, item.Stock = got.Items[n].ID, got.ID, item.Total
			item.OpensAt, item.ClosesAt = want.OpensAt, want.ClosesAt
			if n > 0 && item.ID != want.Items[n-1].ID+1 {
				t.Errorf("item %d has the id %s", n, item.ID)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		created = append([]flashsale.Sale{got}, created...)
		if read, err := b.Sale(b.ctx, got.ID); err != nil || !reflect.DeepEqual(read, got) {
			t.Errorf("read back %+v, %v", read, err)
		}
		if item, err := b.Item(b.ctx, got.Items[2].ID); err != nil || item != got.Items[2] {
			t.Errorf("item read back %+v, %v", item, err)
		}
	}
	if sales, err := b.Sales(b.ctx, flashsale.SalesQuery{Limit: 100, Items: 100}); err != nil || !reflect.DeepEqual(sales, created) {
		t.Errorf("newest first: %+v, %v", sales, err)
	}
	sale.Items[1].Limit = 0
	if _, err := b.CreateSale(b.ctx, sale); err == nil {
		t.Error("an invalid sale was created")
	}
	if n := b.count(`SELECT count(*) FROM sales`); n != 2 {
		t.Errorf("%d sales", n)
	}
	if _, err := b.Sale(b.ctx, 4711); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("no sale: %v", err)
	}
	if _, err := b.Item(b.ctx, 4711); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("no item: %v", err)
	}
}

// Pages of sales: newest first, none twice and none left out, however many there were over the
// years; by their state at a moment; and of a large sale the first items, with the number of all.
func TestSales_Pages(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	if sales, err := b.Sales(b.ctx, flashsale.SalesQuery{Limit: 10, Items: 1}); err != nil || len(sales) > 0 {
		t.Errorf("no sales: %v, %v", sales, err)
	}
	now := time.Now()
	b.exec(`INSERT INTO products (name) VALUES ('kettle')`)
	b.exec(`INSERT INTO sales (name, opens_at, closes_at)
		SELECT 'sale', $1::timestamptz + (n % 3 - 1) * interval '1 hour', $1::timestamptz + (n % 3) * interval '1 hour'
		FROM generate_series(0, 149) n`, now)
	b.exec(`INSERT INTO items (sale_id, product_id, opens_at, closes_at, price_fen, total, stock)
		SELECT s.id, p.id, s.opens_at, s.closes_at, 1, 1, 1 FROM sales s, products p, generate_series(1, 3)`)
	for _, c := range []struct {
		state flashsale.SaleState
		want  int
	}{{"", 150}, {flashsale.SaleEnded, 50}, {flashsale.SaleOpen, 50}, {flashsale.SaleUpcoming, 50}} {
		query := flashsale.SalesQuery{State: c.state, At: now, Limit: 40, Items: 2}
		got := 0
		for last := flashsale.SaleID(1 << 40); ; {
			page, err := b.Sales(b.ctx, query)
			if err != nil {
				t.Fatal(err)
			}
			for _, sale := range page {
				if sale.ID >= last || len(sale.Items) != 2 || sale.ItemCount != 3 ||
					c.state != "" && sale.StateAt(now) != c.state {
					t.Errorf("%q: after %s came %+v", c.state, last, sale)
				}
				last, got = sale.ID, got+1
			}
			if len(page) < query.Limit {
				break
			}
			query.Before = last
		}
		if got != c.want {
			t.Errorf("%q: %d sales, want %d", c.state, got, c.want)
		}
	}
	if page, err := b.Sales(b.ctx, flashsale.SalesQuery{Limit: 1 << 20}); err != nil || len(page) != SalesMax {
		t.Errorf("a page of %d sales, %v", len(page), err)
	}
	if items, err := b.OnSale(b.ctx, now, 1000); err != nil || len(items) != 300 || items[0].ClosesAt.After(items[299].ClosesAt) {
		t.Errorf("on sale: %d items, %v", len(items), err)
	}
	if items, err := b.OnSale(b.ctx, now, 7); err != nil || len(items) != 7 {
		t.Errorf("on sale: %d items, %v", len(items), err)
	}
}

// What a shop shows of an item comes back by every road that leads to shoppers, and by none that
// leads to Redis; items without it are as they were.
func TestSale_Details(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	details := &flashsale.Details{
		Description: "Boils.\nQuietly.", ImageURL: "https://cdn.example/kettle.svg", ListPriceFen: 300,
		Names: map[string]string{"zh": "水壶", "en": "Kettle"}, Descriptions: map[string]string{"zh": "会烧水"},
	}
	opens := time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	item := flashsale.Item{Product: "kettle", PriceFen: 200, Total: 5, Limit: 1, PayTimeout: time.Minute, Details: details}
	plain := item
	plain.Product, plain.Details = "lamp", nil
	created, err := b.CreateSale(b.ctx, flashsale.Sale{
		Name: "night", Names: map[string]string{"zh": "夜"}, HideLeft: true, OpensAt: opens, ClosesAt: opens.Add(time.Hour),
		Items: []flashsale.Item{plain, item, plain, item},
	})
	if err != nil {
		t.Fatal(err)
	}
	if created.Names["zh"] != "夜" || !created.HideLeft {
		t.Errorf("%+v", created)
	}
	listed, err := b.Sales(b.ctx, flashsale.SalesQuery{Limit: 1, Items: 10})
	if err != nil || !reflect.DeepEqual(listed[0], created) {
		t.Errorf("listed %+v, %v", listed, err)
	}
	onSale, err := b.OnSale(b.ctx, opens, 10)
	if err != nil || len(onSale) != 4 {
		t.Fatalf("on sale: %+v, %v", onSale, err)
	}
	ids := make([]flashsale.ItemID, 4)
	for n, got := range created.Items {
		ids[n] = got.ID
		want := details
		if n%2 == 0 {
			want = nil
		}
		read, err := b.Item(b.ctx, got.ID)
		if err != nil || !reflect.DeepEqual(read, got) || !reflect.DeepEqual(read.Details, want) || !read.HideLeft {
			t.Errorf("item %d: %+v, %v", n, read, err)
		}
		at := slices.IndexFunc(onSale, func(i flashsale.Item) bool { return i.ID == got.ID })
		if at < 0 || !reflect.DeepEqual(onSale[at], got) {
			t.Errorf("item %d is on sale as %+v", n, onSale)
		}
		if err := b.Load(b.ctx, got.ID, func(loaded flashsale.Item, _ bool) error {
			if loaded.Details != nil {
				t.Errorf("loaded with %+v", loaded.Details)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	titles, err := b.Titles(b.ctx, slices.Concat(ids, []flashsale.ItemID{4711}))
	if err != nil || len(titles) != 4 {
		t.Errorf("%d titles, %v", len(titles), err)
	}
	want := flashsale.Title{
		SaleID: created.ID, SaleName: "night", SaleNames: created.Names,
		Product: "kettle", Names: details.Names, ImageURL: details.ImageURL,
	}
	if got := titles[ids[1]]; !reflect.DeepEqual(got, want) {
		t.Errorf("title %+v", got)
	}
	if got := titles[ids[2]]; got.Product != "lamp" || got.Names != nil || got.ImageURL != "" {
		t.Errorf("title of an item without details %+v", got)
	}
	if _, err := b.DeleteSale(b.ctx, created.ID, func(context.Context, flashsale.ItemID) error { return nil }); err != nil {
		t.Errorf("delete: %v", err)
	}
}

// The first load becomes generation 1, and only if it worked; loading again, as every restart
// does, changes nothing (museum 10: stock reloaded in the middle of a sale). Restocks that the
// outbox owes are left to the relay, so they reach Redis once.
func TestLoad(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	if _, err := b.Restock(b.ctx, item.ID, 5); err != nil {
		t.Fatal(err)
	}
	load := func(want flashsale.Item, wantBefore bool, answer error) {
		t.Helper()
		calls := 0
		err := b.Load(b.ctx, item.ID, func(got flashsale.Item, before bool) error {
			calls++
			if got != want || before != wantBefore {
				t.Errorf("got  %+v, loaded before: %t\nwant %+v", got, before, want)
			}
			return answer
		})
		if !errors.Is(err, answer) || calls != 1 {
			t.Errorf("%v after %d calls", err, calls)
		}
	}
	want := item
	want.Total, want.Stock, want.Generation = 15, 10, 1
	load(want, false, errors.New("redis is away"))
	if f := b.figures(item.ID); f.Generation != 0 || f.OwedUnits != 5 {
		t.Errorf("after a failed load: %+v", f)
	}
	if figures, err := b.Figures(b.ctx); err != nil || figures.Outbox != 0 {
		t.Errorf("what waits for the first load is %d rows at rest, %v", figures.Outbox, err)
	}
	load(want, false, nil)
	if figures, err := b.Figures(b.ctx); err != nil || figures.Outbox != 1 {
		t.Errorf("outbox of %d rows, %v", figures.Outbox, err)
	}
	b.relay(10, all)
	orders := b.orders(item.ID, 4)
	for i := range orders {
		orders[i].Generation = 1
	}
	b.persist(orders...)
	b.exec(`UPDATE items SET generation = 3`)
	want.Stock, want.Generation = 11, 3
	load(want, true, nil)
	if f := b.figures(item.ID); f.Generation != 3 || f.Stock != 11 {
		t.Errorf("after loading again: %+v", f)
	}
	if err := b.Load(b.ctx, 4711, func(flashsale.Item, bool) error { return nil }); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("no item: %v", err)
	}
}

// While an item is being loaded nobody else loads, restocks or pauses it: what Redis gets is
// what the ledger holds at the commit.
func TestLoad_Locks(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	other := b.open(Config{LockTimeout: 50 * time.Millisecond})
	err := b.Load(b.ctx, item.ID, func(flashsale.Item, bool) error {
		_, restock := other.Restock(b.ctx, item.ID, 1)
		_, pause := other.SetPaused(b.ctx, item.ID, true)
		load := other.Load(b.ctx, item.ID, func(flashsale.Item, bool) error { return nil })
		for what, err := range map[string]error{"restock": restock, "pause": pause, "load": load} {
			if err == nil || errors.Is(err, flashsale.ErrPermanent) {
				t.Errorf("%s during a load: %v", what, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if f := b.figures(item.ID); f.Total != 10 || f.Paused || f.Generation != 1 {
		t.Errorf("%+v", f)
	}
}

// Pages of a user's orders: newest first, nobody else's, none twice and none left out.
func TestOrders_Pages(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	var want []flashsale.OrderNo
	for range 7 {
		item := b.item(10, 2)
		mine := b.order(item.ID, "ada", 1)
		b.persist(mine, b.order(item.ID, "bob", 1))
		want = append([]flashsale.OrderNo{mine.OrderNo}, want...)
	}
	if _, err := b.Cancel(b.ctx, want[2], "ada"); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{0, 1, 3, 7, OrdersMax + 1} {
		var got []flashsale.OrderNo
		var before flashsale.OrderNo
		for {
			page, err := b.Orders(b.ctx, "ada", before, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 || len(got) > len(want) {
				break
			}
			for _, order := range page {
				got = append(got, order.OrderNo)
				if order.User != "ada" {
					t.Errorf("order of %s", order.User)
				}
			}
			before = page[len(page)-1].OrderNo
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: got %v, want %v", limit, got, want)
		}
	}
	if _, err := b.Order(b.ctx, 4711); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("no order: %v", err)
	}
}

// The audit's figures come from the orders: books cooked by hand show.
func TestFigures_Cooked(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 2)
	b.persist(b.order(item.ID, "ada", 2), b.order(item.ID, "bob", 1), b.order(item.ID, "eve", 1))
	b.exec(`UPDATE orders SET quantity = 3 WHERE user_id = 'ada'`)
	b.exec(`UPDATE orders SET status = 'paid' WHERE user_id = 'bob'`)
	b.exec(`UPDATE orders SET status = 'refunding' WHERE user_id = 'eve'`)
	f := b.figures(item.ID)
	if f.LiveUnits != 5 || f.Stock != 6 || f.UsersOverLimit != 1 {
		t.Errorf("%+v", f)
	}
	b.exec(`UPDATE orders SET status = 'refunded' WHERE user_id = 'ada'`)
	if f := b.figures(item.ID); f.LiveUnits != 2 || f.UsersOverLimit != 0 {
		t.Errorf("%+v", f)
	}
}
