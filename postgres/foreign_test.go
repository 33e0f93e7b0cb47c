package postgres

import (
	"errors"
	"testing"
	"time"

	"flashsale"
)

// A refund that was not ours is on record once, however it is told of: by its number, with its
// amount or without, or only by what went back in all; never more than has come. What we owe
// ourselves is the rest, and an answer about the old amount changes nothing.
func TestForeignRefund(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	order := b.unpaid(1)
	if _, err := b.Pay(b.ctx, trade(order)); err != nil {
		t.Fatal(err)
	}
	owed, err := b.StartRefund(b.ctx, order.OrderNo, "ada", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.RefuseRefund(b.ctx, owed.Refund, "too much"); err != nil {
		t.Fatal(err)
	}
	record := func(number string, amount, total int64) bool {
		t.Helper()
		news, err := b.RecordForeignRefund(b.ctx, flashsale.ForeignRefund{
			ProviderNo: number, OrderNo: order.OrderNo, Method: flashsale.Alipay, TradeNo: trade(order).TradeNo,
			Amount: amount, At: time.Now(),
		}, total, order.AmountFen)
		if err != nil {
			t.Fatal(err)
		}
		return news
	}
	for n, step := range []struct {
		number        string
		amount, total int64
		news          bool
		rest          int64 // that we owe afterwards
	}{
		{"A", 100, 100, true, 890},
		{"A", 100, 100, false, 890},
		{"A", 0, 100, false, 890},
		{"C", 50, 350, true, 840},  // before the one that came before it
		{"B", 200, 300, true, 640}, // and that one
		{"", 0, 350, false, 640},
		{"", 0, 400, true, 590},
		{"", 0, 400, false, 590},
		{"D", 0, 500, true, 490},
		{"E", 5000, 990, true, 0}, // all that is left, and no more
		{"F", 1, 990, false, 0},
	} {
		if news := record(step.number, step.amount, step.total); news != step.news {
			t.Errorf("step %d: news %t", n, news)
		}
		refund, err := b.Refund(b.ctx, owed.Refund.RefundNo)
		if err != nil || refund.Amount != step.rest || refund.State != flashsale.RefundDue {
			t.Errorf("step %d: owed %+v, %v; want %d", n, refund, err, step.rest)
		}
	}
	if err := b.RefuseRefund(b.ctx, owed.Refund, "an answer about the old amount"); err != nil {
		t.Fatal(err)
	}
	if refund, err := b.Refund(b.ctx, owed.Refund.RefundNo); err != nil || refund.State != flashsale.RefundDue {
		t.Errorf("%+v, %v", refund, err)
	}
	if _, err := b.FinishRefund(b.ctx, owed.Refund.RefundNo); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Pay(b.ctx, trade(b.unpaid(1))); err != nil { // has nothing to do with it
		t.Fatal(err)
	}
	report, err := b.Money(b.ctx, 0)
	if err != nil || len(report.Broken) != 6 || report.Figures[0] != (flashsale.MoneyFigures{Method: flashsale.Alipay, Received: 1980, Held: 990, Refunded: 990}) {
		t.Errorf("money: %+v, %v", report, err)
	}
	history, err := b.History(b.ctx, order.OrderNo)
	if err != nil || len(history.Foreign) != 6 {
		t.Fatalf("history: %+v, %v", history, err)
	}
	for _, f := range history.Foreign {
		if _, err := b.SettleForeignRefund(b.ctx, f.RefundNo); err != nil {
			t.Error(err)
		}
		if _, err := b.SettleForeignRefund(b.ctx, f.RefundNo); !errors.Is(err, flashsale.ErrConflict) {
			t.Errorf("settled twice: %v", err)
		}
	}
	if _, err := b.SettleForeignRefund(b.ctx, "nothing"); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("settled nothing: %v", err)
	}
	if _, err := b.RecordForeignRefund(b.ctx, flashsale.ForeignRefund{OrderNo: 4711, Method: flashsale.Alipay, TradeNo: "T", At: time.Now()}, 1, 1); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("of no order: %v", err)
	}
	b.money()
	b.checkUnits()
}
