package main

import (
	"context"

	"flashsale"
	"flashsale/pay"
	"flashsale/pay/points"
)

// The steps of payments and refunds: each is one call of a database or of a provider. A test can
// stand before one, where it has not happened, and after it, where its answer is lost.
const (
	stepBegin    = "the intent"
	stepTry      = "the try"
	stepDecide   = "the decision"
	stepConfirm  = "the confirm"
	stepMove     = "the end of the intent"
	stepCharge   = "the start of the charge"
	stepPay      = "the payment"
	stepRefund   = "the start of the refund"
	stepGiveBack = "the provider's refund"
	stepFinish   = "the end of the refund"
)

func before(step string) string { return "before " + step }
func after(step string) string  { return "after " + step }

// standBetween lets pass look at every step; an error of it is the step's.
func standBetween(config *pay.Config, pass func(point string) error) {
	config.Ledger = steppedLedger{config.Ledger, pass}
	if config.Points != nil {
		config.Points = steppedPoints{config.Points, pass}
	}
	if config.Alipay != nil {
		config.Alipay = steppedAlipay{config.Alipay, pass}
	}
}

func stepped[T any](pass func(string) error, step string, do func() (T, error)) (T, error) {
	var none T
	if err := pass(before(step)); err != nil {
		return none, err
	}
	result, err := do()
	if err != nil {
		return result, err
	}
	if err := pass(after(step)); err != nil {
		return none, err
	}
	return result, nil
}

type steppedLedger struct {
	pay.Ledger
	pass func(string) error
}

func (l steppedLedger) StartCharge(ctx context.Context, no flashsale.OrderNo, user string) (bool, error) {
	return stepped(l.pass, stepCharge, func() (bool, error) { return l.Ledger.StartCharge(ctx, no, user) })
}

func (l steppedLedger) Pay(ctx context.Context, p flashsale.Payment) (flashsale.Receipt, error) {
	return stepped(l.pass, stepPay, func() (flashsale.Receipt, error) { return l.Ledger.Pay(ctx, p) })
}

func (l steppedLedger) StartRefund(ctx context.Context, no flashsale.OrderNo, user, reason string) (flashsale.Receipt, error) {
	return stepped(l.pass, stepRefund, func() (flashsale.Receipt, error) { return l.Ledger.StartRefund(ctx, no, user, reason) })
}

func (l steppedLedger) FinishRefund(ctx context.Context, refundNo string) (flashsale.Receipt, error) {
	return stepped(l.pass, stepFinish, func() (flashsale.Receipt, error) { return l.Ledger.FinishRefund(ctx, refundNo) })
}

func (l steppedLedger) BeginIntent(
	ctx context.Context, no flashsale.OrderNo, user string, tradeNo int64,
) (order flashsale.Order, intent flashsale.Intent, err error) {
	intent, err = stepped(l.pass, stepBegin, func() (i flashsale.Intent, err error) {
		order, i, err = l.Ledger.BeginIntent(ctx, no, user, tradeNo)
		return i, err
	})
	return order, intent, err
}

func (l steppedLedger) PayWithPoints(
	ctx context.Context, no flashsale.OrderNo,
) (receipt flashsale.Receipt, intent flashsale.Intent, err error) {
	intent, err = stepped(l.pass, stepDecide, func() (i flashsale.Intent, err error) {
		receipt, i, err = l.Ledger.PayWithPoints(ctx, no)
		return i, err
	})
	return receipt, intent, err
}

func (l steppedLedger) MoveIntent(
	ctx context.Context, no flashsale.OrderNo, from, to flashsale.IntentState,
) (flashsale.Intent, error) {
	return stepped(l.pass, stepMove, func() (flashsale.Intent, error) { return l.Ledger.MoveIntent(ctx, no, from, to) })
}

type steppedPoints struct {
	pay.Points
	pass func(string) error
}

func (p steppedPoints) Try(ctx context.Context, hold points.Hold) (points.Outcome, error) {
	return stepped(p.pass, stepTry, func() (points.Outcome, error) { return p.Points.Try(ctx, hold) })
}

func (p steppedPoints) Confirm(ctx context.Context, no flashsale.OrderNo) (points.Outcome, error) {
	return stepped(p.pass, stepConfirm, func() (points.Outcome, error) { return p.Points.Confirm(ctx, no) })
}

func (p steppedPoints) Refund(ctx context.Context, no flashsale.OrderNo, refundNo string) (points.Outcome, error) {
	return stepped(p.pass, stepGiveBack, func() (points.Outcome, error) { return p.Points.Refund(ctx, no, refundNo) })
}

type steppedAlipay struct {
	pay.Alipay
	pass func(string) error
}

func (a steppedAlipay) Refund(
	ctx context.Context, no flashsale.OrderNo, refundNo string, amountFen int64, reason string,
) (bool, error) {
	return stepped(a.pass, stepGiveBack, func() (bool, error) {
		return a.Alipay.Refund(ctx, no, refundNo, amountFen, reason)
	})
}
