package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
	"flashsale/engine"
)

// crowd lets many ask at once and fails for each answer that is not 200.
func (b *bundle) crowd(t *testing.T, each int, paths ...string) {
	t.Helper()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range each {
				if got := b.call("GET", paths[n%len(paths)], ""); got.StatusCode() != 200 {
					t.Errorf("%s: %s", paths[n%len(paths)], got.Body())
				}
			}
		})
	}
	wg.Wait()
}

// Protects the stores from the crowd: however many look at whatever there is, PostgreSQL is read
// once for each list and Redis once for all items, in one round trip.
func TestCatalogue_Crowd(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.catalogue.onSale.ttl = time.Hour
	started := time.Now()
	b.crowd(t, 400, "/v1/items/7", "/v1/items/8", "/v1/sales", "/v1/sales/1", "/v1/sales?state=open")
	b.redis.mu.Lock()
	b.ledger.mu.Lock()
	defer b.redis.mu.Unlock()
	defer b.ledger.mu.Unlock()
	// A slow machine takes longer than one interval: count those that have passed.
	rounds := int(time.Since(started)/liveTTL) + 1
	if most := 5 * rounds; b.redis.pipelines > most || b.redis.reads > 2*most {
		t.Errorf("%d round trips to Redis for %d items in %d intervals", b.redis.pipelines, b.redis.reads, rounds)
	}
	if most := 1 + 4*(rounds/5+1); b.ledger.listings > most {
		t.Errorf("%d reads of lists in %d intervals", b.ledger.listings, rounds)
	}
}

// Protects the catalogue from its own history: a sale that is open is found however many came
// after it, by its state at once and by the pages of all; nothing appears twice.
func TestSales_Pages(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	first := b.ledger.sales[0]
	for id := flashsale.SaleID(2); id <= 150; id++ {
		sale := first
		sale.ID, sale.Items = id, first.Items[:1]
		switch id % 3 {
		case 0:
			sale.OpensAt, sale.ClosesAt = redisAt.Add(time.Hour), redisAt.Add(2*time.Hour)
		default:
			sale.OpensAt, sale.ClosesAt = redisAt.Add(-2*time.Hour), redisAt.Add(-time.Hour)
		}
		b.ledger.sales = append(b.ledger.sales, sale)
	}
	walk := func(query string) (ids []string) {
		t.Helper()
		for cursor := ""; ; {
			response := b.call("GET", "/v1/sales?limit=40"+query+cursor, "")
			var page struct {
				Sales []struct {
					ID, State string
					Items     []any
				}
				NextCursor string `json:"next_cursor"`
			}
			if err := json.Unmarshal(response.Body(), &page); err != nil || response.StatusCode() != 200 {
				t.Fatalf("%v: %s", err, response.Body())
			}
			for _, sale := range page.Sales {
				ids = append(ids, sale.ID)
				if query != "" && !strings.HasSuffix(query, "="+sale.State) {
					t.Errorf("%s holds sale %s, which is %s", query, sale.ID, sale.State)
				}
				if len(sale.Items) == 0 {
					t.Errorf("sale %s shows no items", sale.ID)
				}
			}
			if page.NextCursor == "" {
				return ids
			}
			cursor = "&before=" + page.NextCursor
		}
	}
	all := walk("")
	if len(all) != 150 || all[149] != "1" || len(slices.Compact(slices.Sorted(slices.Values(all)))) != 150 {
		t.Errorf("all: %v", all)
	}
	for state, want := range map[string]int{"open": 1, "upcoming": 50, "ended": 99} {
		if got := walk("&state=" + state); len(got) != want {
			t.Errorf("%s: %d sales, want %d", state, len(got), want)
		}
	}
	for query, want := range map[string]string{
		"state=":              "400 invalid_state",
		"state=paused":        "400 invalid_state",
		"state=OPEN":          "400 invalid_state",
		"limit=0":             "400 invalid_limit",
		"limit=101":           "400 invalid_limit",
		"before=x":            "400 invalid_cursor",
		"status=open":         "400 unknown_parameter",
		"state=open&state=ok": "400 repeated_parameter",
	} {
		if got := code(b.call("GET", "/v1/sales?"+query, "")); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
}

// Protects the size of the list: of a large sale it holds the first items and says how many there
// are, and the sale itself holds them all.
func TestSales_Summaries(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	item := b.ledger.sales[0].Items[0]
	for id := flashsale.ItemID(1000); id < 1996; id++ {
		item.ID = id
		b.ledger.sales[0].Items = append(b.ledger.sales[0].Items, item)
	}
	for path, want := range map[string]int{"/v1/sales": saleItemsMany, "/v1/sales/1": 1000} {
		body := string(b.call("GET", path, "").Body())
		if got := strings.Count(body, `"product"`); got != want || !strings.Contains(body, `"item_count":1000`) {
			t.Errorf("%s: %d items of %s", path, got, body[:200])
		}
	}
	if b.redis.pipelines > 3 {
		t.Errorf("%d round trips to Redis", b.redis.pipelines)
	}
	for path, want := range map[string]string{
		"/v1/sales/x": "400 invalid_sale_id", "/v1/sales/2": "404 sale_not_found", "/v1/sales/0": "404 sale_not_found",
		"/v1/sales/1?limit=2": "400 unknown_parameter",
	} {
		if got := code(b.call("GET", path, "")); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

// Protects what caches and browsers rely on: one tag for one content, 304 for who has it, gzip for
// who takes it, the time of the answer in each of them, and no body for HEAD.
func TestCatalogue_Caching(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for _, path := range []string{"/v1/sales", "/v1/sales?state=open", "/v1/sales/1", "/v1/items/7", "/v1/shop"} {
		plain := b.call("GET", path, "")
		packed := b.call("GET", path, "", "Accept-Encoding", "br, gzip;q=0.5")
		etag := string(plain.Header.Peek("Etag"))
		if etag == "" || string(packed.Header.Peek("Etag")) != etag {
			t.Errorf("%s: tags %q and %q", path, etag, packed.Header.Peek("Etag"))
		}
		for header, want := range map[string]string{"Cache-Control": "public, max-age=1", "Vary": "Accept-Encoding"} {
			if got := string(plain.Header.Peek(header)); got != want {
				t.Errorf("%s: %s is %q, want %q", path, header, got, want)
			}
		}
		if !json.Valid(plain.Body()) {
			t.Errorf("%s: %s", path, plain.Body())
		}
		if body := packed.Body(); len(plain.Body()) >= packedMin+64 {
			unpacked := unzip(t, packed)
			if !json.Valid(unpacked) || len(body) >= len(unpacked) || !bytes.Contains(unpacked, []byte(`"server_time_ms":`)) {
				t.Errorf("%s: %d bytes for %s", path, len(body), unpacked)
			}
		}
		for _, have := range []string{etag, "*", `"other", ` + etag, strings.TrimPrefix(etag, "W/")} {
			response := b.call("GET", path, "", "If-None-Match", have)
			if response.StatusCode() != 304 || len(response.Body()) > 0 || string(response.Header.Peek("Etag")) != etag {
				t.Errorf("%s, having %s: %d %s", path, have, response.StatusCode(), response.Body())
			}
		}
		if response := b.call("GET", path, "", "If-None-Match", `"other"`); response.StatusCode() != 200 {
			t.Errorf("%s, having another: %d", path, response.StatusCode())
		}
		if response := b.call("HEAD", path, ""); response.StatusCode() != 200 || string(response.Header.Peek("Etag")) != etag {
			t.Errorf("HEAD %s: %d", path, response.StatusCode())
		}
	}
	for accept, want := range map[string]bool{
		"gzip": true, "GZIP": true, "*": true, "deflate, gzip;q=1.0": true, "*;q=0, gzip": true,
		"": false, "identity": false, "gzip;q=0": false, "gzip; q=0.000": false, "gzip;q=0, *": false, "*;q=0": false,
	} {
		response := b.call("GET", "/v1/sales", "", "Accept-Encoding", accept)
		if got := string(response.Header.Peek("Content-Encoding")) == "gzip"; got != want {
			t.Errorf("Accept-Encoding %q: gzip %t", accept, got)
		}
	}
	// Once the stock changes the tag does.
	etag := string(b.call("GET", "/v1/items/7", "").Header.Peek("Etag"))
	account := b.redis.accounts[7]
	account.Stock = 12
	b.redis.mu.Lock()
	b.redis.accounts[7] = account
	b.redis.mu.Unlock()
	b.catalogue.readings = newReadings(b.redis)
	b.catalogue.items.forget()
	if response := b.call("GET", "/v1/items/7", "", "If-None-Match", etag); response.StatusCode() != 200 ||
		!strings.Contains(string(response.Body()), `"left_percent":12`) {
		t.Errorf("after a change: %d %s", response.StatusCode(), response.Body())
	}
}

func unzip(t *testing.T, response *fasthttp.Response) []byte {
	t.Helper()
	if got := string(response.Header.Peek("Content-Encoding")); got != "gzip" {
		t.Fatalf("encoded as %q", got)
	}
	r, err := gzip.NewReader(bytes.NewReader(response.Body()))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r) // checks the sum and the length
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Protects the processor: a thousand items are encoded and compressed once, not for each of a
// crowd, and what did not change is not compressed again.
func TestDocument_Once(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	ask := func() *document {
		document, err := b.catalogue.salesDocument(t.Context(), salesPage{limit: pageDefault})
		if err != nil {
			t.Fatal(err)
		}
		return document
	}
	first := ask()
	for _, cell := range b.catalogue.front.young {
		cell.ttl, cell.slow = 0, nil
		cell.current.Load().ttl = 0
	}
	if again := ask(); again != first {
		t.Error("what did not change was made anew")
	}
}

// Protects shoppers while Redis is away: what was read stands, what was not is told by the ledger,
// and nobody waits for the same timeout again and again.
func TestReadings_RedisAway(t *testing.T) {
	t.Parallel()
	redis := &fakeRedis{accounts: map[flashsale.ItemID]engine.Account{7: {ID: 7, Stock: 3}}}
	r := newReadings(redis)
	ids := []flashsale.ItemID{7, 8}
	if got := r.of(t.Context(), ids, liveTTL); got[7] == nil || got[7].Stock != 3 || got[8] != nil || len(got) != 2 {
		t.Errorf("read: %v", got)
	}
	redis.itemsErr = io.ErrUnexpectedEOF
	redis.accounts = nil
	for range 3 {
		if got := r.of(t.Context(), append(ids, 9), 0); got[7] == nil || got[7].Stock != 3 {
			t.Errorf("redis away: %v", got)
		}
	}
	if redis.pipelines != 2 {
		t.Errorf("asked %d times", redis.pipelines)
	}
}

// Protects what a crowd looks at from made-up names: they push out each other.
func TestRecent(t *testing.T) {
	t.Parallel()
	r := newRecent[string, int](100)
	r.set("real", 1)
	for n := range 10_000 {
		r.set(strconv.Itoa(n), n)
		if n%50 == 0 {
			if got, ok := r.get("real"); !ok || got != 1 {
				t.Fatalf("pushed out by %d others", n)
			}
		}
	}
	if n := len(r.young) + len(r.old); n > 200 {
		t.Errorf("%d are remembered", n)
	}
}

// Protects the names that orders carry: they come with every answer about an order, cost one read
// for all items of a page, and an order is shown without them while the ledger cannot tell.
func TestOrders_Titles(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for no, item := range []flashsale.ItemID{7, 8, 9, 7, 4711} {
		b.ledger.set(flashsale.Order{OrderNo: flashsale.OrderNo(no + 1), ItemID: item, User: "ann", Quantity: 1, Status: flashsale.Unpaid})
	}
	body := string(b.call("GET", "/v1/orders", "", as("ann")...).Body())
	for product, want := range map[string]int{"Kettle": 2, "Lamp": 1, "Chair": 1} {
		named := fmt.Sprintf(`"product":%q,"sale_id":"1","sale_name":"Spring \"sale\""}`, product)
		if got := strings.Count(body, named); got != want {
			t.Errorf("%s is named %d times: %s", product, got, body)
		}
	}
	if b.ledger.titles != 1 {
		t.Errorf("%d reads of titles", b.ledger.titles)
	}
	if got := string(b.call("GET", "/v1/orders/1", "", as("ann")...).Body()); !strings.Contains(got, `"product":"Kettle"`) {
		t.Error(got)
	}
	if got := string(b.call("DELETE", "/v1/orders/1", "", as("ann")...).Body()); !strings.Contains(got, `"product":"Kettle"`) {
		t.Error(got)
	}
}

// Protects what a shop tells of itself to its pages.
func TestShopAndTime(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) {
		c.PaymentMethods = []flashsale.Method{flashsale.Alipay, flashsale.Points}
		c.LoginURL = "https://login.example/?from=shop"
	})
	want := `{"payment_methods":["alipay","points"],"currency":"CNY","languages":["en","zh"],"dev_login":true,` +
		`"login_url":"https://login.example/?from=shop","server_time_ms":18000000`
	if got := string(b.call("GET", "/v1/shop", "").Body()); !strings.HasPrefix(got, want) {
		t.Errorf("got  %s\nwant %s…", got, want)
	}
	response := b.call("GET", "/v1/time", "")
	if got := string(response.Body()); !strings.HasPrefix(got, `{"server_time_ms":18000000`) ||
		string(response.Header.Peek("Cache-Control")) != "no-store" {
		t.Errorf("%s %s", got, response.Header.Peek("Cache-Control"))
	}
}
