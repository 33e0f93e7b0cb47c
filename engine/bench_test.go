package engine_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// benchmarkGoroutines is how many shoppers ask at once.
const benchmarkGoroutines = 256

// benchmarkStock never sells out within a benchmark.
const benchmarkStock = flashsale.StockMax

// groupCommit and oneByOne are the two ways to call the same script: many requests a call, or
// one request a call with the client's own pipelining.
var (
	groupCommit = engine.Config{}
	oneByOne    = engine.Config{BatchMax: 1, InFlight: 1 << 20}
)

// benchmarkEngine starts an engine on FLASHSALE_BENCH_REDIS, or on a private Redis.
func benchmarkEngine(b *testing.B, config engine.Config) *engine.Engine {
	b.Helper()
	config.RedisURL = os.Getenv("FLASHSALE_BENCH_REDIS")
	if config.RedisURL == "" {
		config.RedisURL = stacktest.Redis(b)
	}
	config.StreamMax = 1 << 40
	config.Registry = engine.NewMemoryRegistry()
	e, err := engine.New(context.Background(), config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(e.Close)
	return e
}

var benchmarkItem atomic.Int64

// preheated loads an item with the given stock that is open now.
func preheated(b testing.TB, e *engine.Engine, stock int64) flashsale.ItemID {
	b.Helper()
	item := flashsale.Item{
		ID: flashsale.ItemID(time.Now().UnixNano()/1000*100 + benchmarkItem.Add(1)%100), Stock: stock, Limit: 1, Generation: 1,
		OpensAt: time.Now().Add(-time.Minute), ClosesAt: time.Now().Add(time.Hour),
	}
	if err := e.Preheat(context.Background(), item); err != nil {
		b.Fatal(err)
	}
	return item.ID
}

// benchmarkReserve has distinct users buy one unit each, of one of the items. Beside orders a
// second it reports script runs and this process' CPU time for each of them.
func benchmarkReserve(b *testing.B, config engine.Config, items int) {
	registry := prometheus.NewRegistry()
	config.Registerer = registry
	e := benchmarkEngine(b, config)
	ids := make([]flashsale.ItemID, items)
	for n := range ids {
		ids[n] = preheated(b, e, benchmarkStock)
	}
	users := make([]string, b.N)
	for n := range users {
		users[n] = "user" + strconv.Itoa(n)
	}
	ctx := context.Background()
	var next atomic.Int64
	b.SetParallelism(benchmarkGoroutines / max(1, runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	scripts, cpu := scriptRuns(b, registry), cpuTime(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := next.Add(1) - 1
			reply, err := e.Reserve(ctx, engine.Request{Item: ids[int(n)%items], User: users[n], Quantity: 1})
			if err != nil || reply.Outcome != flashsale.Accepted {
				b.Error(fmt.Errorf("user %s: %s %w", users[n], reply.Outcome, err))
				return
			}
		}
	})
	b.StopTimer()
	orders := float64(b.N)
	b.ReportMetric(orders/b.Elapsed().Seconds(), "orders/s")
	b.ReportMetric(float64(scriptRuns(b, registry)-scripts)/orders, "scripts/order")
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1000/orders, "cpu-µs/order")
}

// scriptRuns is how many script calls the engine has made.
func scriptRuns(b *testing.B, registry *prometheus.Registry) uint64 {
	b.Helper()
	families, err := registry.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "flashsale_reserve_batch_size" {
			return family.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	b.Fatal("the engine does not count its script calls")
	return 0
}

// cpuTime is what this process has used of the processors.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkReserve_OneItem is the flash sale: everybody wants the same item.
func BenchmarkReserve_OneItem(b *testing.B) {
	b.Run("group", func(b *testing.B) { benchmarkReserve(b, groupCommit, 1) })
	b.Run("single", func(b *testing.B) { benchmarkReserve(b, oneByOne, 1) })
}

// BenchmarkReserve_ManyItems spreads the crowd over 64 lanes.
func BenchmarkReserve_ManyItems(b *testing.B) {
	b.Run("group", func(b *testing.B) { benchmarkReserve(b, groupCommit, 64) })
	b.Run("single", func(b *testing.B) { benchmarkReserve(b, oneByOne, 64) })
}
