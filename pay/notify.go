package pay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"flashsale"
	"flashsale/pay/alipay"
)

// Kinds of what does not fit, as metrics and logs name them.
const (
	mismatchOrder  = "unknown_order"  // money for an order that does not exist
	mismatchTrade  = "other_trade"    // notice and query speak of different trades
	mismatchAmount = "amount"         // or a trade number of another order
	mismatchRefund = "refund"         // money went back that we did not send, or the provider refused
	mismatchPoints = "points_payment" // the points database contradicts the order database

	mismatchRefused = "refused" // a payment that the provider will never take
)

// Notify takes one of Alipay's notices, as it came from an address. nil means that it may be acknowledged: it is genuine,
// and whatever follows from it is committed. An error means that it must come again, or is not
// Alipay's.
//
// A notice may come any number of times, late and in any order, because it only makes the desk
// ask what became of the trade: what the answer says is recorded once.
func (d *Desk) Notify(ctx context.Context, from netip.Prefix, body []byte) error {
	if d.config.Alipay == nil {
		return ErrUnavailable
	}
	admission := d.admission(ctx, from)
	notice, err := d.config.Alipay.ParseNotify(ctx, body, admission.admit)
	admission.done(err)
	if err != nil {
		return err
	}
	leave, ok := d.gate.ask(ctx, askWait)
	if !ok {
		return ErrBusy
	}
	defer leave()
	ctx, cancel := d.lasting(ctx)
	defer cancel()
	if err := d.notify(ctx, notice); err != nil {
		d.metrics.faults.WithLabelValues("notify").Inc()
		return fmt.Errorf("notice %s about order %s: %w", notice.NotifyID, notice.OrderNo, err)
	}
	return nil
}

func (d *Desk) notify(ctx context.Context, notice alipay.Notice) error {
	refunded := notice.RefundFen > 0 || notice.RefundNo != ""
	order, err := d.config.Ledger.Order(ctx, notice.OrderNo)
	if errors.Is(err, flashsale.ErrNotFound) {
		d.mismatch(ctx, mismatchOrder, notice.OrderNo, notice.TradeNo)
		if refunded {
			return nil // the money is back where it came from
		}
	}
	switch {
	case err != nil:
		return err
	case refunded:
		return d.refundNoticed(ctx, notice)
	}
	// What the notice says of the amount is signed, and still no more than a hint; but one that
	// contradicts the order is not acknowledged before somebody has looked at it.
	if notice.AmountFen != order.AmountFen {
		d.mismatch(ctx, mismatchAmount, notice.OrderNo, notice.AmountFen)
		return fmt.Errorf("%w: the notice says %d fen, the order costs %d", flashsale.ErrConflict, notice.AmountFen, order.AmountFen)
	}
	trade, err := d.config.Alipay.Query(ctx, notice.OrderNo)
	if err != nil {
		return err
	}
	if trade.TradeNo != notice.TradeNo {
		d.mismatch(ctx, mismatchTrade, notice.OrderNo, notice.TradeNo)
		return fmt.Errorf("%w: the order's trade is %s, not %s", flashsale.ErrConflict, trade.TradeNo, notice.TradeNo)
	}
	return d.receive(ctx, trade)
}

// receive acts on what Alipay has answered about a trade. It is where orders become paid.
func (d *Desk) receive(ctx context.Context, trade alipay.Trade) error {
	switch {
	case trade.Status == alipay.WaitBuyerPay:
		return nil
	case trade.Status == alipay.TradeClosed && trade.PaidAt.IsZero():
		return d.config.Ledger.EndCharge(ctx, trade.OrderNo)
	case trade.Status == alipay.TradeClosed:
		return d.receiveReturned(ctx, trade)
	}
	receipt, err := d.config.Ledger.Pay(ctx, flashsale.Payment{
		Method: flashsale.Alipay, TradeNo: trade.TradeNo, OrderNo: trade.OrderNo,
		Amount: trade.AmountFen, PaidAt: trade.PaidAt,
	})
	switch {
	case errors.Is(err, flashsale.ErrConflict):
		d.mismatch(ctx, mismatchAmount, trade.OrderNo, err)
		return err
	case err != nil:
		return err
	}
	surplus := receipt.Refund.Surplus
	switch {
	case !receipt.New:
	case surplus:
		d.metrics.payments.WithLabelValues(string(flashsale.Alipay), "surplus").Inc()
		d.config.Logger.WarnContext(ctx, "money came for an order that takes none, giving it back",
			"order_no", trade.OrderNo, "order_status", receipt.Order.Status, "trade_no", trade.TradeNo)
	default:
		d.metrics.payments.WithLabelValues(string(flashsale.Alipay), flashsale.PayDone.String()).Inc()
		d.tell(ctx, receipt.Order)
	}
	if surplus && receipt.Refund.State == flashsale.RefundDue {
		_, _ = d.tryGiveBack(ctx, receipt.Refund) // the refund is owed in the ledger, whatever comes of it now
	}
	return nil
}

// receiveReturned is about a trade whose money came and went back. It is ours if we gave it
// back; otherwise somebody else did.
func (d *Desk) receiveReturned(ctx context.Context, trade alipay.Trade) error {
	history, err := d.config.Ledger.History(ctx, trade.OrderNo)
	if err != nil {
		return err
	}
	for _, refund := range history.Refunds {
		if refund.Method == flashsale.Alipay && refund.TradeNo == trade.TradeNo {
			return nil
		}
	}
	return d.recordForeign(ctx, alipay.Notice{
		OrderNo: trade.OrderNo, TradeNo: trade.TradeNo, AmountFen: trade.AmountFen,
		Status: trade.Status, RefundFen: trade.AmountFen, At: trade.PaidAt,
	}, 0)
}

// refundNoticed acts on the notice of a refund. One of ours is finished by asking for it again.
// Every other was made by somebody else, is on record from then on, and may be acknowledged: by
// hearing it again nothing would change.
func (d *Desk) refundNoticed(ctx context.Context, notice alipay.Notice) error {
	refund, err := d.config.Ledger.Refund(ctx, notice.RefundNo)
	switch {
	case err == nil && refund.OrderNo == notice.OrderNo && refund.State == flashsale.RefundDone:
		return nil
	case err == nil && refund.OrderNo == notice.OrderNo:
		_, err = d.giveBack(ctx, refund)
		return err
	case err != nil && !errors.Is(err, flashsale.ErrNotFound):
		return err
	}
	if err := d.receivePart(ctx, notice); err != nil {
		return err
	}
	var amount int64
	if notice.RefundNo != "" {
		told, err := d.config.Alipay.RefundQuery(ctx, notice.OrderNo, notice.RefundNo)
		if err != nil && !answered(err) {
			return err
		}
		amount = told.AmountFen
	}
	return d.recordForeign(ctx, notice, amount)
}

// receivePart makes sure that the payment is known of which others have given a part back: its own
// notice may have been lost.
func (d *Desk) receivePart(ctx context.Context, notice alipay.Notice) error {
	trade, err := d.config.Alipay.Query(ctx, notice.OrderNo)
	switch {
	case err != nil && answered(err):
		return nil
	case err != nil:
		return err
	case trade.TradeNo != notice.TradeNo:
		d.mismatch(ctx, mismatchTrade, notice.OrderNo, notice.TradeNo)
		return nil
	case !trade.Status.Paid():
		return nil
	}
	if err := d.receive(ctx, trade); !errors.Is(err, flashsale.ErrConflict) { // which is counted
		return err
	}
	return nil
}

// answered tells an error that Alipay has answered with from one that leaves everything open.
func answered(err error) bool {
	return errors.Is(err, alipay.ErrRefused) || errors.Is(err, alipay.ErrUnknownTrade)
}

// recordForeign puts money on record that went back without us. The amount is 0 where Alipay tells
// only what went back in all.
func (d *Desk) recordForeign(ctx context.Context, notice alipay.Notice, amount int64) error {
	news, err := d.config.Ledger.RecordForeignRefund(ctx, flashsale.ForeignRefund{
		ProviderNo: notice.RefundNo, OrderNo: notice.OrderNo, Method: flashsale.Alipay, TradeNo: notice.TradeNo,
		Amount: amount, At: notice.At,
	}, notice.RefundFen, notice.AmountFen)
	if err != nil {
		return err
	}
	if news {
		d.mismatch(ctx, mismatchRefund, notice.OrderNo, "refund "+notice.RefundNo+" of trade "+notice.TradeNo+" is not ours")
	}
	if notice.Status == alipay.TradeClosed {
		return d.config.Ledger.EndCharge(ctx, notice.OrderNo)
	}
	return nil
}
