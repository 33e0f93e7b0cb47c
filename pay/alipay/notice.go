package alipay

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"flashsale"
	"flashsale/pay/alipay/internal/wire"
)

const (
	kindNotice = "notice"
	kindReturn = "return"

	noticeType   = "trade_status_sync"
	returnMethod = "alipay.trade.page.pay.return"

	tokenLenMax = 64 // of trade and refund numbers
)

// Status is the state of a trade, in Alipay's words.
type Status string

// The states of a trade.
const (
	WaitBuyerPay  Status = "WAIT_BUYER_PAY"
	TradeSuccess  Status = "TRADE_SUCCESS"  // paid; part of it may have been refunded
	TradeClosed   Status = "TRADE_CLOSED"   // never paid, or refunded in full
	TradeFinished Status = "TRADE_FINISHED" // paid, and too old to be refunded
)

// Paid reports whether the money is with us, less what was refunded.
func (s Status) Paid() bool { return s == TradeSuccess || s == TradeFinished }

func (s Status) valid() bool { return s.Paid() || s == WaitBuyerPay || s == TradeClosed }

// Notice is a message of Alipay's that a trade has changed. It is also sent for refunds: then
// RefundFen is not zero, and the status is TradeSuccess (refunded in part) or TradeClosed (in
// full). Confirm it by [Client.Query]: notices come late, again and in any order.
type Notice struct {
	NotifyID  string // the same each time that a notice is sent again
	OrderNo   flashsale.OrderNo
	TradeNo   string // Alipay's number of the trade
	AmountFen int64  // of the trade
	Status    Status
	RefundFen int64 // all that was refunded of the trade so far
	// RefundNo is the number of the refund that the notice is about: ours, or that of whoever made
	// it in Alipay's console; "" where Alipay tells none.
	RefundNo string
	At       time.Time // when the change happened
}

// ParseNotify verifies the body of a notice as it was received, then reads it. Any error means
// that it must not be acknowledged; [ErrForged] that it is not Alipay's, or not for us. admit,
// which may be nil, is asked before the signature is looked at.
func (c *Client) ParseNotify(ctx context.Context, body []byte, admit Admit) (Notice, error) {
	if err := ctx.Err(); err != nil {
		return Notice{}, err
	}
	notice, err := c.parseNotify(body, admit)
	c.metrics.message(kindNotice, err)
	if err != nil {
		return Notice{}, fmt.Errorf("notice: %w", err)
	}
	return notice, nil
}

func (c *Client) parseNotify(body []byte, admit Admit) (Notice, error) {
	fields, err := c.verified(body, admit)
	if err != nil {
		return Notice{}, err
	}
	no, tradeNo, amount, err := parseTrade(fields)
	if err != nil {
		return Notice{}, err
	}
	notice := Notice{
		NotifyID: fields.Get("notify_id"), OrderNo: no, TradeNo: tradeNo, AmountFen: amount,
		Status: Status(fields.Get("trade_status")), RefundNo: fields.Get("out_biz_no"),
	}
	switch {
	case fields.Get("notify_type") != noticeType:
		return Notice{}, &forgery{"notify_type", "must be " + noticeType}
	case notice.NotifyID == "":
		return Notice{}, &forgery{"notify_id", "missing"}
	case !notice.Status.valid():
		return Notice{}, &forgery{"trade_status", "not a state of a trade"}
	case !isRefundNo(notice.RefundNo):
		return Notice{}, &forgery{"refund", "not a number of a refund"}
	}
	if refund := fields.Get("refund_fee"); refund != "" {
		if notice.RefundFen, err = wire.ParseFen(refund); err != nil || notice.RefundFen > amount {
			return Notice{}, &forgery{"refund", "not an amount within that of the trade"}
		}
	}
	if notice.At, err = changedAt(fields); err != nil {
		return Notice{}, err
	}
	return notice, nil
}

// ParseReturn verifies the query with which Alipay sent a shopper back, and returns the order
// that was to be paid. It proves nothing about the money. admit is as that of ParseNotify.
func (c *Client) ParseReturn(ctx context.Context, rawQuery []byte, admit Admit) (flashsale.OrderNo, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	no, err := c.parseReturn(rawQuery, admit)
	c.metrics.message(kindReturn, err)
	if err != nil {
		return 0, fmt.Errorf("return: %w", err)
	}
	return no, nil
}

func (c *Client) parseReturn(rawQuery []byte, admit Admit) (flashsale.OrderNo, error) {
	fields, err := c.verified(rawQuery, admit)
	if err != nil {
		return 0, err
	}
	if fields.Get("method") != returnMethod {
		return 0, &forgery{"method", "must be " + returnMethod}
	}
	no, _, _, err := parseTrade(fields)
	return no, err
}

// parseOrderNo reads the number of the order, which must be as we write it, so that one order has
// one number.
func parseOrderNo(fields url.Values) (flashsale.OrderNo, error) {
	no, err := flashsale.ParseID[flashsale.OrderNo](fields.Get("out_trade_no"))
	if err != nil || no.String() != fields.Get("out_trade_no") {
		return 0, &forgery{"out_trade_no", "not an order number"}
	}
	return no, nil
}

// parseTrade reads what notices and returns share.
func parseTrade(fields url.Values) (no flashsale.OrderNo, tradeNo string, amountFen int64, err error) {
	if no, err = parseOrderNo(fields); err != nil {
		return 0, "", 0, err
	}
	tradeNo = fields.Get("trade_no")
	if !isToken(tradeNo) {
		return 0, "", 0, &forgery{"trade_no", "not a trade number"}
	}
	amountFen, err = wire.ParseFen(fields.Get("total_amount"))
	if err != nil || amountFen == 0 {
		return 0, "", 0, &forgery{"total_amount", wire.ErrAmount.Error()}
	}
	return no, tradeNo, amountFen, nil
}

// changedAt is the time of the latest change that the notice tells of.
func changedAt(fields url.Values) (time.Time, error) {
	for _, name := range []string{"gmt_refund", "gmt_close", "gmt_payment", "notify_time"} {
		if text := fields.Get(name); text != "" {
			at, err := wire.ParseTime(text)
			if err != nil {
				return time.Time{}, &forgery{"time", name + " is not a time"}
			}
			return at, nil
		}
	}
	return time.Time{}, &forgery{"time", "notify_time is missing"}
}

var errToken = errors.New("must be 1 to 64 characters of [A-Za-z0-9_-]")

// isRefundNo accepts the number of any refund, also one that others have chosen, and none.
func isRefundNo(text string) bool {
	return utf8.RuneCountInString(text) <= flashsale.ProviderNoLenMax && !strings.ContainsFunc(text, unicode.IsControl)
}

// isToken accepts what Alipay and we number trades and refunds with.
func isToken(text string) bool {
	if text == "" || len(text) > tokenLenMax {
		return false
	}
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
