package pay

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"flashsale"
	"flashsale/pay/alipay"
)

const (
	recoverBatch  = 100
	refundsMax    = 1_000 // taken up at once, at whatever pace
	intentsAtOnce = 4     // below the pools of the databases
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
		more := d.recoverIntents(work) == recoverBatch
		more = d.cancelSales(work) || more
		more = d.recoverRefunds(work) || more
		cancel()
		if !more {
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
	each(intents, intentsAtOnce, func(intent flashsale.Intent) {
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

func (d *Desk) recoverRefunds(ctx context.Context) (more bool) {
	more, err := paced(ctx, d, refundsMax, d.config.Ledger.DueRefunds, func(refund flashsale.Refund) error {
		receipt, err := d.tryGiveBack(ctx, refund)
		if err == nil && receipt.New {
			d.metrics.recoveries.WithLabelValues("refund").Inc()
		}
		return err
	})
	d.fault(ctx, "find refunds", err)
	return more
}

// CloseDue ends the trades of orders whose deadline has passed, so that they can be cancelled,
// and of orders that are over or paid otherwise. A trade that was paid already makes an unpaid
// order paid. It takes up at most limit of them, as many as Alipay takes in a moment, and
// returns how many have ended, and whether more may be due.
func (d *Desk) CloseDue(ctx context.Context, limit int) (ended int, more bool, err error) {
	var count atomic.Int64
	more, err = paced(ctx, d, limit, d.config.Ledger.DueCharges, func(charge flashsale.Charge) error {
		work, cancel := d.lasting(ctx)
		defer cancel()
		over, err := d.closeCharge(work, charge)
		d.fault(work, "close trade", err)
		if err == nil && over {
			count.Add(1)
			d.metrics.recoveries.WithLabelValues("trade").Inc()
		}
		return err
	})
	return int(count.Load()), more, err
}

// closeCharge ends one trade and reports whether it has.
func (d *Desk) closeCharge(ctx context.Context, charge flashsale.Charge) (over bool, err error) {
	if d.config.Alipay == nil {
		return false, fmt.Errorf("close trade of order %s: %w: %w", charge.OrderNo, ErrUnavailable, alipay.ErrUnavailable)
	}
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
