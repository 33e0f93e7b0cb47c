package pay

import (
	"context"
	"strings"
	"testing"

	"flashsale"
	"flashsale/pay/points"
)

// Protects the audit from being blind, and from crying wolf: every pair of states of one payment
// in the two databases is either on the way from one step to the next, or a contradiction.
func TestComparePayment(t *testing.T) {
	t.Parallel()
	intent := func(state flashsale.IntentState) flashsale.PointsPayment {
		return flashsale.PointsPayment{
			Intent: flashsale.Intent{OrderNo: 42, User: "ann", Points: 7, TradeNo: 9, State: state},
			Paid:   state == flashsale.IntentConfirming,
		}
	}
	paid := intent(flashsale.IntentDone)
	paid.Paid = true
	refunding, refunded := paid, paid
	refunding.Refund, refunded.Refund = flashsale.RefundDue, flashsale.RefundDone
	hold := func(state points.State) points.OrderFigures {
		h := points.OrderFigures{OrderNo: 42, User: "ann", State: state, Points: 7, TradeNo: 9}
		if state == points.StateConfirmed || state == points.StateRefunded {
			h.Debit = 7
		}
		if state == points.StateRefunded {
			h.Refund = 7
		}
		return h
	}
	none := points.OrderFigures{}
	held, confirmed := hold(points.StateHeld), hold(points.StateConfirmed)
	cancelled, back := hold(points.StateCancelled), hold(points.StateRefunded)
	other, less := confirmed, confirmed
	other.TradeNo, less.Debit = 8, 6
	for _, c := range []struct {
		payment flashsale.PointsPayment
		hold    points.OrderFigures
		want    string // a part of the line; "" is no contradiction
	}{
		{intent(flashsale.IntentTrying), none, ""},
		{intent(flashsale.IntentTrying), held, ""},
		{intent(flashsale.IntentTrying), confirmed, "it is not paid with them"},
		{intent(flashsale.IntentShort), none, ""},
		{intent(flashsale.IntentShort), held, ""}, // set free once the order is over
		{intent(flashsale.IntentConfirming), held, ""},
		{intent(flashsale.IntentConfirming), confirmed, ""},
		{intent(flashsale.IntentConfirming), none, "not frozen"},
		{intent(flashsale.IntentConfirming), cancelled, "not frozen"},
		{intent(flashsale.IntentCancelling), held, ""},
		{intent(flashsale.IntentCancelling), cancelled, ""},
		{intent(flashsale.IntentDone), none, ""}, // cancelled before it was tried
		{intent(flashsale.IntentDone), cancelled, ""},
		{intent(flashsale.IntentDone), held, "frozen for nothing"},
		{intent(flashsale.IntentDone), confirmed, "it is not paid with them"},
		{paid, confirmed, ""},
		{paid, none, "never taken"},
		{paid, held, "never taken"},
		{paid, cancelled, "never taken"},
		{paid, back, "no refund was begun"},
		{paid, other, "by trade 9"},
		{paid, less, "6 taken"},
		{refunding, confirmed, ""},
		{refunding, back, ""},
		{refunded, back, ""},
		{refunded, confirmed, "not put back"},
	} {
		got := comparePayment(c.payment, c.hold)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("intent %s, paid %t, refund %q, hold %q: %q, want %q",
				c.payment.State, c.payment.Paid, c.payment.Refund, c.hold.State, got, c.want)
		}
	}
}

// Protects the comparison of large databases: pages join without a gap, and end.
func TestPager(t *testing.T) {
	t.Parallel()
	const rows = 2*moneyPage + 3
	reads := 0
	p := pager[flashsale.OrderNo]{
		read: func(_ context.Context, after flashsale.OrderNo, limit int) (page []flashsale.OrderNo, _ error) {
			reads++
			for n := after + 1; n <= rows && len(page) < limit; n++ {
				page = append(page, n)
			}
			return page, nil
		},
		key: func(n flashsale.OrderNo) flashsale.OrderNo { return n },
	}
	want := flashsale.OrderNo(1)
	for ; ; want++ {
		got, ok, err := p.peek(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if got != want {
			t.Fatalf("row %d, want %d", got, want)
		}
		p.next()
	}
	if want != rows+1 || reads != 3 {
		t.Errorf("%d rows in %d reads", want-1, reads)
	}
}

// Protects an operator from a desk that is configured by halves.
func TestConfig(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]Config{
		"Ledger is required":        {},
		"NextTradeNo is required":   {Ledger: noLedger{}, Points: noPoints{}},
		"RecoverEvery must be":      {Ledger: noLedger{}, RecoverEvery: 1},
		"StepTimeout must be posit": {Ledger: noLedger{}, StepTimeout: -1},
	} {
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := New(Config{Ledger: noLedger{}}); err != nil {
		t.Error(err)
	}
}

type (
	noLedger struct{ Ledger }
	noPoints struct{ Points }
)
