package pay

import (
	"context"
	"errors"
	"fmt"

	"flashsale"
	"flashsale/pay/points"
)

// intentSteps bounds how many steps one call takes with an intent: it has three at most, and
// each may meet somebody else's.
const intentSteps = 8

// errRefused marks what the points service will never do.
var errRefused = errors.New("refused by the points service")

// startPoints pays an order with points: intent, try, the deciding transaction, confirm.
func (d *Desk) startPoints(ctx context.Context, order flashsale.Order) (flashsale.Settlement, error) {
	ctx, cancel := d.lasting(ctx)
	defer cancel()
	tradeNo, err := d.config.NextTradeNo()
	if err != nil {
		return flashsale.Settlement{}, err
	}
	order, intent, err := d.config.Ledger.BeginIntent(ctx, order.OrderNo, order.User, tradeNo)
	if err != nil {
		return flashsale.Settlement{}, err
	}
	if intent.State == "" {
		return d.stands(ctx, order, flashsale.TooLate)
	}
	intent, err = d.finish(ctx, intent)
	switch {
	case errors.Is(err, errRefused):
		return d.stands(ctx, order, flashsale.PaymentRefused)
	case err != nil:
		return flashsale.Settlement{}, err
	case intent.State == flashsale.IntentShort:
		return d.stands(ctx, order, flashsale.InsufficientPoints)
	}
	return d.stands(ctx, order, flashsale.PaymentClosed)
}

// finish takes an intent from wherever it stands to its end: done, or short of points. Any
// number of callers may be at one intent; every step is repeatable and tells what stands.
func (d *Desk) finish(ctx context.Context, intent flashsale.Intent) (flashsale.Intent, error) {
	var err error
	for range intentSteps {
		switch intent.State {
		case flashsale.IntentTrying:
			intent, err = d.try(ctx, intent)
		case flashsale.IntentConfirming:
			intent, err = d.confirm(ctx, intent)
		case flashsale.IntentCancelling:
			intent, err = d.cancel(ctx, intent)
		default:
			return intent, nil
		}
		if err != nil {
			return intent, err
		}
	}
	return intent, fmt.Errorf("points payment of order %s does not end, it is %s", intent.OrderNo, intent.State)
}

// try freezes the points and lets the order database decide.
func (d *Desk) try(ctx context.Context, intent flashsale.Intent) (flashsale.Intent, error) {
	outcome, err := d.config.Points.Try(ctx, points.Hold{
		OrderNo: intent.OrderNo, User: intent.User, Points: intent.Points, TradeNo: intent.TradeNo,
	})
	ledger := d.config.Ledger
	switch {
	case errors.Is(err, flashsale.ErrPermanent): // nothing was frozen, and nothing ever will be
		d.mismatch(ctx, mismatchRefused, intent.OrderNo, err)
		_, moved := ledger.MoveIntent(ctx, intent.OrderNo, flashsale.IntentTrying, flashsale.IntentCancelling)
		return intent, fmt.Errorf("%w: %w", errRefused, errors.Join(err, moved))
	case errors.Is(err, flashsale.ErrConflict):
		d.mismatch(ctx, mismatchPoints, intent.OrderNo, err)
		return intent, fmt.Errorf("%w: %w", errRefused, err)
	case err != nil:
		return intent, err
	}
	switch outcome {
	case points.InsufficientPoints:
		return ledger.MoveIntent(ctx, intent.OrderNo, flashsale.IntentTrying, flashsale.IntentShort)
	case points.AlreadyCancelled: // somebody has ended the payment: it has no second try
		return ledger.MoveIntent(ctx, intent.OrderNo, flashsale.IntentTrying, flashsale.IntentDone)
	case points.Held, points.AlreadyHeld, points.AlreadyConfirmed:
	default:
		d.mismatch(ctx, mismatchPoints, intent.OrderNo, "try answered "+outcome.String())
		return intent, fmt.Errorf("try points of order %s: answered %s", intent.OrderNo, outcome)
	}
	receipt, intent, err := ledger.PayWithPoints(ctx, intent.OrderNo)
	if err == nil && receipt.New {
		d.metrics.payments.WithLabelValues(string(flashsale.Points), "decided").Inc()
		d.tell(ctx, receipt.Order)
	}
	return intent, err
}

// confirm takes the points of an order that is paid.
func (d *Desk) confirm(ctx context.Context, intent flashsale.Intent) (flashsale.Intent, error) {
	outcome, err := d.config.Points.Confirm(ctx, intent.OrderNo)
	if err != nil {
		return intent, err
	}
	if outcome != points.Confirmed && outcome != points.AlreadyConfirmed {
		d.mismatch(ctx, mismatchPoints, intent.OrderNo, "confirm answered "+outcome.String())
		return intent, fmt.Errorf("confirm points of order %s: answered %s", intent.OrderNo, outcome)
	}
	return d.config.Ledger.MoveIntent(ctx, intent.OrderNo, flashsale.IntentConfirming, flashsale.IntentDone)
}

// cancel sets the points of an order free that will not be paid with them.
func (d *Desk) cancel(ctx context.Context, intent flashsale.Intent) (flashsale.Intent, error) {
	outcome, err := d.config.Points.Cancel(ctx, intent.OrderNo)
	if err != nil {
		return intent, err
	}
	if outcome == points.AlreadyConfirmed {
		d.mismatch(ctx, mismatchPoints, intent.OrderNo, "cancel answered "+outcome.String())
		return intent, fmt.Errorf("cancel points of order %s: answered %s", intent.OrderNo, outcome)
	}
	return d.config.Ledger.MoveIntent(ctx, intent.OrderNo, flashsale.IntentCancelling, flashsale.IntentDone)
}
