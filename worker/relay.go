package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flashsale"
	"flashsale/engine"
)

// Bounds of one pass of the relay.
const (
	relayBatch   = 1000
	relayTimeout = 30 * time.Second
)

// Outbox hands out the effects that committed transactions owe to Redis.
type Outbox interface {
	// Outbox calls fn with the oldest rows, in the order of their ids, and deletes those whose
	// ids fn returns, in one transaction that keeps other relays out. While another relay is
	// at it, fn is not called. After a full page the items of the rows that were not done are
	// left out of the next calls, until a page is not full: they hide nothing.
	Outbox(ctx context.Context, limit int, fn func(rows []flashsale.OutboxRow) (done []int64, err error)) (handled int, err error)
}

// RelayEngine carries the effects out. Each may be repeated without harm. An error that wraps
// [engine.ErrNotReady] concerns the item alone.
type RelayEngine interface {
	Release(ctx context.Context, item flashsale.ItemID, orders []engine.Held) (released int, err error)
	Restock(ctx context.Context, item flashsale.ItemID, number, add int64) error
	Pause(ctx context.Context, item flashsale.ItemID) error
	Resume(ctx context.Context, item flashsale.ItemID) error
}

// relay carries out on Redis what the outbox holds. A row is deleted after its effect stands;
// a crash in between repeats the effect, which changes nothing: release is idempotent by order
// number, restock by the row's id, the states by themselves. Rows of one item keep their
// order; an item that is not ready holds up its own rows only.
type relay struct {
	config  Config
	metrics *metrics
	wake    wake
}

func newRelay(config Config, metrics *metrics, wake wake) *relay {
	return &relay{config: config, metrics: metrics, wake: wake}
}

// run relays until ctx ends, and then once more while work lasts: the last batch of the
// consumers may have put something in the outbox.
func (r *relay) run(ctx, work context.Context) {
	var faults backoff
	for {
		last := ctx.Err() != nil
		more, err := r.pass(work)
		switch {
		case err != nil:
			wait := faults.next()
			r.metrics.faults.WithLabelValues("relay").Inc()
			r.config.Logger.Warn("relay failed, trying again", "wait", wait, "error", err)
			pause(ctx, wait)
		case more:
			faults.reset()
		default:
			faults.reset()
			r.wake.wait(ctx, r.config.RelayEvery)
		}
		if last {
			return
		}
	}
}

// pass carries out one batch and reports whether there may be more to do at once.
func (r *relay) pass(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	rows, done := 0, 0
	var fault error
	_, err = r.config.Ledger.Outbox(ctx, relayBatch, func(batch []flashsale.OutboxRow) ([]int64, error) {
		ids, err := r.carryOut(ctx, batch)
		rows, done, fault = len(batch), len(ids), err
		return ids, nil // what is done is done, whatever happened to the rest
	})
	if err != nil {
		return false, fmt.Errorf("outbox: %w", err)
	}
	r.metrics.outboxWaiting.Set(float64(rows - done))
	return rows == relayBatch, fault
}

// carryOut returns the ids of the rows whose effect stands. The error is of the first item that
// failed for another reason than not being ready.
func (r *relay) carryOut(ctx context.Context, rows []flashsale.OutboxRow) (done []int64, fault error) {
	var items []flashsale.ItemID // in the order of their oldest row
	byItem := make(map[flashsale.ItemID][]flashsale.OutboxRow)
	for _, row := range rows {
		if byItem[row.ItemID] == nil {
			items = append(items, row.ItemID)
		}
		byItem[row.ItemID] = append(byItem[row.ItemID], row)
	}
	for _, item := range items {
		n, err := carryOutItem(ctx, r.config.Engine, item, byItem[item])
		for _, row := range byItem[item][:n] {
			done = append(done, row.ID)
			r.metrics.relayed.WithLabelValues(string(row.Kind)).Inc()
		}
		if err == nil || errors.Is(err, engine.ErrNotReady) {
			continue
		}
		if fault == nil {
			fault = fmt.Errorf("relay to item %d: %w", item, err)
		}
		// An answer from Redis, even a refusal, concerns the item. No answer concerns all, and
		// each further call would hold the transaction for another timeout.
		if errors.Is(err, engine.ErrUnknown) || ctx.Err() != nil {
			break
		}
	}
	return done, fault
}

// carryOutItem takes an item's rows in order and returns how many it carried out.
func carryOutItem(ctx context.Context, on RelayEngine, item flashsale.ItemID, rows []flashsale.OutboxRow) (done int, err error) {
	for done < len(rows) {
		step := 1
		switch row := rows[done]; row.Kind {
		case flashsale.Release:
			orders := releases(rows[done:])
			step = len(orders)
			_, err = on.Release(ctx, item, orders)
		case flashsale.Restock:
			err = on.Restock(ctx, item, row.ID, int64(row.Quantity))
		case flashsale.Pause:
			err = on.Pause(ctx, item)
		case flashsale.Resume:
			err = on.Resume(ctx, item)
		default:
			err = fmt.Errorf("outbox row %d has the unknown kind %q", row.ID, row.Kind)
		}
		if err != nil {
			return done, err
		}
		done += step
	}
	return done, nil
}

// releases returns the orders of the releases at the head of the rows.
func releases(rows []flashsale.OutboxRow) []engine.Held {
	var orders []engine.Held
	for _, row := range rows {
		if row.Kind != flashsale.Release {
			break
		}
		orders = append(orders, engine.Held{OrderNo: row.OrderNo, User: row.User})
	}
	return orders
}
