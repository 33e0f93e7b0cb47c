package worker

import (
	"context"
	"fmt"
	"time"

	"flashsale"
)

// Bounds of the canceller.
const (
	cancelBatch   = 1000
	cancelTimeout = 30 * time.Second
	// cancelPauseMin is the shortest wait for a deadline. A deadline that our clock takes for
	// past and the ledger's for future must not make us spin.
	cancelPauseMin = 10 * time.Millisecond
)

// Deadlines cancels what is not paid in time, by the ledger's own clock.
type Deadlines interface {
	// CancelDue cancels up to limit unpaid orders whose deadline has passed, and owes their
	// units to Redis in the same transaction. Any number of callers share the work.
	CancelDue(ctx context.Context, limit int) ([]flashsale.Result, error)
	// NextDeadline returns the earliest deadline of an unpaid order, or the zero time.
	NextDeadline(ctx context.Context) (time.Time, error)
}

// canceller gives unpaid orders up at their deadline: it sleeps until the next one, but looks
// at least every CancelEvery, because any worker may persist an order with an earlier one.
type canceller struct {
	config    Config
	tell      func(context.Context, []flashsale.Result)
	metrics   *metrics
	wake      wake
	relayWake wake
}

func newCanceller(config Config, tell func(context.Context, []flashsale.Result),
	metrics *metrics, wake, relayWake wake,
) *canceller {
	return &canceller{config: config, tell: tell, metrics: metrics, wake: wake, relayWake: relayWake}
}

// run cancels until ctx ends; what it is at then it completes while work lasts.
func (c *canceller) run(ctx, work context.Context) {
	var faults backoff
	for ctx.Err() == nil {
		wait, err := c.pass(work)
		if err != nil {
			wait = faults.next()
			c.metrics.faults.WithLabelValues("canceller").Inc()
			c.config.Logger.Warn("cancelling unpaid orders failed, trying again", "wait", wait, "error", err)
			pause(ctx, wait)
			continue
		}
		faults.reset()
		if wait > 0 {
			c.wake.wait(ctx, wait)
		}
	}
}

// pass cancels one batch and returns how long to wait for the next.
func (c *canceller) pass(ctx context.Context) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	results, err := c.config.Ledger.CancelDue(ctx, cancelBatch)
	if err != nil {
		return 0, fmt.Errorf("cancel due orders: %w", err)
	}
	if len(results) > 0 {
		c.metrics.cancelled.Add(float64(len(results)))
		c.relayWake.set()
		c.tell(ctx, results)
	}
	if len(results) == cancelBatch {
		return 0, nil // there may be more
	}
	next, err := c.config.Ledger.NextDeadline(ctx)
	if err != nil {
		return 0, fmt.Errorf("next deadline: %w", err)
	}
	if next.IsZero() {
		return c.config.CancelEvery, nil
	}
	return min(max(time.Until(next), cancelPauseMin), c.config.CancelEvery), nil
}
