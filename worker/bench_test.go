package worker

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// nullLedger takes everything at once, so that what remains is the worker.
type nullLedger struct {
	*fakeLedger
	results []flashsale.Result
	left    int
	done    chan struct{}
}

func (l *nullLedger) Persist(_ context.Context, orders []flashsale.Order) ([]flashsale.Result, error) {
	l.results = l.results[:0]
	for i := range orders {
		l.results = append(l.results, flashsale.Result{OrderNo: orders[i].OrderNo, User: orders[i].User, Status: flashsale.Unpaid})
	}
	if l.left -= len(orders); l.left == 0 {
		close(l.done)
	}
	return l.results, nil
}

// The worker's own cost an order: read, decode, acknowledge, publish.
func BenchmarkConsumer(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			s := newSetup(b)
			const page, run = 10_000, 250
			for from := 0; from < b.N; from += page {
				pipe := s.client.Pipeline()
				for first := from; first < min(from+page, b.N); first += run {
					last := min(first+run, b.N)
					fields := entryFields(first+1, last)
					for n := first; n < last; n++ {
						fields[8+2*(n-first)+1] = strconv.FormatInt(1_990_000_000_000_000_000+int64(n)<<12, 10) + " 1 "
					}
					pipe.XAdd(b.Context(), &redis.XAddArgs{Stream: engine.OrdersKey(0), Values: fields})
				}
				pipe.IncrBy(b.Context(), engine.WaitingKey(0), int64(min(page, b.N-from)))
				if _, err := pipe.Exec(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			ledger := &nullLedger{fakeLedger: s.ledger, left: b.N, done: make(chan struct{})}
			config := s.config()
			config.Ledger, config.BatchSize, config.Linger = ledger, size, -1
			b.ReportAllocs()
			b.ResetTimer()
			s.start(config)
			<-ledger.done
			stacktest.Eventually(b, 10*time.Second, s.drained)
			b.StopTimer()
		})
	}
}
