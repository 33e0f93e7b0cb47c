package points_test

import (
	"testing"
	"time"

	"flashsale"
	"flashsale/pay/points"
)

// It protects the way that every payment with points takes: freeze, take, put back, with the
// numbers that the other side keeps.
func TestHold_PaidAndRefunded(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.grant(t, "ann", 100)
	hold := points.Hold{OrderNo: nextOrderNo(), User: "ann", Points: 30, TradeNo: numbers.Add(1)}
	before := time.Now().Add(-time.Minute)

	assertOutcome(t, points.Held)(b.Try(ctx, hold))
	assertAccount(t, b, "ann", 100, 30)
	assertOutcome(t, points.Confirmed)(b.Confirm(ctx, hold.OrderNo))
	assertAccount(t, b, "ann", 70, 0)
	assertOutcome(t, points.Refunded)(b.Refund(ctx, hold.OrderNo, "r-1"))
	assertAccount(t, b, "ann", 100, 0)

	payment, err := b.Payment(ctx, hold.OrderNo)
	if err != nil || payment.Hold != hold || payment.State != points.StateRefunded ||
		payment.RefundNo != "r-1" || payment.RefundTradeNo == 0 {
		t.Errorf("payment %+v, error %v", payment, err)
	}
	if payment.CreatedAt.Before(before) || payment.UpdatedAt.Before(payment.CreatedAt) ||
		payment.CreatedAt.Location() != time.UTC {
		t.Errorf("created at %v, updated at %v", payment.CreatedAt, payment.UpdatedAt)
	}
	entries, err := b.Entries(ctx, "ann", 0, 2)
	if err != nil || len(entries) != 2 {
		t.Fatalf("entries %+v, error %v", entries, err)
	}
	refund, debit := entries[0], entries[1]
	refund.At, debit.At = time.Time{}, time.Time{}
	if want := (points.Entry{
		Sequence: 3, Type: points.EntryRefund, OrderNo: hold.OrderNo, Ref: "r-1",
		TradeNo: payment.RefundTradeNo, Points: 30, Balance: 100,
	}); refund != want {
		t.Errorf("refund %+v, want %+v", refund, want)
	}
	if want := (points.Entry{
		Sequence: 2, Type: points.EntryDebit, OrderNo: hold.OrderNo,
		TradeNo: hold.TradeNo, Points: -30, Balance: 70,
	}); debit != want {
		t.Errorf("debit %+v, want %+v", debit, want)
	}
}

// It protects the first classic of TCC, a cancel without its try: it succeeds, leaves what
// refuses the try, and touches no account.
func TestCancel_EmptyRollback(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	orderNo := nextOrderNo()
	assertOutcome(t, points.EmptyRollback)(b.Cancel(ctx, orderNo))
	assertOutcome(t, points.AlreadyCancelled)(b.Cancel(ctx, orderNo))
	payment, err := b.Payment(ctx, orderNo)
	if err != nil || payment.State != points.StateCancelled || payment.Hold != (points.Hold{OrderNo: orderNo}) {
		t.Errorf("payment %+v, error %v", payment, err)
	}
	if f := assertSound(t, b); f.Accounts != 0 {
		t.Errorf("figures %+v, want no account", f)
	}
}

// It protects the second classic, a try that arrives after its cancel: it freezes nothing, also
// when the points are there, and nothing that follows moves points.
func TestTry_AfterCancel(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.grant(t, "ann", 100)
	hold := points.Hold{OrderNo: nextOrderNo(), User: "ann", Points: 100}
	assertOutcome(t, points.EmptyRollback)(b.Cancel(ctx, hold.OrderNo))
	assertOutcome(t, points.AlreadyCancelled)(b.Try(ctx, hold))
	assertOutcome(t, points.AlreadyCancelled)(b.Confirm(ctx, hold.OrderNo))
	assertOutcome(t, points.AlreadyCancelled)(b.Refund(ctx, hold.OrderNo, "r-1"))
	assertAccount(t, b, "ann", 100, 0)
}

// It protects a shopper who is short of points: nothing is left behind, so the same order can be
// paid once he has them. Points that are frozen are not there to spend.
func TestTry_InsufficientPoints(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	hold := points.Hold{OrderNo: nextOrderNo(), User: "ann", Points: 50}
	assertOutcome(t, points.InsufficientPoints)(b.Try(ctx, hold))
	if f := assertSound(t, b); f.Accounts != 0 {
		t.Errorf("figures %+v, want no account", f)
	}
	other := b.hold(t, "ann", 50)
	assertOutcome(t, points.InsufficientPoints)(b.Try(ctx, hold))
	_, err := b.Payment(ctx, hold.OrderNo)
	assertError(t, "payment", err, flashsale.ErrNotFound)
	assertOutcome(t, points.NotHeld)(b.Confirm(ctx, hold.OrderNo))
	assertOutcome(t, points.Cancelled)(b.Cancel(ctx, other))
	assertOutcome(t, points.Held)(b.Try(ctx, hold))
	assertAccount(t, b, "ann", 50, 50)
}

// It protects an order from being paid by somebody else or at another price on a second try.
// Numbers that belong to another order are refused, and nothing is frozen or stuck.
func TestTry_Conflict(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.grant(t, "ann", 1000)
	b.grant(t, "bob", 1000)
	hold := points.Hold{OrderNo: nextOrderNo(), User: "ann", Points: 10, TradeNo: numbers.Add(1)}
	assertOutcome(t, points.Held)(b.Try(ctx, hold))

	for name, change := range map[string]func(*points.Hold){
		"user":     func(h *points.Hold) { h.User = "bob" },
		"points":   func(h *points.Hold) { h.Points = 11 },
		"trade no": func(h *points.Hold) { h.TradeNo = numbers.Add(1) },
		"order":    func(h *points.Hold) { h.OrderNo = nextOrderNo() }, // the trade number is taken
	} {
		other := hold
		change(&other)
		_, err := b.Try(ctx, other)
		assertError(t, name, err, flashsale.ErrConflict)
	}
	assertOutcome(t, points.AlreadyHeld)(b.Try(ctx, hold))
	hold.TradeNo = 0 // leaves the number to the ledger, which has one
	assertOutcome(t, points.AlreadyHeld)(b.Try(ctx, hold))
	assertAccount(t, b, "ann", 990+10, 10)
	assertAccount(t, b, "bob", 1000, 0)
}

// It protects the refund numbers: unique over all orders, and the first one stands.
func TestRefund_Numbers(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	first, second := b.hold(t, "ann", 10), b.hold(t, "ann", 20)
	assertOutcome(t, points.NotConfirmed)(b.Refund(ctx, first, "r-1"))
	assertOutcome(t, points.NotHeld)(b.Refund(ctx, nextOrderNo(), "r-1"))
	assertOutcome(t, points.Confirmed)(b.Confirm(ctx, first))
	assertOutcome(t, points.Confirmed)(b.Confirm(ctx, second))
	assertOutcome(t, points.Refunded)(b.Refund(ctx, first, "r-1"))
	assertOutcome(t, points.AlreadyRefunded)(b.Refund(ctx, first, "r-1"))
	assertOutcome(t, points.AlreadyRefunded)(b.Refund(ctx, first, "r-2"))
	_, err := b.Refund(ctx, second, "r-1")
	assertError(t, "a refund number of another order", err, flashsale.ErrConflict)
	assertAccount(t, b, "ann", 10, 0)
	assertOutcome(t, points.Refunded)(b.Refund(ctx, second, "r-2"))
	assertAccount(t, b, "ann", 30, 0)
	// Late repetitions of the earlier steps still learn that they were done.
	assertOutcome(t, points.AlreadyConfirmed)(b.Confirm(ctx, first))
	assertOutcome(t, points.AlreadyConfirmed)(b.Cancel(ctx, first))
}

// It protects the ledger from what no caller may ask: nothing reaches PostgreSQL.
func TestHold_BadInput(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	good := points.Hold{OrderNo: 1, User: "ann", Points: 1}
	for name, change := range map[string]func(*points.Hold){
		"no order":          func(h *points.Hold) { h.OrderNo = 0 },
		"negative order":    func(h *points.Hold) { h.OrderNo = -1 },
		"no user":           func(h *points.Hold) { h.User = "" },
		"NUL in user":       func(h *points.Hold) { h.User = "a\x00n" },
		"no points":         func(h *points.Hold) { h.Points = 0 },
		"negative points":   func(h *points.Hold) { h.Points = -1 },
		"too many points":   func(h *points.Hold) { h.Points = points.PointsMax + 1 },
		"negative trade no": func(h *points.Hold) { h.TradeNo = -1 },
	} {
		hold := good
		change(&hold)
		_, err := b.Try(ctx, hold)
		assertError(t, name, err, flashsale.ErrPermanent)
	}
	_, err := b.Confirm(ctx, 0)
	assertError(t, "confirm", err, flashsale.ErrPermanent)
	_, err = b.Cancel(ctx, -1)
	assertError(t, "cancel", err, flashsale.ErrPermanent)
	_, err = b.Payment(ctx, 0)
	assertError(t, "payment", err, flashsale.ErrPermanent)
	_, err = b.Refund(ctx, 0, "r-1")
	assertError(t, "refund", err, flashsale.ErrPermanent)
	for _, refundNo := range []string{"", "r 1", "r\x00", "r\xff"} {
		_, err = b.Refund(ctx, 1, refundNo)
		assertError(t, "refund", err, flashsale.ErrPermanent)
	}
}

// It protects the largest payment: bounds are inclusive and nothing overflows.
func TestHold_PointsMax(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	orderNo := b.hold(t, "ann", points.PointsMax)
	assertOutcome(t, points.Confirmed)(b.Confirm(ctx, orderNo))
	assertOutcome(t, points.Refunded)(b.Refund(ctx, orderNo, "r-1"))
	assertAccount(t, b, "ann", points.PointsMax, 0)
}
