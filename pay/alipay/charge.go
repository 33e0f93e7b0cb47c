package alipay

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	lib "github.com/smartwalle/alipay/v3"

	"flashsale"
	"flashsale/pay/alipay/internal/wire"
)

const (
	// productCode is the only one of page pay.
	productCode = "FAST_INSTANT_TRADE_PAY"

	textRunesMax = 256 // of a subject or a reason
)

// Charge is what a shopper is asked to pay.
type Charge struct {
	OrderNo   flashsale.OrderNo
	Subject   string // what the shopper reads on the pay page
	AmountFen int64
	// Expire is the order's deadline. Alipay stops [Config.ExpireMargin] before it, or, where that
	// would leave less than [Config.ExpireMin], at least half of that.
	Expire time.Time
}

// Terms are the bounds of an order that is to be paid with Alipay.
func (c Config) Terms() flashsale.Terms {
	c = c.withDefaults()
	return flashsale.Terms{
		Method: flashsale.Alipay, AmountMax: wire.FenMax, PayTimeoutMin: c.ExpireMargin + c.ExpireMin,
		Offered: c.AppID != "",
	}
}

// PageURL returns the address of the pay page. It is signed here, without a call: Alipay learns
// of the trade when the shopper opens it. The same charge may be asked for again; it stays
// one trade. [ErrTooLate] when less than [Config.ExpireMin] is left, [ErrRefused] for an amount that
// Alipay does not take.
//
// Whoever has the address can pay until it expires, even if the order is cancelled meanwhile.
func (c *Client) PageURL(ctx context.Context, charge Charge) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if charge.OrderNo <= 0 || charge.AmountFen < 1 || charge.AmountFen > wire.FenMax {
		return "", fmt.Errorf("charge order %s with %d fen: %w: amount or number out of range",
			charge.OrderNo, charge.AmountFen, ErrRefused)
	}
	now := c.config.Now()
	expire := charge.Expire.Add(-c.config.ExpireMargin)
	if least := now.Add(c.config.ExpireMin); expire.Before(least) {
		// An order with the shortest time to pay must leave its shopper a moment to begin.
		expire = least.Add(time.Second) // the protocol cuts fractions
		if charge.Expire.Sub(expire) < c.config.ExpireMargin/2 {
			return "", fmt.Errorf("charge order %s: %w", charge.OrderNo, ErrTooLate)
		}
	}
	if latest := now.Add(ExpireMax - c.config.ExpireMargin); expire.After(latest) {
		expire = latest
	}
	page, err := c.api.TradePagePay(lib.TradePagePay{Trade: lib.Trade{
		NotifyURL:   c.config.NotifyURL,
		ReturnURL:   c.config.ReturnURL,
		OutTradeNo:  charge.OrderNo.String(),
		ProductCode: productCode,
		Subject:     plainText(charge.Subject, "order "+charge.OrderNo.String()),
		TimeExpire:  wire.FormatTime(expire),
		TotalAmount: wire.FormatFen(charge.AmountFen),
	}})
	if err != nil {
		return "", fmt.Errorf("charge order %s: sign: %w", charge.OrderNo, err)
	}
	return page.String(), nil
}

// fullWidth replaces the characters that Alipay does not take in a subject, and that would make
// the text ambiguous that it signs, by ones that look alike.
var fullWidth = strings.NewReplacer("&", "＆", "=", "＝", "/", "／")

// plainText returns what Alipay accepts for people to read.
func plainText(text, otherwise string) string {
	text = strings.TrimSpace(fullWidth.Replace(strings.ToValidUTF8(text, "")))
	if text == "" {
		return otherwise
	}
	if utf8.RuneCountInString(text) > textRunesMax {
		text = string([]rune(text)[:textRunesMax])
	}
	return text
}
