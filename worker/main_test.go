package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

const patience = 30 * time.Second // two cores under -race beside other packages are slow

func TestMain(m *testing.M) {
	if url := os.Getenv(holderURL); url != "" {
		os.Exit(holdLock(url))
	}
	goleak.VerifyTestMain(stacktest.Suite(m))
}

// setup is one Redis, one ledger and one engine for a test.
type setup struct {
	t      testing.TB
	url    string
	client redis.UniversalClient
	ledger *fakeLedger
	engine *engine.Engine
}

func newSetup(t testing.TB) *setup {
	t.Helper()
	return newSetupOn(t, stacktest.Redis(t))
}

func newSetupOn(t testing.TB, url string) *setup {
	t.Helper()
	client, err := newClient(url, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	e, err := engine.New(t.Context(), engine.Config{RedisURL: url, Registry: engine.NewMemoryRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return &setup{t: t, url: url, client: client, ledger: newFakeLedger(), engine: e}
}

// config is one whose waits are short.
func (s *setup) config() Config {
	return Config{
		AuditEvery:    -1,
		Block:         20 * time.Millisecond,
		Consumer:      "worker-1",
		Engine:        s.engine,
		GuardEvery:    -1,
		Ledger:        s.ledger,
		Logger:        slog.New(slog.DiscardHandler),
		PreheatBefore: -1,
		RetireEvery:   -1,
		RedisURL:      s.url,
		Registerer:    prometheus.NewRegistry(),
		RelayEvery:    20 * time.Millisecond,
	}
}

// running is a worker that runs.
type running struct {
	*Worker
	t    testing.TB
	stop context.CancelFunc
	done chan struct{}
}

func (s *setup) start(config Config) *running {
	s.t.Helper()
	w, err := New(config)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Worker: w, t: s.t, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := w.Run(ctx); err != nil {
			s.t.Errorf("run: %v", err)
		}
	}()
	s.t.Cleanup(r.halt)
	return r
}

func (r *running) halt() {
	r.stop()
	r.wait()
}

func (r *running) wait() {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Error("worker does not stop")
	}
}

// add writes orders from..to of item 1, an entry each.
func (s *setup) add(from, to int) {
	s.t.Helper()
	s.addRuns(from, to, 1)
}

// addRuns writes orders from..to of item 1, some an entry, as reserve.lua does.
func (s *setup) addRuns(from, to, run int) {
	s.t.Helper()
	pipe := s.client.Pipeline()
	for n := from; n <= to; n += run {
		pipe.XAdd(s.t.Context(), &redis.XAddArgs{Stream: engine.OrdersKey(0), Values: entryFields(n, min(n+run-1, to))})
	}
	pipe.IncrBy(s.t.Context(), engine.WaitingKey(0), int64(to-from+1))
	if _, err := pipe.Exec(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// entryFields are those of an entry of orders from..to.
func entryFields(from, to int) []string {
	fields := []string{"item", "1", "gen", "1", "seq", strconv.Itoa(from), "at_ms", "1790000000000"}
	for n := from; n <= to; n++ {
		text := strconv.Itoa(n)
		fields = append(fields, "user-"+text, text+" 1 key-"+text)
	}
	return fields
}

// waiting is how many orders Redis counts in the stream.
func (s *setup) waiting() int {
	s.t.Helper()
	n, err := s.client.Get(s.t.Context(), engine.WaitingKey(0)).Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.t.Fatal(err)
	}
	return n
}

// drained reports what is left of the stream.
func (s *setup) drained() error {
	length, err := s.client.XLen(s.t.Context(), engine.OrdersKey(0)).Result()
	if err != nil {
		return err
	}
	if length > 0 {
		return fmt.Errorf("%d entries are in the stream", length)
	}
	pending, err := s.client.XPending(s.t.Context(), engine.OrdersKey(0), engine.Group).Result()
	if err != nil {
		return err
	}
	if pending.Count > 0 {
		return fmt.Errorf("%d entries are pending", pending.Count)
	}
	if n := s.waiting(); n != 0 {
		return fmt.Errorf("%d orders are counted in an empty stream", n)
	}
	return nil
}

func (s *setup) waitDrained() {
	s.t.Helper()
	stacktest.Eventually(s.t, patience, s.drained)
}

// wantOnce checks that the ledger took each of the orders from..to exactly once, and no other.
func (s *setup) wantOnce(from, to int) {
	s.t.Helper()
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	for n := from; n <= to; n++ {
		if got := s.ledger.applied[flashsale.OrderNo(n)]; got != 1 {
			s.t.Errorf("order %d was applied %d times", n, got)
		}
	}
	if got := len(s.ledger.applied); got != to-from+1 {
		s.t.Errorf("ledger holds %d orders, want %d", got, to-from+1)
	}
}

func wantMetric(t testing.TB, name string, c prometheus.Collector, want float64) {
	t.Helper()
	if got := testutil.ToFloat64(c); got != want {
		t.Errorf("metric %s = %v, want %v", name, got, want)
	}
}

// counted waits for a metric to reach a number.
func counted(c prometheus.Collector, want float64) error {
	if got := testutil.ToFloat64(c); got < want {
		return fmt.Errorf("metric is %v, want %v", got, want)
	}
	return nil
}

var errAway = errors.New("ledger is away")

// fakeLedger is the ledger of record as a plain model: it takes each order number once and
// never takes more units than there are.
type fakeLedger struct {
	onPersist func(ctx context.Context, orders []flashsale.Order) error // before anything is stored
	onStored  func(ctx context.Context)                                 // after the commit
	onOutbox  func() error                                              // after fn, before the commit
	onRebuild func(committed bool) error                                // before the commit and after it

	relay     sync.Mutex // held by the relay and by rebuilds
	mu        sync.Mutex
	items     map[flashsale.ItemID]*flashsale.Item
	orders    map[flashsale.OrderNo]flashsale.Order
	applied   map[flashsale.OrderNo]int // how often an order took units or was refused
	outbox    []flashsale.OutboxRow
	rows      int64
	last      map[holder]flashsale.OrderNo // the newest order that was not refused
	discarded map[flashsale.ItemID][]flashsale.Discarded
	retired   map[flashsale.ItemID]bool
	settled   map[flashsale.ItemID]bool
	seals     map[flashsale.ItemID]map[int64]flashsale.Seal
	away      bool
	persists  int
}

// holder is a user of an item.
type holder struct {
	user string
	item flashsale.ItemID
}

func newFakeLedger() *fakeLedger {
	l := &fakeLedger{
		items:     make(map[flashsale.ItemID]*flashsale.Item),
		orders:    make(map[flashsale.OrderNo]flashsale.Order),
		applied:   make(map[flashsale.OrderNo]int),
		last:      make(map[holder]flashsale.OrderNo),
		discarded: make(map[flashsale.ItemID][]flashsale.Discarded),
		retired:   make(map[flashsale.ItemID]bool),
		settled:   make(map[flashsale.ItemID]bool),
		seals:     make(map[flashsale.ItemID]map[int64]flashsale.Seal),
	}
	l.addItem(1, 1_000_000)
	return l
}

func (l *fakeLedger) addItem(id flashsale.ItemID, total int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items[id] = &flashsale.Item{
		ID: id, SaleID: 1, Product: "thing", PriceFen: 100, Total: total, Stock: total, Limit: 1,
		OpensAt: time.Now().Add(-time.Hour), ClosesAt: time.Now().Add(time.Hour), PayTimeout: time.Minute,
	}
}

func (l *fakeLedger) Persist(ctx context.Context, orders []flashsale.Order) ([]flashsale.Result, error) {
	l.mu.Lock()
	l.persists++
	l.mu.Unlock()
	if l.onPersist != nil {
		if err := l.onPersist(ctx, orders); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results := l.store(orders)
	if l.onStored != nil {
		l.onStored(ctx)
	}
	return results, nil
}

func (l *fakeLedger) store(orders []flashsale.Order) []flashsale.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	results := make([]flashsale.Result, len(orders))
	for i, order := range orders {
		stored, known := l.orders[order.OrderNo]
		if !known {
			stored = order
			l.applied[order.OrderNo]++
			item := l.items[order.ItemID]
			if reason := l.refusal(item, order); reason != "" {
				stored.Status, stored.Reason = flashsale.Rejected, reason
				l.owe(flashsale.OutboxRow{
					Kind: flashsale.Release, ItemID: order.ItemID, OrderNo: order.OrderNo,
					User: order.User, Quantity: order.Quantity,
				})
			} else {
				item.Stock -= int64(order.Quantity)
				stored.Status = flashsale.Unpaid
				stored.AmountFen = item.PriceFen * int64(order.Quantity)
				l.last[holder{order.User, order.ItemID}] = order.OrderNo
				stored.PayDeadline = time.Now().Add(item.PayTimeout)
			}
			l.orders[order.OrderNo] = stored
		}
		results[i] = flashsale.Result{OrderNo: stored.OrderNo, User: stored.User, Status: stored.Status, Reason: stored.Reason}
	}
	return results
}

func (l *fakeLedger) refusal(item *flashsale.Item, order flashsale.Order) string {
	switch {
	case item == nil || item.Stock < int64(order.Quantity):
		return "sold_out"
	case order.Generation < item.Generation:
		return "rebuilt"
	case item.Limit == 1 && l.holds(order.User, order.ItemID):
		return "duplicate_order"
	}
	return ""
}

// holds needs the lock, as do refusal and owe.
func (l *fakeLedger) holds(user string, item flashsale.ItemID) bool {
	return l.orders[l.last[holder{user, item}]].Status.Live()
}

// owe needs the lock.
func (l *fakeLedger) owe(row flashsale.OutboxRow) {
	l.rows++
	row.ID = l.rows
	l.outbox = append(l.outbox, row)
}

func (l *fakeLedger) Outbox(_ context.Context, limit int, fn func([]flashsale.OutboxRow) ([]int64, error)) (int, error) {
	l.relay.Lock()
	defer l.relay.Unlock()
	l.mu.Lock()
	rows := append([]flashsale.OutboxRow(nil), l.outbox[:min(limit, len(l.outbox))]...)
	l.mu.Unlock()
	done, err := fn(rows)
	if err != nil {
		return 0, err
	}
	if l.onOutbox != nil {
		if err := l.onOutbox(); err != nil {
			return 0, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := make(map[int64]bool)
	for _, id := range done {
		gone[id] = true
	}
	kept := l.outbox[:0]
	for _, row := range l.outbox {
		if !gone[row.ID] {
			kept = append(kept, row)
		}
	}
	l.outbox = kept
	return len(done), nil
}

func (l *fakeLedger) owed() []flashsale.OutboxRow {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]flashsale.OutboxRow(nil), l.outbox...)
}

func (l *fakeLedger) CancelDue(_ context.Context, limit int) ([]flashsale.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var results []flashsale.Result
	for no, order := range l.orders {
		if len(results) == limit {
			break
		}
		if order.Status != flashsale.Unpaid || time.Now().Before(order.PayDeadline) {
			continue
		}
		order.Status, order.Reason = flashsale.Cancelled, "pay_timeout"
		l.orders[no] = order
		l.items[order.ItemID].Stock += int64(order.Quantity)
		l.owe(flashsale.OutboxRow{
			Kind: flashsale.Release, ItemID: order.ItemID, OrderNo: no, User: order.User, Quantity: order.Quantity,
		})
		results = append(results, flashsale.Result{OrderNo: no, User: order.User, Status: order.Status, Reason: order.Reason})
	}
	return results, nil
}

func (l *fakeLedger) NextDeadline(context.Context) (next time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, order := range l.orders {
		if order.Status == flashsale.Unpaid && (next.IsZero() || order.PayDeadline.Before(next)) {
			next = order.PayDeadline
		}
	}
	return next, nil
}

func (l *fakeLedger) Item(_ context.Context, id flashsale.ItemID) (flashsale.Item, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if item := l.items[id]; item != nil {
		return *item, nil
	}
	return flashsale.Item{}, flashsale.ErrNotFound
}

func (l *fakeLedger) Sale(_ context.Context, id flashsale.SaleID) (flashsale.Sale, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sale := flashsale.Sale{ID: id}
	for _, item := range l.items {
		if item.SaleID == id {
			sale.Items = append(sale.Items, *item)
		}
	}
	if len(sale.Items) == 0 {
		return sale, flashsale.ErrNotFound
	}
	return sale, nil
}

func (l *fakeLedger) Load(ctx context.Context, id flashsale.ItemID, fn func(flashsale.Item, bool) error) error {
	item, err := l.Item(ctx, id)
	if err != nil {
		return err
	}
	before := item.Generation > 0
	item.Generation = max(item.Generation, 1)
	if err := fn(item, before); err != nil {
		return err
	}
	if l.onOutbox != nil {
		if err := l.onOutbox(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items[id].Generation = item.Generation
	return nil
}

// addArgs are the arguments of XADD.
func addArgs(key string, fields ...string) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: key, Values: fields}
}
