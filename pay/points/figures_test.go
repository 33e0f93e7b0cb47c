package points_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flashsale"
	"flashsale/pay/points"
)

// It protects the audit's figures: each counts what it says.
func TestFigures(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	held, confirmed, cancelled, refunded := b.hold(t, "ann", 1), b.hold(t, "ann", 20), b.hold(t, "bob", 300), b.hold(t, "bob", 4000)
	assertOutcome(t, points.Confirmed)(b.Confirm(ctx, confirmed))
	assertOutcome(t, points.Cancelled)(b.Cancel(ctx, cancelled))
	assertOutcome(t, points.EmptyRollback)(b.Cancel(ctx, nextOrderNo()))
	assertOutcome(t, points.Confirmed)(b.Confirm(ctx, refunded))
	assertOutcome(t, points.Refunded)(b.Refund(ctx, refunded, "r-1"))

	want := points.Figures{
		Accounts: 2, Granted: 4321, Debited: 4020, Refunded: 4000, Balance: 4301, Frozen: 1, Held: 1,
	}
	f := assertSound(t, b)
	f.Mismatches = nil
	if fmt.Sprint(f) != fmt.Sprint(want) {
		t.Errorf("figures %+v, want %+v", f, want)
	}

	var orders []points.OrderFigures
	for after := flashsale.OrderNo(0); ; {
		page, err := b.Orders(ctx, after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, order := range page {
			if order.TradeNo == 0 {
				t.Errorf("order %+v has no trade number", order)
			}
			order.TradeNo = 0
			orders = append(orders, order)
		}
		after = page[len(page)-1].OrderNo
	}
	if wanted := []points.OrderFigures{
		{OrderNo: held, User: "ann", State: points.StateHeld, Points: 1},
		{OrderNo: confirmed, User: "ann", State: points.StateConfirmed, Points: 20, Debit: 20},
		{OrderNo: cancelled, User: "bob", State: points.StateCancelled, Points: 300},
		{OrderNo: refunded, User: "bob", State: points.StateRefunded, Points: 4000, Debit: 4000, Refund: 4000},
	}; !slices.Equal(orders, wanted) {
		t.Errorf("orders %+v, want %+v", orders, wanted)
	}
	for _, c := range []struct {
		after flashsale.OrderNo
		limit int
	}{{-1, 1}, {0, 0}, {0, points.OrdersMax + 1}} {
		_, err := b.Orders(ctx, c.after, c.limit)
		assertError(t, fmt.Sprintf("orders %+v", c), err, flashsale.ErrPermanent)
	}
}

// It protects the audit itself: each kind of damage that the constraints cannot refuse is found
// and named. One that finds nothing would prove nothing.
func TestFigures_FindsDamage(t *testing.T) {
	t.Parallel()
	const (
		unlock = `ALTER TABLE entries DISABLE TRIGGER ALL; ALTER TABLE fences DISABLE TRIGGER ALL;
			ALTER TABLE holds DISABLE TRIGGER ALL; `
		paid = `(SELECT min(order_no) FROM holds WHERE state = 'confirmed')`
		back = `(SELECT min(order_no) FROM holds WHERE state = 'refunded')`
	)
	for name, c := range map[string]struct{ damage, rules string }{
		"points from nothing":   {`UPDATE accounts SET balance = balance + 1, granted = granted + 1 WHERE user_id = 'ann'`, "account"},
		"points vanished":       {`UPDATE accounts SET balance = balance - 1 WHERE user_id = 'bob'`, "account"},
		"frozen without hold":   {`UPDATE accounts SET frozen = frozen + 1 WHERE user_id = 'bob'`, "account"},
		"a grant raised":        {`UPDATE entries SET points = points + 1 WHERE user_id = 'ann' AND sequence = 1`, "account chain"},
		"an entry removed":      {`DELETE FROM entries WHERE user_id = 'ann' AND sequence = 1`, "account chain"},
		"a debit removed":       {`DELETE FROM entries WHERE type = 'debit' AND order_no = ` + paid, "account chain order"},
		"a refund removed":      {`DELETE FROM entries WHERE type = 'refund'`, "account order"},
		"a refund too large":    {`UPDATE entries SET points = points + 1, balance = balance + 1 WHERE type = 'refund'`, "account order"},
		"a running balance off": {`UPDATE entries SET balance = balance + 1 WHERE type = 'refund'`, "chain"},
		"a debit of another":    {`UPDATE holds SET user_id = 'bob' WHERE order_no = ` + paid, "order"},
		"another trade number":  {`UPDATE holds SET trade_no = trade_no + 1000000000 WHERE order_no = ` + paid, "order"},
		"debited but cancelled": {`UPDATE holds SET state = 'cancelled' WHERE order_no = ` + paid, "fence order"},
		"held and refunded":     {`UPDATE holds SET state = 'held' WHERE order_no = ` + back, "account fence order"},
		"a hold removed":        {`DELETE FROM holds WHERE order_no = ` + paid, "fence order"},
		"a fence removed":       {`DELETE FROM fences WHERE step = 'confirm' AND order_no = ` + paid, "fence"},
		"both ends":             {`INSERT INTO fences (order_no, step) VALUES (` + paid + `, 'cancel')`, "fence"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupMixed(t)
			if err := b.exec(t, unlock+c.damage); err != nil {
				t.Fatal(err)
			}
			f, err := b.Figures(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var rules []string
			for _, mismatch := range f.Mismatches {
				rules = append(rules, mismatch.Rule)
			}
			if got := strings.Join(slices.Compact(rules), " "); got != c.rules {
				t.Errorf("%s were broken, want %s: %v", got, c.rules, f.Mismatches)
			}
		})
	}
}

// setupMixed is a ledger with an order in each state.
func setupMixed(t *testing.T) bundle {
	t.Helper()
	b, ctx := setupUnchecked(t), t.Context()
	b.grant(t, "ann", 1)
	b.grant(t, "bob", 10)
	for i, end := range []func(flashsale.OrderNo){
		func(flashsale.OrderNo) {},
		func(o flashsale.OrderNo) { assertOutcome(t, points.Cancelled)(b.Cancel(ctx, o)) },
		func(o flashsale.OrderNo) { assertOutcome(t, points.Confirmed)(b.Confirm(ctx, o)) },
		func(o flashsale.OrderNo) {
			assertOutcome(t, points.Confirmed)(b.Confirm(ctx, o))
			assertOutcome(t, points.Refunded)(b.Refund(ctx, o, "r-1"))
		},
	} {
		end(b.hold(t, "ann", int64(10+i)))
	}
	return b
}

// It protects the audit from a ledger that is wrong all over: it reports a bounded part.
func TestFigures_Bounded(t *testing.T) {
	t.Parallel()
	b := setupUnchecked(t)
	if err := b.exec(t, `INSERT INTO accounts (user_id, balance, granted, sequence)
		SELECT 'user-' || n, 1, 1, 1 FROM generate_series(1, 500) n`); err != nil {
		t.Fatal(err)
	}
	f, err := b.Figures(t.Context())
	if err != nil || len(f.Mismatches) != points.MismatchesMax {
		t.Errorf("%d mismatches, error %v", len(f.Mismatches), err)
	}
	if line := f.Mismatches[0].String(); !strings.HasPrefix(line, "account user-1: balance 1, ") {
		t.Errorf("the first line is %q", line)
	}
}
