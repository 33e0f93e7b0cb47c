package alipay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flashsale"
	"flashsale/pay/alipay/internal/wire"
)

// Trade is what Alipay holds of an order.
type Trade struct {
	OrderNo   flashsale.OrderNo
	TradeNo   string
	AmountFen int64
	Status    Status
	PaidAt    time.Time // zero: never paid. Tells a trade closed unpaid from one refunded in full
}

type queryAnswer struct {
	answer
	SendPayDate string `json:"send_pay_date"`
	TotalAmount string `json:"total_amount"`
	TradeNo     string `json:"trade_no"`
	TradeStatus Status `json:"trade_status"`
}

// Query asks for the trade of an order. [ErrUnknownTrade] until the shopper has opened the pay
// page.
func (c *Client) Query(ctx context.Context, no flashsale.OrderNo) (Trade, error) {
	trade, err := c.query(ctx, no)
	if err != nil {
		return Trade{}, fmt.Errorf("query order %s: %w", no, err)
	}
	return trade, nil
}

func (c *Client) query(ctx context.Context, no flashsale.OrderNo) (Trade, error) {
	var reply queryAnswer
	if err := c.call(ctx, methodQuery, no, nil, &reply); err != nil {
		return Trade{}, err
	}
	trade := Trade{OrderNo: no, TradeNo: reply.TradeNo, Status: reply.TradeStatus}
	if reply.OutTradeNo != no.String() || !isToken(trade.TradeNo) || !trade.Status.valid() {
		return Trade{}, fmt.Errorf("answer without its numbers or state: %w", ErrUnavailable)
	}
	var err error
	if trade.AmountFen, err = wire.ParseFen(reply.TotalAmount); err != nil {
		return Trade{}, fmt.Errorf("total_amount: %w: %w", ErrUnavailable, err)
	}
	if reply.SendPayDate != "" {
		if trade.PaidAt, err = wire.ParseTime(reply.SendPayDate); err != nil {
			return Trade{}, fmt.Errorf("send_pay_date: %w: %w", ErrUnavailable, err)
		}
	}
	return trade, nil
}

// Close ends a trade that is not paid. True: it is closed, and can no longer be paid. False
// without an error: it was paid, which wins, even if all of it went back meanwhile; ask
// [Client.Query] for the payment.
//
// [ErrUnknownTrade]: there is nothing to close. A shopper who still has the pay page's address
// can start the trade until it expires, so money may come, and is to be refunded.
func (c *Client) Close(ctx context.Context, no flashsale.OrderNo) (closed bool, err error) {
	var reply answer
	err = c.call(ctx, methodClose, no, nil, &reply)
	switch {
	case err == nil && reply.OutTradeNo == no.String():
		return true, nil
	case err == nil:
		return false, fmt.Errorf("close order %s: answer without its number: %w", no, ErrUnavailable)
	case !errors.Is(err, ErrRefused):
		return false, fmt.Errorf("close order %s: %w", no, err)
	}
	// Only a trade that waits for its buyer can be closed. Which state it has instead decides.
	trade, queryErr := c.query(ctx, no)
	switch {
	case queryErr != nil:
		return false, fmt.Errorf("close order %s: query: %w", no, queryErr)
	case trade.Status.Paid(), !trade.PaidAt.IsZero():
		return false, nil
	case trade.Status == TradeClosed:
		return true, nil
	default:
		return false, fmt.Errorf("close order %s: %w: it still waits: %w", no, ErrUnavailable, err)
	}
}
