package worker

import (
	"context"
	"time"
)

// Bounds of the closer.
const (
	closeBatch   = 1_000
	closeTimeout = time.Minute
)

// Trades ends the payments that shoppers have begun for orders whose deadline has passed: what
// was paid by then makes the order paid, and only an order whose payment has ended is cancelled.
type Trades interface {
	// CloseDue takes up at most limit of them and returns how many have ended, and whether more may
	// be due. The others come again later. Any number of callers share the work.
	CloseDue(ctx context.Context, limit int) (ended int, more bool, err error)
}

// closer runs beside the canceller, which leaves out orders with a payment under way: however
// long the payment provider takes, the other orders are cancelled in time.
type closer struct {
	config     Config
	metrics    *metrics
	cancelWake wake
}

func newCloser(config Config, metrics *metrics, cancelWake wake) *closer {
	return &closer{config: config, metrics: metrics, cancelWake: cancelWake}
}

// run closes until ctx ends; what it is at then it completes while work lasts.
func (c *closer) run(ctx, work context.Context) {
	var faults backoff
	for ctx.Err() == nil {
		ended, more, err := c.pass(work)
		switch {
		case err != nil:
			wait := faults.next()
			c.metrics.faults.WithLabelValues("closer").Inc()
			c.config.Logger.Warn("ending payments failed, trying again", "wait", wait, "error", err)
			pause(ctx, wait)
			continue
		case ended > 0:
			c.cancelWake.set()
		}
		faults.reset()
		if !more {
			pause(ctx, c.config.CancelEvery)
		}
	}
}

func (c *closer) pass(ctx context.Context) (ended int, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	return c.config.Trades.CloseDue(ctx, closeBatch)
}
