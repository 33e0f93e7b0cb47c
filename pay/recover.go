package pay

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"flashsale"
	"flashsale/pay/alipay"
)

// Bounds of a recovery.
const (
	recoverBatch  = 100
	recoverAtOnce = 4 // below the pools of the databases
)

// Run finishes what crashes and faults have left, until ctx ends and what is in hand is done:
// payments with points that were begun, refunds that are owed. Faults do not end it.
func (d *Desk) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		d.pass(ctx)
		timer.Reset(d.config.RecoverEvery)
	}
}

// pass takes up what is due until nothing is. What it has taken up it completes.
func (d *Desk) pass(ctx context.Context) {
	for ctx.Err() == nil {
		work, cancel := d.lasting(ctx)
		n := d.recoverIntents(work) + d.recoverRefunds(work)
		cancel()
		if n < recoverBatch {
			return
		}
	}
}

func (d *Desk) recoverIntents(ctx context.Context) (taken int) {
	if d.config.Points == nil {
		return 0
	}
	intents, err := d.config.Ledger.DueIntents(ctx, recoverBatch)
	d.fault(ctx, "find points payments", err)
	each(intents, func(intent flashsale.Intent) {
		// An order that is over needs no try; one that is still unpaid gets what its shopper asked
		// for.
		intent, err := d.config.Ledger.AbandonIntent(ctx, intent.OrderNo)
		if err == nil {
			intent, err = d.finish(ctx, intent)
		}
		d.fault(ctx, "finish points payment", err)
		if err == nil && intent.State == flashsale.IntentDone {
			d.metrics.recoveries.WithLabelValues("points_payment").Inc()
		}
	})
	return len(intents)
}

func (d *Desk) recoverRefunds(ctx context.Context) (taken int) {
	refunds, err := d.config.Ledger.DueRefunds(ctx, recoverBatch)
	d.fault(ctx, "find refunds", err)
	each(refunds, func(refund flashsale.Refund) {
		if receipt, ok := d.tryGiveBack(ctx, refund); ok && receipt.New {
			d.metrics.recoveries.WithLabelValues("refund").Inc()
		}
	})
	return len(refunds)
}

// CloseDue ends the trades of orders whose deadline has passed, so that they can be cancelled,
// and of orders that are over or paid otherwise. A trade that was paid already makes an unpaid
// order paid. It takes up at most limit of them and returns how many have ended.
func (d *Desk) CloseDue(ctx context.Context, limit int) (ended int, err error) {
	if d.config.Alipay == nil {
		return 0, nil
	}
	charges, err := d.config.Ledger.DueCharges(ctx, limit)
	if err != nil {
		return 0, err
	}
	var count atomic.Int64
	each(charges, func(charge flashsale.Charge) {
		work, cancel := d.lasting(ctx)
		defer cancel()
		over, err := d.closeCharge(work, charge)
		d.fault(work, "close trade", err)
		if err == nil && over {
			count.Add(1)
			d.metrics.recoveries.WithLabelValues("trade").Inc()
		}
	})
	return int(count.Load()), nil
}

// closeCharge ends one trade and reports whether it has.
func (d *Desk) closeCharge(ctx context.Context, charge flashsale.Charge) (over bool, err error) {
	closed, err := d.config.Alipay.Close(ctx, charge.OrderNo)
	switch {
	case errors.Is(err, alipay.ErrUnknownTrade) && !charge.Expired:
		return false, nil // the shopper may open the page yet: look again
	case errors.Is(err, alipay.ErrUnknownTrade), err == nil && closed:
		return true, d.config.Ledger.EndCharge(ctx, charge.OrderNo)
	case err != nil:
		return false, err
	}
	trade, err := d.config.Alipay.Query(ctx, charge.OrderNo)
	if err != nil {
		return false, err
	}
	return true, d.receive(ctx, trade)
}

// fault counts and tells what went wrong in a recovery. It is tried again by itself.
func (d *Desk) fault(ctx context.Context, step string, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	d.metrics.faults.WithLabelValues("recovery").Inc()
	d.config.Logger.WarnContext(ctx, "recovery not complete, trying again", "step", step, "error", err)
}

// each calls fn for all, a few at a time, and returns when all calls have.
func each[T any](all []T, fn func(T)) {
	var running sync.WaitGroup
	slots := make(chan struct{}, recoverAtOnce)
	for _, one := range all {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			fn(one)
		})
	}
	running.Wait()
}
