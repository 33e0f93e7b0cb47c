package postgres

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"flashsale"
)

// unpaid persists one order of a new item and returns it.
func (b *books) unpaid(limit int) flashsale.Order {
	b.t.Helper()
	item := b.item(5, limit)
	order := b.order(item.ID, "ada", 1)
	b.persist(order)
	stored, err := b.Order(b.ctx, order.OrderNo)
	if err != nil {
		b.t.Fatal(err)
	}
	return stored
}

// trade is the money of an order at Alipay.
func trade(order flashsale.Order) flashsale.Payment {
	return flashsale.Payment{
		Method: flashsale.Alipay, TradeNo: "T" + order.OrderNo.String(), OrderNo: order.OrderNo, Amount: order.AmountFen,
	}
}

func (b *books) status(number flashsale.OrderNo) flashsale.Status {
	b.t.Helper()
	order, err := b.Order(b.ctx, number)
	if err != nil {
		b.t.Fatal(err)
	}
	return order.Status
}

// money proves that what came in is held, on its way back or back.
func (b *books) money() flashsale.MoneyReport {
	b.t.Helper()
	report, err := b.Money(b.ctx, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range report.Figures {
		if f.Received != f.Held+f.Refunding+f.Refunded {
			b.t.Errorf("%+v does not add up", f)
		}
	}
	for _, line := range report.Broken {
		b.t.Error(line)
	}
	return report
}

// An order is paid by its money, once, however often that is reported; the unit stays with it
// until the money is back, then it is released once.
func TestPay_Refund(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	for _, limit := range []int{1, 3} {
		order := b.unpaid(limit)
		for n := range 8 {
			receipt, err := b.Pay(b.ctx, trade(order))
			if err != nil || receipt.New != (n == 0) || receipt.Order.Status != flashsale.Paid || receipt.Refund.RefundNo != "" {
				t.Fatalf("payment %d: %+v, %v", n, receipt, err)
			}
		}
		if _, err := b.Cancel(b.ctx, order.OrderNo, "ada"); !errors.Is(err, flashsale.ErrConflict) {
			t.Errorf("cancelling a paid order: %v", err)
		}
		if _, err := b.StartRefund(b.ctx, order.OrderNo, "bob", ""); !errors.Is(err, flashsale.ErrNotFound) {
			t.Errorf("refund by another user: %v", err)
		}
		for n := range 3 {
			receipt, err := b.StartRefund(b.ctx, order.OrderNo, "ada", "why not")
			want := flashsale.Refund{
				RefundNo: "R" + order.OrderNo.String(), OrderNo: order.OrderNo, Method: flashsale.Alipay,
				TradeNo: trade(order).TradeNo, Amount: order.AmountFen, State: flashsale.RefundDue, Reason: "why not",
			}
			if err != nil || receipt.New != (n == 0) || receipt.Order.Status != flashsale.Refunding || receipt.Refund != want {
				t.Fatalf("refund %d: %+v, %v", n, receipt, err)
			}
		}
		before := b.figures(order.ItemID)
		if before.LiveUnits != 1 || before.OwedUnits != 0 {
			t.Errorf("a refunding order gives its unit away: %+v", before)
		}
		for n := range 3 {
			receipt, err := b.FinishRefund(b.ctx, "R"+order.OrderNo.String())
			if err != nil || receipt.New != (n == 0) || receipt.Order.Status != flashsale.Refunded || receipt.Refund.State != flashsale.RefundDone {
				t.Fatalf("finish %d: %+v, %v", n, receipt, err)
			}
		}
		b.checkUnits()
		if f := b.figures(order.ItemID); f.Stock != 5 || f.OwedUnits != 1 {
			t.Errorf("stock %d, owed %d", f.Stock, f.OwedUnits)
		}
		if got := b.persist(b.order(order.ItemID, "ada", 1)); got[0] != "unpaid" {
			t.Errorf("buying again: %s", got)
		}
	}
	report := b.money()
	if report.Figures[0] != (flashsale.MoneyFigures{Method: flashsale.Alipay, Received: 1980, Refunded: 1980}) || report.Open != 0 {
		t.Errorf("money: %+v", report)
	}
}

// Money that does not fit changes nothing: a wrong amount, a trade of another order, no order.
func TestPay_Refused(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	paid, order := b.unpaid(1), b.unpaid(1)
	if _, err := b.Pay(b.ctx, trade(paid)); err != nil {
		t.Fatal(err)
	}
	more, less, other, none := trade(order), trade(order), trade(paid), trade(order)
	more.Amount++
	less.Amount--
	other.OrderNo = order.OrderNo
	none.OrderNo = 4711
	for _, c := range []struct {
		payment flashsale.Payment
		want    error
	}{{more, flashsale.ErrConflict}, {less, flashsale.ErrConflict}, {other, flashsale.ErrConflict}, {none, flashsale.ErrNotFound}} {
		if receipt, err := b.Pay(b.ctx, c.payment); !errors.Is(err, c.want) || receipt.New {
			t.Errorf("%+v: %+v, %v", c.payment, receipt, err)
		}
	}
	if got := b.status(order.OrderNo); got != flashsale.Unpaid {
		t.Errorf("order is %s", got)
	}
	b.money()
}

// Money that comes after the cancellation, or for an order paid otherwise, is owed back by a
// refund of its own; the order stays as it is and its unit is released once only.
func TestPay_Surplus(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	cancelled := b.unpaid(1)
	if _, err := b.Cancel(b.ctx, cancelled.OrderNo, "ada"); err != nil {
		t.Fatal(err)
	}
	byPoints := b.unpaid(1)
	b.payWithPoints(byPoints.OrderNo)
	for _, order := range []flashsale.Order{cancelled, byPoints} {
		status := b.status(order.OrderNo)
		for n := range 3 {
			receipt, err := b.Pay(b.ctx, trade(order))
			if err != nil || receipt.New != (n == 0) || receipt.Order.Status != status ||
				receipt.Refund.RefundNo != "L"+order.OrderNo.String() || !receipt.Refund.Surplus {
				t.Fatalf("surplus %d: %+v, %v", n, receipt, err)
			}
		}
		b.money()
		if _, err := b.FinishRefund(b.ctx, "L"+order.OrderNo.String()); err != nil {
			t.Fatal(err)
		}
		if got := b.status(order.OrderNo); got != status {
			t.Errorf("a surplus refund made the order %s", got)
		}
	}
	b.money()
	b.check()
}

func (b *books) payWithPoints(number flashsale.OrderNo) {
	b.t.Helper()
	if _, _, err := b.BeginIntent(b.ctx, number, "ada", b.number.Add(1)); err != nil {
		b.t.Fatal(err)
	}
	receipt, intent, err := b.PayWithPoints(b.ctx, number)
	if err != nil || !receipt.New || intent.State != flashsale.IntentConfirming {
		b.t.Fatalf("pay with points: %+v, %+v, %v", receipt, intent, err)
	}
}

// The intent of a points payment decides once, with the order: paid and confirming, or not
// unpaid and cancelling. Too few points leave it open for another try with the same trade number.
func TestIntents(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	order := b.unpaid(1)
	got, intent, err := b.BeginIntent(b.ctx, order.OrderNo, "ada", 77)
	want := flashsale.Intent{OrderNo: order.OrderNo, User: "ada", Points: 7, TradeNo: 77, State: flashsale.IntentTrying}
	if err != nil || got.OrderNo != order.OrderNo || intent != want {
		t.Fatalf("%+v, %+v, %v", got, intent, err)
	}
	move := func(from, to, want flashsale.IntentState) {
		t.Helper()
		intent, err := b.MoveIntent(b.ctx, order.OrderNo, from, to)
		if err != nil || intent.State != want {
			t.Fatalf("move %s to %s: %+v, %v", from, to, intent, err)
		}
	}
	if due, err := b.DueIntents(b.ctx, 10); err != nil || len(due) != 0 {
		t.Errorf("due at once: %v, %v", due, err)
	}
	move(flashsale.IntentTrying, flashsale.IntentShort, flashsale.IntentShort)
	move(flashsale.IntentTrying, flashsale.IntentDone, flashsale.IntentShort)
	if _, intent, err = b.BeginIntent(b.ctx, order.OrderNo, "ada", 78); err != nil || intent != want {
		t.Fatalf("second try: %+v, %v", intent, err)
	}
	if intent, err = b.AbandonIntent(b.ctx, order.OrderNo); err != nil || intent.State != flashsale.IntentTrying {
		t.Fatalf("abandoned while the order is unpaid: %+v, %v", intent, err)
	}
	for n := range 3 {
		receipt, intent, err := b.PayWithPoints(b.ctx, order.OrderNo)
		if err != nil || receipt.New != (n == 0) || receipt.Order.Status != flashsale.Paid || intent.State != flashsale.IntentConfirming {
			t.Fatalf("%+v, %+v, %v", receipt, intent, err)
		}
	}
	b.exec(`UPDATE points_intents SET next_at = now()`)
	if due, err := b.DueIntents(b.ctx, 10); err != nil || len(due) != 1 || due[0].Attempts != 1 {
		t.Errorf("due: %v, %v", due, err)
	}
	if due, err := b.DueIntents(b.ctx, 10); err != nil || len(due) != 0 {
		t.Errorf("taken up twice: %v, %v", due, err)
	}
	move(flashsale.IntentConfirming, flashsale.IntentDone, flashsale.IntentDone)
	payments, err := b.PointsPayments(b.ctx, 0, 10)
	if err != nil || len(payments) != 1 || !payments[0].Paid || payments[0].Refund != "" {
		t.Errorf("payments: %+v, %v", payments, err)
	}

	lost := b.unpaid(1)
	if _, _, err := b.BeginIntent(b.ctx, lost.OrderNo, "ada", 79); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Cancel(b.ctx, lost.OrderNo, "ada"); err != nil {
		t.Fatal(err)
	}
	receipt, intent, err := b.PayWithPoints(b.ctx, lost.OrderNo)
	if err != nil || receipt.New || intent.State != flashsale.IntentCancelling {
		t.Errorf("paying a cancelled order: %+v, %+v, %v", receipt, intent, err)
	}
	if _, intent, err = b.BeginIntent(b.ctx, lost.OrderNo, "ada", 80); err != nil || intent.State != flashsale.IntentCancelling {
		t.Errorf("a second payment of a cancelled order: %+v, %v", intent, err)
	}
	if _, _, err = b.BeginIntent(b.ctx, lost.OrderNo, "bob", 81); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("another user: %v", err)
	}
	b.money()
}

// A payment that was started holds the timeout up until it has ended, for a while, and nobody
// else's; the shopper's own cancellation ends it at once.
func TestCharges(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	charged, plain, given := b.unpaid(1), b.unpaid(1), b.unpaid(1)
	for _, order := range []flashsale.Order{charged, given} {
		for range 2 {
			if open, err := b.StartCharge(b.ctx, order.OrderNo, "ada"); err != nil || !open {
				t.Fatalf("start: %t, %v", open, err)
			}
		}
	}
	if open, err := b.StartCharge(b.ctx, charged.OrderNo, "bob"); err != nil || open {
		t.Errorf("another user's: %t, %v", open, err)
	}
	due := func(want string) {
		t.Helper()
		charges, err := b.DueCharges(b.ctx, 10)
		if got := fmt.Sprint(charges); err != nil || got != want {
			t.Errorf("due: %s, %v, want %s", got, err, want)
		}
	}
	due("[]")
	if _, err := b.Cancel(b.ctx, given.OrderNo, "ada"); err != nil {
		t.Fatal(err)
	}
	due(fmt.Sprintf("[{%s false}]", given.OrderNo))
	due("[]")

	b.due(charged.OrderNo, plain.OrderNo)
	b.exec(`UPDATE charges SET next_at = now(), expires_at = now() WHERE order_no = $1`, int64(charged.OrderNo))
	cancelled, err := b.CancelDue(b.ctx, 10)
	if err != nil || len(cancelled) != 1 || cancelled[0].OrderNo != plain.OrderNo {
		t.Errorf("cancelled: %v, %v", cancelled, err)
	}
	if next, err := b.NextDeadline(b.ctx); err != nil || !next.IsZero() {
		t.Errorf("next deadline: %s, %v", next, err)
	}
	due(fmt.Sprintf("[{%s true}]", charged.OrderNo))
	if err := b.EndCharge(b.ctx, charged.OrderNo); err != nil {
		t.Fatal(err)
	}
	if open, err := b.StartCharge(b.ctx, charged.OrderNo, "ada"); err != nil || open {
		t.Errorf("started again after the deadline: %t, %v", open, err)
	}
	if cancelled, err = b.CancelDue(b.ctx, 10); err != nil || len(cancelled) != 1 {
		t.Errorf("cancelled: %v, %v", cancelled, err)
	}

	stuck := b.unpaid(1)
	if open, err := b.StartCharge(b.ctx, stuck.OrderNo, "ada"); err != nil || !open {
		t.Fatal(open, err)
	}
	b.exec(`UPDATE orders SET pay_deadline = now() - make_interval(secs => $2) WHERE order_no = $1`,
		int64(stuck.OrderNo), ChargeGrace.Seconds()+1)
	if cancelled, err = b.CancelDue(b.ctx, 10); err != nil || len(cancelled) != 0 {
		t.Errorf("after the grace, and nobody has asked about the trade: %v, %v", cancelled, err)
	}
	b.exec(`UPDATE charges SET attempts = $2 WHERE order_no = $1`, int64(stuck.OrderNo), ChargeTries)
	if cancelled, err = b.CancelDue(b.ctx, 10); err != nil || len(cancelled) != 1 {
		t.Errorf("after the grace: %v, %v", cancelled, err)
	}
	b.check()
}

// Paying by Alipay and with points, cancelling, the timeout and the refund at the same time: one
// end, one unit, and all money is an order's or given back.
func TestPay_Races(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	ends := make(map[flashsale.Status]int)
	for round := range 60 {
		order := b.unpaid(1 + round%2*2)
		if _, err := b.StartCharge(b.ctx, order.OrderNo, "ada"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.BeginIntent(b.ctx, order.OrderNo, "ada", b.number.Add(1)); err != nil {
			t.Fatal(err)
		}
		if round%3 == 0 {
			b.due(order.OrderNo)
		}
		var edges atomic.Int32
		tally := func(won bool, err error) {
			if err != nil && !errors.Is(err, flashsale.ErrConflict) {
				t.Error(err)
			}
			if won {
				edges.Add(1)
			}
		}
		start := make(chan struct{})
		var all sync.WaitGroup
		for range 3 {
			for _, step := range []func(){
				func() { r, err := b.Pay(b.ctx, trade(order)); tally(r.New && !r.Refund.Surplus, err) },
				func() { r, _, err := b.PayWithPoints(b.ctx, order.OrderNo); tally(r.New, err) },
				func() { o, err := b.Cancel(b.ctx, order.OrderNo, "ada"); tally(err == nil && o.OrderNo != 0, err) },
				func() {
					if err := b.EndCharge(b.ctx, order.OrderNo); err != nil {
						t.Error(err)
					}
					due, err := b.CancelDue(b.ctx, 10)
					tally(len(due) > 0, err)
				},
				func() { _, err := b.StartRefund(b.ctx, order.OrderNo, "ada", ""); tally(false, err) },
				func() {
					_, err := b.FinishRefund(b.ctx, "R"+order.OrderNo.String())
					if !errors.Is(err, flashsale.ErrNotFound) {
						tally(false, err)
					}
				},
			} {
				all.Go(func() { <-start; step() })
			}
		}
		close(start)
		all.Wait()
		if n := edges.Load(); n != 1 {
			t.Errorf("round %d: %d ends of unpaid", round, n)
		}
		ends[b.status(order.OrderNo)]++
		if n := b.count(`SELECT count(*) FROM outbox WHERE order_no = $1`, int64(order.OrderNo)); n > 1 {
			t.Errorf("%d releases", n)
		}
	}
	b.checkUnits()
	b.money()
	t.Logf("ends: %v", ends)
}

// History shows an operator all that is known of an order's money.
func TestHistory(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	order := b.unpaid(1)
	if _, err := b.StartCharge(b.ctx, order.OrderNo, "ada"); err != nil {
		t.Fatal(err)
	}
	b.payWithPoints(order.OrderNo)
	if _, err := b.Pay(b.ctx, trade(order)); err != nil {
		t.Fatal(err)
	}
	if err := b.RefuseRefund(b.ctx, flashsale.Refund{RefundNo: "L" + order.OrderNo.String(), Amount: order.AmountFen}, "too old"); err != nil {
		t.Fatal(err)
	}
	h, err := b.History(b.ctx, order.OrderNo)
	if err != nil || h.Order.Status != flashsale.Paid || h.Charge != "paid" || len(h.Payments) != 2 || len(h.Refunds) != 1 ||
		h.Payments[0].TradeNo != strconv.FormatInt(h.Intent.TradeNo, 10) || !h.Payments[1].Surplus ||
		h.Refunds[0].State != flashsale.RefundRefused || h.Refunds[0].Fault != "too old" {
		t.Errorf("history: %+v, %v", h, err)
	}
	if report, err := b.Money(b.ctx, 0); err != nil || len(report.Broken) != 1 {
		t.Errorf("a refused refund is not reported: %+v, %v", report, err)
	}
	if _, err := b.History(b.ctx, 4711); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("no order: %v", err)
	}
	due, err := b.DueRefunds(b.ctx, 10)
	if err != nil || len(due) != 0 {
		t.Errorf("a refused refund is asked for again: %v, %v", due, err)
	}
	if err := b.RetryRefund(b.ctx, h.Refunds[0].RefundNo); err != nil {
		t.Error(err)
	}
	if due, err = b.DueRefunds(b.ctx, 10); err != nil || len(due) != 1 {
		t.Errorf("not asked for again: %v, %v", due, err)
	}
	if err := b.RetryRefund(b.ctx, h.Refunds[0].RefundNo); !errors.Is(err, flashsale.ErrConflict) {
		t.Errorf("a refund that is due is retried: %v", err)
	}
}

// An audit that is not full looks at the money of orders from a number on.
func TestMoney_Since(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(9, 1)
	orders := b.orders(item.ID, 2)
	b.persist(orders...)
	for _, order := range orders {
		stored, err := b.Order(b.ctx, order.OrderNo)
		if err == nil {
			_, err = b.Pay(b.ctx, trade(stored))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b.exec(`UPDATE orders SET status = 'unpaid' WHERE order_no = $1`, int64(orders[0].OrderNo))
	for since, want := range map[flashsale.OrderNo]struct {
		received int64
		broken   int
	}{0: {1980, 1}, orders[0].OrderNo: {1980, 1}, orders[1].OrderNo: {990, 0}} {
		report, err := b.Money(b.ctx, since)
		if err != nil || len(report.Figures) != 1 || report.Figures[0].Received != want.received || len(report.Broken) != want.broken {
			t.Errorf("since %d: %+v, %v", since, report, err)
		}
	}
}
