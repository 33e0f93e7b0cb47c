package pay

import (
	"context"
	"errors"

	"flashsale"
)

// cancelBatch is how many orders of a cancelled sale one transaction ends.
const cancelBatch = 500

// CancelSale begins to cancel a whole sale: its items stop selling, unpaid orders are cancelled and
// paid ones refunded, by whichever worker runs, each once, however often it is interrupted. It
// reports whether it was this call that began it; asking again changes nothing.
// [flashsale.ErrNotFound] when there is no such sale.
func (d *Desk) CancelSale(ctx context.Context, sale flashsale.SaleID, reason string) (started bool, err error) {
	started, err = d.config.Ledger.CancelSale(ctx, sale, reason)
	if started {
		d.config.Wake()
	}
	return started, err
}

// SaleCancellation says how far it has come; [flashsale.ErrNotFound] where none was begun.
func (d *Desk) SaleCancellation(ctx context.Context, sale flashsale.SaleID) (flashsale.SaleCancellation, error) {
	return d.config.Ledger.SaleCancellation(ctx, sale)
}

// CancelOrder ends an order on an operator's word: an unpaid one is cancelled, of a paid one the
// money is given back. The outcome is [flashsale.RefundComplete], [flashsale.RefundStarted],
// [flashsale.NotRefundable] for an order in any other state, or none when it was cancelled.
func (d *Desk) CancelOrder(ctx context.Context, number flashsale.OrderNo, reason string) (flashsale.Settlement, error) {
	ctx, cancel := d.lasting(ctx)
	defer cancel()
	order, err := d.config.Ledger.CancelOrder(ctx, number)
	switch {
	case err == nil:
		d.config.Wake()
		d.tell(ctx, order)
		return flashsale.Settlement{Order: order}, nil
	case errors.Is(err, flashsale.ErrConflict):
		return d.Refund(ctx, number, order.User, reason)
	}
	return flashsale.Settlement{}, err
}

// cancelSales goes on with the sales that are being cancelled. What is refunded is asked for like
// every refund that is owed.
func (d *Desk) cancelSales(ctx context.Context) (more bool) {
	results, more, err := d.config.Ledger.CancelSaleOrders(ctx, cancelBatch)
	d.fault(ctx, "cancel sale", err)
	if len(results) > 0 {
		d.config.Wake()
		d.config.Tell(ctx, results)
	}
	return more
}
