package pay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flashsale"
	"flashsale/pay/alipay"
)

// Look asks Alipay at once what became of the payment of an order that somebody waits for, should
// one have been started: a shopper who has paid need not wait for the notice. Whatever has become
// of it is recorded, and told as ever. Calls about one order are answered once in two seconds,
// and all of them share the bound of notices; the others do nothing.
func (d *Desk) Look(ctx context.Context, number flashsale.OrderNo) error {
	if d.config.Alipay == nil || !d.gate.looks.take(number, time.Now()) {
		return nil
	}
	open, err := d.config.Ledger.ChargeOpen(ctx, number)
	if err != nil || !open {
		return err
	}
	leave, ok := d.gate.ask(ctx, askWait)
	if !ok {
		return nil
	}
	defer leave()
	trade, err := d.config.Alipay.Query(ctx, number)
	if err == nil {
		ctx, cancel := d.lasting(ctx)
		defer cancel()
		err = d.receive(ctx, trade)
	}
	if err != nil && !errors.Is(err, alipay.ErrUnknownTrade) { // the page was not opened yet
		return fmt.Errorf("look for the payment of order %s: %w", number, err)
	}
	return nil
}
