package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flashsale"
)

// standPatience is how long the ledger may keep a batch waiting before the worker is not ready any
// more. Where it says that waiting will not help, the worker is not ready at once.
const standPatience = 10 * time.Second

// stand tells how long the consumer of one partition has stood still before the ledger, and why.
type stand struct {
	partition int
	gauge     prometheus.Gauge

	mu    sync.Mutex
	since time.Time // zero: it does not stand
	cause error
}

func newStand(partition int, metrics *metrics) *stand {
	return &stand{partition: partition, gauge: metrics.stands.WithLabelValues(strconv.Itoa(partition))}
}

func (s *stand) begin(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		s.since = time.Now()
		s.gauge.Set(1)
	}
	s.cause = cause
}

func (s *stand) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.since.IsZero() {
		s.since, s.cause = time.Time{}, nil
		s.gauge.Set(0)
	}
}

// check returns why orders of the partition are not being persisted.
func (s *stand) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() || !needsOperator(s.cause) && time.Since(s.since) < standPatience {
		return nil
	}
	return fmt.Errorf("partition %d stands since %s: %w", s.partition, s.since.Format(time.RFC3339), s.cause)
}

// needsOperator reports whether waiting alone will not help.
func needsOperator(cause error) bool {
	return errors.Is(cause, flashsale.ErrRefused) || errors.Is(cause, ErrOldStream)
}

// standLevel is that of an alarm for what only an operator can end.
func standLevel(cause error) slog.Level {
	if needsOperator(cause) {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// Ready tells whether what the partitions hold is being persisted, and why not.
func (w *Worker) Ready(context.Context) error {
	var errs []error
	for _, s := range w.stands {
		errs = append(errs, s.check())
	}
	return errors.Join(errs...)
}
