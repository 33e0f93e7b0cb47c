package alipay

import (
	"context"
	"fmt"
	"time"

	"flashsale"
	"flashsale/pay/alipay/internal/wire"
)

const (
	fundChanged   = "Y"
	refundSuccess = "REFUND_SUCCESS"
	refundReason  = "refund"
)

// Refund is what Alipay holds of one refund.
type Refund struct {
	Done      bool
	AmountFen int64     // zero unless done
	At        time.Time // zero unless done and told
}

type refundAnswer struct {
	answer
	FundChange string `json:"fund_change"`
}

type refundQueryAnswer struct {
	answer
	OutRequestNo string `json:"out_request_no"`
	RefundAmount string `json:"refund_amount"`
	RefundStatus string `json:"refund_status"`
	GMTRefundPay string `json:"gmt_refund_pay"`
}

// Refund gives money back. The refund number makes it happen once: derive it from the order,
// and repeat the call with the same number and amount until it is done or [ErrRefused]. Not done
// without an error: Alipay is still at it; ask again after some ten seconds.
func (c *Client) Refund(
	ctx context.Context, no flashsale.OrderNo, refundNo string, amountFen int64, reason string,
) (done bool, err error) {
	switch {
	case !isToken(refundNo):
		return false, fmt.Errorf("refund order %s: %w: refund number %w", no, ErrRefused, errToken)
	case amountFen < 1 || amountFen > wire.FenMax:
		return false, fmt.Errorf("refund order %s: %w: %d fen is out of range", no, ErrRefused, amountFen)
	}
	var reply refundAnswer
	err = c.call(ctx, methodRefund, no, map[string]string{
		"out_request_no": refundNo,
		"refund_amount":  wire.FormatFen(amountFen),
		"refund_reason":  plainText(reason, refundReason),
	}, &reply)
	switch {
	case err != nil:
		return false, fmt.Errorf("refund order %s as %s: %w", no, refundNo, err)
	case reply.OutTradeNo != no.String():
		return false, fmt.Errorf("refund order %s as %s: answer without its number: %w", no, refundNo, ErrUnavailable)
	case reply.FundChange == fundChanged:
		return true, nil
	}
	// No money moved by this call: because an earlier one did it, or because it is not done yet.
	refund, err := c.RefundQuery(ctx, no, refundNo)
	switch {
	case err != nil:
		return false, err
	case refund.Done && refund.AmountFen != amountFen:
		return false, fmt.Errorf("refund order %s as %s: %w: that number has refunded %d fen, not %d",
			no, refundNo, ErrRefused, refund.AmountFen, amountFen)
	}
	return refund.Done, nil
}

// RefundQuery asks what became of a refund. Not done means that Alipay has not carried it out,
// or has never heard of it: call [Client.Refund] again, with the same number.
func (c *Client) RefundQuery(ctx context.Context, no flashsale.OrderNo, refundNo string) (Refund, error) {
	refund, err := c.refundQuery(ctx, no, refundNo)
	if err != nil {
		return Refund{}, fmt.Errorf("query refund %s of order %s: %w", refundNo, no, err)
	}
	return refund, nil
}

func (c *Client) refundQuery(ctx context.Context, no flashsale.OrderNo, refundNo string) (Refund, error) {
	if !isToken(refundNo) {
		return Refund{}, fmt.Errorf("%w: refund number %w", ErrRefused, errToken)
	}
	var reply refundQueryAnswer
	err := c.call(ctx, methodRefundQuery, no, map[string]string{"out_request_no": refundNo}, &reply)
	if err != nil || reply.RefundStatus != refundSuccess {
		return Refund{}, err
	}
	refund := Refund{Done: true}
	if reply.OutTradeNo != no.String() || reply.OutRequestNo != refundNo {
		return Refund{}, fmt.Errorf("answer about another refund: %w", ErrUnavailable)
	}
	if refund.AmountFen, err = wire.ParseFen(reply.RefundAmount); err != nil {
		return Refund{}, fmt.Errorf("refund_amount: %w: %w", ErrUnavailable, err)
	}
	if reply.GMTRefundPay != "" {
		if refund.At, err = wire.ParseTime(reply.GMTRefundPay); err != nil {
			return Refund{}, fmt.Errorf("gmt_refund_pay: %w: %w", ErrUnavailable, err)
		}
	}
	return refund, nil
}
