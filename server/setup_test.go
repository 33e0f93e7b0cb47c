package server

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(stacktest.Suite(m),
		// fasthttp keeps one goroutine for the Date header, for the life of the process, and a
		// cleaner that notices the end of its server only when it wakes.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

const testTimeout = 10 * time.Second

var (
	opens   = time.UnixMilli(1_800_000_000_000)
	closes  = opens.Add(time.Hour)
	redisAt = opens.Add(time.Minute) // what the fake Redis says it is
)

// fakeRedis stands for the engine.
type fakeRedis struct {
	mu       sync.Mutex
	decide   func(engine.Request) (engine.Reply, error)
	asked    []engine.Request
	accounts map[flashsale.ItemID]engine.Account
	held     map[string][]flashsale.Order
	heldErr  error
	outMu    sync.Mutex // guards out: a decision may take its time
	out      []string   // tokens that were logged out
	reads    int        // of accounts
	now      time.Time

	pipelines int   // of reads of accounts
	itemsErr  error // of each
}

func (f *fakeRedis) Reserve(_ context.Context, req engine.Request) (engine.Reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, req)
	return f.decide(req)
}

// Session knows the tokens "<user>-token".
func (f *fakeRedis) Session(_ context.Context, token string) (flashsale.User, error) {
	if token == "broken" {
		return flashsale.User{}, io.ErrUnexpectedEOF
	}
	user, ok := strings.CutSuffix(token, "-token")
	f.outMu.Lock()
	defer f.outMu.Unlock()
	if !ok || slices.Contains(f.out, token) {
		return flashsale.User{}, flashsale.ErrNotFound
	}
	return flashsale.User{ID: strings.Clone(user)}, nil
}

func (f *fakeRedis) CreateSession(_ context.Context, user flashsale.User, _ time.Duration) (string, error) {
	return user.ID + "-token", nil
}

func (f *fakeRedis) DeleteSession(_ context.Context, token string) error {
	f.outMu.Lock()
	defer f.outMu.Unlock()
	if token == "broken" {
		return io.ErrUnexpectedEOF
	}
	f.out = append(f.out, token)
	return nil
}

func (f *fakeRedis) Item(_ context.Context, id flashsale.ItemID) (engine.Account, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	account, ok := f.accounts[id]
	if !ok {
		return engine.Account{}, flashsale.ErrNotFound
	}
	return account, nil
}

func (f *fakeRedis) Items(_ context.Context, ids []flashsale.ItemID) (map[flashsale.ItemID]engine.Account, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pipelines++
	found := map[flashsale.ItemID]engine.Account{}
	for _, id := range ids {
		f.reads++
		if account, ok := f.accounts[id]; ok {
			found[id] = account
		}
	}
	return found, f.itemsErr
}

func (f *fakeRedis) Orders(_ context.Context, user string, items []flashsale.ItemID) ([]flashsale.Order, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []flashsale.Order
	for _, order := range f.held[user] {
		if slices.Contains(items, order.ItemID) {
			found = append(found, order)
		}
	}
	return found, f.heldErr
}

func (f *fakeRedis) Remove(_ context.Context, id flashsale.ItemID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.accounts[id].Sequence > 0 {
		return flashsale.ErrConflict
	}
	delete(f.accounts, id)
	return nil
}

func (f *fakeRedis) Now(context.Context) (time.Time, error) { return f.now, nil }

// fakeLedger stands for PostgreSQL.
type fakeLedger struct {
	mu       sync.Mutex
	sales    []flashsale.Sale
	orders   map[flashsale.OrderNo]flashsale.Order
	err      error // of every call
	liveErr  error // of the list of live items
	reads    int   // of single orders
	listings int   // reads of sales
	lookups  int   // reads of single items
	titles   int   // reads of titles
	onOrder  func()
}

func (f *fakeLedger) Sales(_ context.Context, query flashsale.SalesQuery) (page []flashsale.Sale, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listings++
	for _, sale := range slices.Backward(f.sales) {
		if len(page) < query.Limit && (query.Before == 0 || sale.ID < query.Before) &&
			(query.State == "" || sale.StateAt(query.At) == query.State) {
			sale.ItemCount = len(sale.Items)
			sale.Items = sale.Items[:min(len(sale.Items), query.Items)]
			page = append(page, sale)
		}
	}
	return page, f.err
}

func (f *fakeLedger) OnSale(_ context.Context, at time.Time, _ int) (items []flashsale.Item, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listings++
	for _, sale := range f.sales {
		for _, item := range sale.Items {
			if item.ClosesAt.After(at) {
				items = append(items, item)
			}
		}
	}
	return items, f.err
}

func (f *fakeLedger) Titles(_ context.Context, ids []flashsale.ItemID) (map[flashsale.ItemID]flashsale.Title, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.titles++
	titles := map[flashsale.ItemID]flashsale.Title{}
	for _, sale := range f.sales {
		for _, item := range sale.Items {
			if slices.Contains(ids, item.ID) {
				titles[item.ID] = flashsale.Title{SaleID: sale.ID, SaleName: sale.Name, Product: item.Product}
			}
		}
	}
	return titles, f.err
}

func (f *fakeLedger) Sale(_ context.Context, id flashsale.SaleID) (flashsale.Sale, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sale := range f.sales {
		if sale.ID == id {
			sale.ItemCount = len(sale.Items)
			return sale, f.err
		}
	}
	return flashsale.Sale{}, flashsale.ErrNotFound
}

func (f *fakeLedger) Item(_ context.Context, id flashsale.ItemID) (flashsale.Item, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups++
	return f.item(id)
}

func (f *fakeLedger) item(id flashsale.ItemID) (flashsale.Item, error) {
	for _, sale := range f.sales {
		for _, item := range sale.Items {
			if item.ID == id {
				return item, f.err
			}
		}
	}
	return flashsale.Item{}, flashsale.ErrNotFound
}

func (f *fakeLedger) LiveItems(context.Context) (items []flashsale.ItemID, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sale := range f.sales {
		for _, item := range sale.Items {
			items = append(items, item.ID)
		}
	}
	return items, cmp.Or(f.liveErr, f.err)
}

func (f *fakeLedger) OfTrade(_ context.Context, number string) ([]flashsale.OrderNo, error) {
	no, err := flashsale.ParseID[flashsale.OrderNo](strings.TrimPrefix(number, "T"))
	if _, ok := f.orders[no]; !ok || err != nil {
		return nil, f.err
	}
	return []flashsale.OrderNo{no}, f.err
}

func (f *fakeLedger) Events(_ context.Context, no flashsale.OrderNo) ([]flashsale.OrderEvent, error) {
	return []flashsale.OrderEvent{{At: f.orders[no].ReservedAt, Event: "reserved", Detail: "1 units"}}, f.err
}

func (f *fakeLedger) Order(_ context.Context, no flashsale.OrderNo) (flashsale.Order, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if f.onOrder != nil {
		f.onOrder()
	}
	order, ok := f.orders[no]
	if !ok && f.err == nil {
		return flashsale.Order{}, flashsale.ErrNotFound
	}
	return order, f.err
}

func (f *fakeLedger) Orders(_ context.Context, user string, before flashsale.OrderNo, limit int) ([]flashsale.Order, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []flashsale.Order
	for _, order := range f.orders {
		if order.User == user && (before == 0 || order.OrderNo < before) {
			found = append(found, order)
		}
	}
	slices.SortFunc(found, func(a, b flashsale.Order) int { return int(b.OrderNo - a.OrderNo) })
	return found[:min(limit, len(found))], f.err
}

func (f *fakeLedger) Cancel(_ context.Context, no flashsale.OrderNo, user string) (flashsale.Order, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	order, ok := f.orders[no]
	if f.err != nil {
		return flashsale.Order{}, f.err
	}
	if !ok || order.User != user {
		return flashsale.Order{}, flashsale.ErrNotFound
	}
	if order.Status != flashsale.Unpaid {
		return order, flashsale.ErrConflict
	}
	order.Status, order.Reason = flashsale.Cancelled, "shopper"
	f.orders[no] = order
	return order, nil
}

func (f *fakeLedger) CreateSale(_ context.Context, sale flashsale.Sale) (flashsale.Sale, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return flashsale.Sale{}, f.err
	}
	sale.ID = flashsale.SaleID(len(f.sales) + 1)
	for n := range sale.Items {
		sale.Items[n].ID, sale.Items[n].SaleID = flashsale.ItemID(100*int(sale.ID)+n), sale.ID
	}
	f.sales = append(f.sales, sale)
	return sale, nil
}

func (f *fakeLedger) DeleteSale(ctx context.Context, id flashsale.SaleID,
	remove func(context.Context, flashsale.ItemID) error,
) (flashsale.Sale, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := slices.IndexFunc(f.sales, func(sale flashsale.Sale) bool { return sale.ID == id })
	switch {
	case f.err != nil:
		return flashsale.Sale{}, f.err
	case n < 0:
		return flashsale.Sale{}, flashsale.ErrNotFound
	}
	sale := f.sales[n]
	for _, item := range sale.Items {
		if err := remove(ctx, item.ID); err != nil {
			return flashsale.Sale{}, err
		}
	}
	f.sales = slices.Delete(slices.Clone(f.sales), n, n+1)
	return sale, nil
}

func (f *fakeLedger) Restock(_ context.Context, id flashsale.ItemID, add int64) (flashsale.Item, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	item, err := f.item(id)
	if err == nil && item.Total+add > flashsale.StockMax {
		return item, flashsale.ErrConflict
	}
	item.Total, item.Stock = item.Total+add, item.Stock+add
	return item, err
}

func (f *fakeLedger) SetPaused(_ context.Context, id flashsale.ItemID, paused bool) (flashsale.Item, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	item, err := f.item(id)
	item.Paused = paused
	return item, err
}

func (f *fakeLedger) set(order flashsale.Order) {
	f.mu.Lock()
	defer f.mu.Unlock()
	order.Quantity = max(1, order.Quantity)
	f.orders[order.OrderNo] = order
}

// bundle is a server on fakes: a sale 1 with the open item 7, the sold-out item 8 (both in
// Redis), the upcoming item 9 and the past item 10 (both not).
type bundle struct {
	*Server
	redis  *fakeRedis
	ledger *fakeLedger
	logs   *bytes.Buffer
}

func setup(t testing.TB, change func(*Config)) *bundle {
	t.Helper()
	item := flashsale.Item{
		SaleID: 1, PriceFen: 9900, PointsPrice: 10, Limit: 1, OpensAt: opens, ClosesAt: closes,
		PayTimeout: flashsale.DefaultTimeout, Generation: 1, Total: 100, Stock: 100,
	}
	with := func(id flashsale.ItemID, product string, opensAt, closesAt time.Time) flashsale.Item {
		i := item
		i.ID, i.Product, i.OpensAt, i.ClosesAt = id, product, opensAt, closesAt
		return i
	}
	b := &bundle{
		redis: &fakeRedis{
			now:  redisAt,
			held: map[string][]flashsale.Order{},
			accounts: map[flashsale.ItemID]engine.Account{
				7: {ID: 7, Stock: 40, Limit: 1, OpensAt: opens, ClosesAt: closes, Epoch: 1, Generation: 1, Sequence: 60, State: engine.StateOpen},
				8: {ID: 8, Stock: 0, Limit: 1, OpensAt: opens, ClosesAt: closes, Epoch: 1, Generation: 1, State: engine.StateOpen},
			},
			decide: func(engine.Request) (engine.Reply, error) {
				return engine.Reply{Outcome: flashsale.Accepted, OrderNo: 1234567890123456789}, nil
			},
		},
		ledger: &fakeLedger{
			orders: map[flashsale.OrderNo]flashsale.Order{},
			sales: []flashsale.Sale{{ID: 1, Name: "Spring \"sale\"", OpensAt: opens, ClosesAt: closes, Items: []flashsale.Item{
				with(7, "Kettle", opens, closes), with(8, "Lamp", opens, closes),
				with(9, "Chair", opens.Add(10*time.Minute), closes), with(10, "Table", opens.Add(-time.Hour), opens),
			}}},
		},
		logs: &bytes.Buffer{},
	}
	config := Config{
		AdminToken: adminSecret, DevLogin: true, Registerer: prometheus.NewRegistry(),
		Reserver: b.redis, Sessions: b.redis, Live: b.redis, Ledger: b.ledger,
	}
	if change != nil {
		change(&config)
	}
	var err error
	if b.Server, err = New(config); err != nil {
		t.Fatal(err)
	}
	return b
}

// call runs a request through the public handler, without a connection.
func (b *bundle) call(method, path, body string, headers ...string) *fasthttp.Response {
	return call(b.public.Handler, method, path, body, headers...)
}

func (b *bundle) callOps(method, path, body string, headers ...string) *fasthttp.Response {
	return call(b.ops.Handler, method, path, body, append([]string{"Host", "127.0.0.1:9090"}, headers...)...)
}

func call(handler fasthttp.RequestHandler, method, path, body string, headers ...string) *fasthttp.Response {
	var request fasthttp.Request
	request.Header.SetMethod(method)
	request.SetRequestURI(path)
	request.Header.SetHost("shop.example")
	if body != "" {
		request.SetBodyString(body)
		request.Header.SetContentType(typeJSON)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&request, nil, nil)
	handler(&ctx)
	response := &fasthttp.Response{}
	ctx.Response.CopyTo(response)
	if err := theSpec().conforms(&request, response); err != nil {
		panic(fmt.Sprintf("%s %s %s is answered %d %s, and %s says: %v", method, path, body,
			response.StatusCode(), response.Body(), specYAML, err))
	}
	return response
}

// running is a server that listens.
type running struct {
	*bundle
	stop func() error // shuts down, returns what Run returned
}

func start(t testing.TB, change func(*Config)) *running {
	t.Helper()
	b := setup(t, func(c *Config) {
		c.Addr, c.OpsAddr = "127.0.0.1:0", "127.0.0.1:0"
		if change != nil {
			change(c)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return receive(t, done)
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	receive(t, b.Listening())
	return &running{bundle: b, stop: stop}
}

// request sends a request over the wire on a connection of its own.
func (r *running) request(t testing.TB, method, path string, headers ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.Addr()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, request, headers...)
}

func send(t testing.TB, request *http.Request, headers ...string) (int, string) {
	t.Helper()
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	request.Close = true
	client := &http.Client{Timeout: testTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Errorf("%s %s: %v", request.Method, request.URL, err)
		return 0, ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("%s %s: %v", request.Method, request.URL, err)
	}
	return response.StatusCode, string(body)
}

// raw sends bytes and returns the first line and the body of the answer.
func (r *running) raw(t testing.TB, text string) (string, string) {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testTimeout))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.Header.Get("X-Request-Id") == "" {
		t.Errorf("%q is answered without an X-Request-Id", text)
	}
	body, _ := io.ReadAll(response.Body)
	return response.Status, string(body)
}

func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(testTimeout):
		t.Fatal("nothing came in time")
		panic("unreachable")
	}
}

// as logs a user in.
func as(user string) []string { return []string{"Authorization", "Bearer " + user + "-token"} }

// bearer logs an operator in.
var bearer = []string{"Authorization", "Bearer " + adminSecret}

const adminSecret = "the-secret-of-the-admins"

// code returns the stable code of a problem, or the status of anything else.
func code(response *fasthttp.Response) string {
	var p struct {
		Type     string `json:"type"`
		Code     string `json:"code"`
		Status   int    `json:"status"`
		Instance string `json:"instance"`
	}
	if err := json.Unmarshal(response.Body(), &p); err != nil || p.Code == "" {
		return strconv.Itoa(response.StatusCode())
	}
	if p.Status != response.StatusCode() || string(response.Header.ContentType()) != typeProblem ||
		p.Type != "/docs/api.md#"+p.Code || p.Instance != "urn:flashsale:request:"+string(response.Header.Peek("X-Request-Id")) {
		return fmt.Sprintf("inconsistent: %d %s %s", response.StatusCode(), response.Header.ContentType(), response.Body())
	}
	return fmt.Sprintf("%d %s", p.Status, p.Code)
}

// general is what every problem says: where its code is explained, and which answer it is.
var general = regexp.MustCompile(`"type":"/docs/api\.md#[a-z_]+",|,"instance":"urn:flashsale:request:[^"]+"`)

// particular is the body of an answer without that.
func particular(response *fasthttp.Response) string {
	return general.ReplaceAllString(string(response.Body()), "")
}

// orderAt makes an order number as if drawn at a moment.
func orderAt(at time.Time, n int64) flashsale.OrderNo {
	unit := flashsale.OrderNo(1 << 22).Time().Sub(flashsale.OrderNo(0).Time()) // what the 23rd bit stands for
	return flashsale.OrderNo(int64(at.Sub(flashsale.OrderNo(0).Time())/unit)<<22 + n)
}

// testOrders gives tests that share a Redis server numbers, and so channels, of their own.
var testOrders atomic.Int64

func newOrder(user string) flashsale.Order {
	at := time.Now()
	return flashsale.Order{
		OrderNo: orderAt(at, testOrders.Add(1)), ItemID: 7, User: user, Quantity: 1,
		Status: flashsale.Unpaid, AmountFen: 9900, CreatedAt: at, PayDeadline: at.Add(time.Minute),
	}
}
