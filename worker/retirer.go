package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"flashsale"
	"flashsale/engine"
)

const (
	retireLock = "retire"
	retirePage = 100 // items that one question to the ledger returns

	// An order that is settled is written anew. A page takes about 0.1 s of a quiet PostgreSQL:
	// with the rest after it, a million orders take about a minute.
	settlePage = 5_000
	settleRest = 200 * time.Millisecond
)

// RetireLedger is the ledger of record as the retirer needs it.
type RetireLedger interface {
	AuditLedger
	// Retirable returns a page of the items after an id that closed more than
	// [flashsale.KeptAfterClose] ago, have not left Redis for good, and are owed nothing.
	Retirable(ctx context.Context, after flashsale.ItemID, limit int) ([]flashsale.Item, error)
	// Retire keeps that an item has left Redis for good, and what its orders are, and reports
	// whether it did: not if something is owed to the item, or if an order of it was persisted
	// since it had the given generation and sequence.
	Retire(ctx context.Context, item flashsale.ItemID, generation, sequence int64,
		seals map[int64]flashsale.Seal) (bool, error)
	// Unsettled returns items that have left Redis and whose orders are not settled.
	Unsettled(ctx context.Context, limit int) ([]flashsale.ItemID, error)
	// Settle makes the orders of an item that has left Redis cost those of items on sale nothing
	// more. It takes pages of limit orders, and calls rest after each.
	Settle(ctx context.Context, item flashsale.ItemID, limit int, rest func(context.Context) error) error
}

// RetireEngine is Redis' side of the engine as the retirer needs it.
type RetireEngine interface {
	AuditEngine
	// Forget takes an item out of Redis.
	Forget(ctx context.Context, item flashsale.ItemID) error
}

// retirer takes items out of Redis for good, a day after their close. What Redis alone knows goes
// with them, so each is proved a last time, and what its orders are is sealed: an item that is not
// right stays, as evidence, until an operator has mended it. What is given back of its orders
// later concerns the ledger alone.
//
// Redis forgets the item first. From then on nothing is accepted; if something was in between it
// is in the stream, is persisted as always, and the item retires at the next pass. An item that
// has left Redis and is owed something all the same is rebuilt by the guardian, and comes again.
type retirer struct {
	config  Config
	auditor *Auditor
	locks   *locker
	metrics *metrics
}

func newRetirer(config Config, auditor *Auditor, locks *locker, metrics *metrics) *retirer {
	return &retirer{config: config, auditor: auditor, locks: locks, metrics: metrics}
}

func (r *retirer) run(ctx context.Context) {
	var faults backoff
	for ctx.Err() == nil {
		wait := r.config.RetireEvery
		_, err := r.locks.do(ctx, retireLock, lockTTL, func(held context.Context) error {
			return errors.Join(r.pass(held), r.settle(held))
		})
		if err == nil {
			faults.reset()
		} else if ctx.Err() == nil {
			wait = faults.next()
			r.metrics.faults.WithLabelValues("retirer").Inc()
			r.config.Logger.Warn("retiring items failed, trying again", "wait", wait, "error", err)
		}
		pause(ctx, wait)
	}
}

// pass retires what is due. One item's fault does not keep the others.
func (r *retirer) pass(ctx context.Context) error {
	var faults []error
	for after := flashsale.ItemID(0); ; {
		items, err := r.config.Ledger.Retirable(ctx, after, retirePage)
		if err != nil || len(items) == 0 {
			return errors.Join(append(faults, err)...)
		}
		for _, item := range items {
			if err := r.retire(ctx, item); err != nil {
				faults = append(faults, fmt.Errorf("item %d: %w", item.ID, err))
			}
		}
		after = items[len(items)-1].ID
	}
}

// settle settles the orders of what has retired, now or before.
func (r *retirer) settle(ctx context.Context) error {
	for {
		items, err := r.config.Ledger.Unsettled(ctx, retirePage)
		if err != nil || len(items) == 0 {
			return err
		}
		for _, item := range items {
			err := r.config.Ledger.Settle(ctx, item, settlePage, func(ctx context.Context) error {
				pause(ctx, settleRest)
				return ctx.Err()
			})
			if err != nil {
				return err
			}
		}
	}
}

func (r *retirer) retire(ctx context.Context, item flashsale.Item) error {
	var e *examination
	var wrong findings
	err := r.auditor.prove(ctx, []flashsale.Item{item}, &progress{}, func(seen *examination, confirmed findings) {
		e, wrong = seen, confirmed
	})
	if err != nil {
		return err
	}
	// What the account says beside its units goes with it.
	wrong = slices.DeleteFunc(wrong, func(f *finding) bool { return strings.HasPrefix(f.kind, kindAccount) })
	if len(wrong) > 0 {
		r.config.Logger.Warn("item stays in redis: it is not right", "item", item.ID, "finding", wrong[0].String())
		return nil
	}
	if len(e.stream)+len(e.dead)+len(e.books.Owed) > 0 {
		return nil // at the next pass
	}
	if err := r.config.Engine.Forget(ctx, item.ID); err != nil {
		return err
	}
	waits, err := r.auditor.readWaiting(ctx, []int{engine.Partition(item.ID, r.auditor.config.Partitions)})
	if err != nil || len(waits.stream[item.ID])+len(waits.dead[item.ID]) > 0 {
		return err
	}
	retired, err := r.config.Ledger.Retire(ctx, item.ID, e.books.Generation, e.books.Sequence, e.seals)
	if err == nil && retired {
		r.metrics.retired.Inc()
		r.config.Logger.Info("item has left redis for good", "item", item.ID, "orders", e.orders)
	}
	return err
}
