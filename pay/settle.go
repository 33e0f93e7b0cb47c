package pay

import (
	"context"
	"errors"
	"fmt"

	"flashsale"
)

// OpenMoney returns the money that waits for a hand, what waits longest first.
func (d *Desk) OpenMoney(ctx context.Context, limit int) ([]flashsale.OpenMoney, error) {
	return d.config.Ledger.OpenMoney(ctx, limit)
}

// RetryRefund lets a refund that the provider has refused be asked for again: what was wrong is
// mended. [flashsale.ErrConflict] when it was not refused.
func (d *Desk) RetryRefund(ctx context.Context, refundNo string) error {
	return d.config.Ledger.RetryRefund(ctx, refundNo)
}

// SettleRefund notes that an operator has seen to a refund, and returns its order. One of ours that
// was refused is done: he gave the money back by other means. One that was not ours is known: once
// nothing is left of the payment of a paid order, the order is refunded.
// [flashsale.ErrNotFound] when there is no such refund, [flashsale.ErrConflict] when there is
// nothing to settle about it.
func (d *Desk) SettleRefund(ctx context.Context, number string) (flashsale.Order, error) {
	ctx, cancel := d.lasting(ctx)
	defer cancel()
	receipt, err := d.settleRefund(ctx, number)
	if err != nil {
		return flashsale.Order{}, err
	}
	if receipt.New && !receipt.Refund.Surplus {
		d.config.Wake()
		d.tell(ctx, receipt.Order)
	}
	return receipt.Order, nil
}

func (d *Desk) settleRefund(ctx context.Context, number string) (flashsale.Receipt, error) {
	refund, err := d.config.Ledger.Refund(ctx, number)
	switch {
	case errors.Is(err, flashsale.ErrNotFound):
		return d.config.Ledger.SettleForeignRefund(ctx, number)
	case err != nil:
		return flashsale.Receipt{}, err
	case refund.State != flashsale.RefundRefused:
		return flashsale.Receipt{}, fmt.Errorf("settle refund %s: %w: it is %s, only a refused one is settled by hand",
			number, flashsale.ErrConflict, refund.State)
	}
	return d.config.Ledger.FinishRefund(ctx, number)
}
