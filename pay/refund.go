package pay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"flashsale"
	"flashsale/pay/alipay"
	"flashsale/pay/points"
)

// Refund gives the money of a paid order back to its user, all of it, the way it came. The
// outcome is [flashsale.RefundComplete], [flashsale.RefundStarted] while the provider is at it,
// which a recovery then completes, or [flashsale.NotRefundable]. Asking again is safe. An order
// that is not the user's is [flashsale.ErrNotFound].
func (d *Desk) Refund(
	ctx context.Context, number flashsale.OrderNo, user, reason string,
) (flashsale.Settlement, error) {
	ctx, cancel := d.lasting(ctx)
	defer cancel()
	receipt, err := d.config.Ledger.StartRefund(ctx, number, user, reason)
	settlement := flashsale.Settlement{Order: receipt.Order}
	switch {
	case errors.Is(err, flashsale.ErrConflict) && receipt.Order.OrderNo != 0:
		settlement.Outcome = flashsale.NotRefundable
		return settlement, nil
	case err != nil:
		return settlement, fmt.Errorf("refund order %s: %w", number, err)
	}
	if receipt.New {
		d.tell(ctx, receipt.Order)
	}
	settlement.Outcome = flashsale.RefundStarted
	if receipt.Refund.State == flashsale.RefundDue {
		if done, err := d.tryGiveBack(ctx, receipt.Refund); err == nil && done.Order.OrderNo != 0 {
			settlement.Order = done.Order
		}
	}
	if settlement.Order.Status == flashsale.Refunded {
		settlement.Outcome = flashsale.RefundComplete
	}
	return settlement, nil
}

// tryGiveBack is giveBack for what the ledger owes already: a fault, which is told, only delays it.
func (d *Desk) tryGiveBack(ctx context.Context, refund flashsale.Refund) (flashsale.Receipt, error) {
	receipt, err := d.giveBack(ctx, refund)
	if err != nil {
		d.metrics.faults.WithLabelValues("refund").Inc()
		d.config.Logger.WarnContext(ctx, "refund not done, trying again", "refund_no", refund.RefundNo, "error", err)
	}
	return receipt, err
}

// giveBack asks the provider for a refund and, once it is done, completes it. A receipt without
// an order means that the provider is still at it.
func (d *Desk) giveBack(ctx context.Context, refund flashsale.Refund) (flashsale.Receipt, error) {
	done, err := d.ask(ctx, refund)
	if errors.Is(err, alipay.ErrRefused) || errors.Is(err, errRefused) {
		d.mismatch(ctx, mismatchRefund, refund.OrderNo, err)
		d.metrics.refunds.WithLabelValues(string(refund.Method), "refused").Inc()
		return flashsale.Receipt{}, d.config.Ledger.RefuseRefund(ctx, refund, strings.ToValidUTF8(err.Error(), ""))
	}
	if err != nil || !done {
		return flashsale.Receipt{}, err
	}
	receipt, err := d.config.Ledger.FinishRefund(ctx, refund.RefundNo)
	if err != nil {
		return flashsale.Receipt{}, err
	}
	if receipt.New {
		d.metrics.refunds.WithLabelValues(string(refund.Method), "done").Inc()
		if !refund.Surplus {
			d.config.Wake()
			d.tell(ctx, receipt.Order)
		}
	}
	return receipt, nil
}

// ask asks the provider to give the money back, and reports whether it is back.
func (d *Desk) ask(ctx context.Context, refund flashsale.Refund) (done bool, err error) {
	switch {
	case refund.Amount == 0: // all of it went back without us
		return true, nil
	case refund.Method == flashsale.Alipay && d.config.Alipay != nil:
		return d.config.Alipay.Refund(ctx, refund.OrderNo, refund.RefundNo, refund.Amount, refund.Reason)
	case refund.Method == flashsale.Points && d.config.Points != nil:
		return d.askPoints(ctx, refund)
	}
	return false, fmt.Errorf("refund %s by %s: %w", refund.RefundNo, refund.Method, ErrUnavailable)
}

func (d *Desk) askPoints(ctx context.Context, refund flashsale.Refund) (done bool, err error) {
	outcome, err := d.config.Points.Refund(ctx, refund.OrderNo, refund.RefundNo)
	if err == nil && outcome == points.NotConfirmed {
		// The order was paid, and whoever was about to take the points has not yet.
		intent, err := d.config.Ledger.AbandonIntent(ctx, refund.OrderNo)
		if err == nil {
			_, err = d.finish(ctx, intent)
		}
		if err != nil {
			return false, err
		}
		outcome, err = d.config.Points.Refund(ctx, refund.OrderNo, refund.RefundNo)
		if err != nil {
			return false, err
		}
	}
	switch {
	case errors.Is(err, flashsale.ErrPermanent), errors.Is(err, flashsale.ErrConflict):
		return false, fmt.Errorf("%w: %w", errRefused, err)
	case err != nil:
		return false, err
	case outcome == points.Refunded || outcome == points.AlreadyRefunded:
		return true, nil
	}
	d.mismatch(ctx, mismatchPoints, refund.OrderNo, "refund answered "+outcome.String())
	return false, fmt.Errorf("refund %s: points answered %s", refund.RefundNo, outcome)
}
