package points_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
	"flashsale/pay/points"
)

func assertCounts(t *testing.T, step string, got, want map[points.Outcome]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: %v, want %v", step, got, want)
	}
}

// It protects against retries that overlap: of 100 equal calls at the same time one takes
// effect, and 99 learn that it did.
func TestSteps_SameTime(t *testing.T) {
	t.Parallel()
	const n = 100
	b, ctx := setup(t), t.Context()
	hold := points.Hold{OrderNo: nextOrderNo(), User: "ann", Points: 100}
	empty := nextOrderNo()
	cancelled := b.hold(t, "bob", 100)

	for _, c := range []struct {
		step          string
		call          func() (points.Outcome, error)
		once, already points.Outcome
	}{
		{"grant", func() (points.Outcome, error) { return b.Grant(ctx, "ann", 100, "g-1") }, points.Granted, points.AlreadyGranted},
		{"try", func() (points.Outcome, error) { return b.Try(ctx, hold) }, points.Held, points.AlreadyHeld},
		{"confirm", func() (points.Outcome, error) { return b.Confirm(ctx, hold.OrderNo) }, points.Confirmed, points.AlreadyConfirmed},
		{"refund", func() (points.Outcome, error) { return b.Refund(ctx, hold.OrderNo, "r-1") }, points.Refunded, points.AlreadyRefunded},
		{"cancel", func() (points.Outcome, error) { return b.Cancel(ctx, cancelled) }, points.Cancelled, points.AlreadyCancelled},
		{"empty rollback", func() (points.Outcome, error) { return b.Cancel(ctx, empty) }, points.EmptyRollback, points.AlreadyCancelled},
	} {
		got := together(t, n, func(int) (points.Outcome, error) { return c.call() })
		assertCounts(t, c.step, got, map[points.Outcome]int{c.once: 1, c.already: n - 1})
	}
	assertAccount(t, b, "ann", 100, 0)
	assertAccount(t, b, "bob", 100, 0)
}

// It protects against paying back twice: 100 refunds with a number each, one of them wins.
func TestRefund_ManyNumbersAtOnce(t *testing.T) {
	t.Parallel()
	const n = 100
	b, ctx := setup(t), t.Context()
	orderNo := b.hold(t, "ann", 100)
	assertOutcome(t, points.Confirmed)(b.Confirm(ctx, orderNo))
	got := together(t, n, func(i int) (points.Outcome, error) {
		return b.Refund(ctx, orderNo, fmt.Sprintf("r-%d", i))
	})
	assertCounts(t, "refund", got, map[points.Outcome]int{points.Refunded: 1, points.AlreadyRefunded: n - 1})
	assertAccount(t, b, "ann", 100, 0)
}

// It protects the balance: 1,000 orders at once want more than an account has, and exactly what
// it has is frozen. Half are then confirmed, half cancelled.
func TestTry_OneAccountManyOrders(t *testing.T) {
	t.Parallel()
	const orders, enough = 1000, 400
	b, ctx := setup(t), t.Context()
	b.grant(t, "ann", enough)
	first := flashsale.OrderNo(numbers.Add(orders)) - orders
	got := together(t, orders, func(i int) (points.Outcome, error) {
		return b.Try(ctx, points.Hold{OrderNo: first + flashsale.OrderNo(i), User: "ann", Points: 1})
	})
	assertCounts(t, "try", got, map[points.Outcome]int{
		points.Held: enough, points.InsufficientPoints: orders - enough,
	})
	assertAccount(t, b, "ann", enough, enough)

	got = together(t, orders, func(i int) (points.Outcome, error) {
		if i%2 == 0 {
			return b.Confirm(ctx, first+flashsale.OrderNo(i))
		}
		return b.Cancel(ctx, first+flashsale.OrderNo(i))
	})
	if held := got[points.Confirmed] + got[points.Cancelled]; held != enough {
		t.Errorf("%v: %d of the holds ended, want %d", got, held, enough)
	}
	assertAccount(t, b, "ann", int64(enough-got[points.Confirmed]), 0)
}

// It protects the one end of a payment: try, confirm, cancel and refund of one order race, 1,000
// times on one account, and what they were told agrees with each other and with the ledger.
func TestSteps_RaceOnOneOrder(t *testing.T) {
	t.Parallel()
	const orders, atOnce, price = 1000, 8, 7
	b, ctx := setup(t), t.Context()
	b.grant(t, "ann", orders*price)
	turns := make(chan flashsale.OrderNo)
	var group sync.WaitGroup
	for range atOnce {
		group.Go(func() {
			for orderNo := range turns {
				raceOrder(t, ctx, b, points.Hold{OrderNo: orderNo, User: "ann", Points: price})
			}
		})
	}
	for range orders {
		turns <- nextOrderNo()
	}
	close(turns)
	group.Wait()
	if f := assertSound(t, b); f.Held != 0 {
		t.Errorf("%d points are still held", f.Held)
	}
}

// raceOrder starts each order in one of the states that a race can meet, runs all steps at once
// and then ends it.
func raceOrder(t *testing.T, ctx context.Context, b bundle, hold points.Hold) {
	t.Helper()
	if hold.OrderNo%2 == 0 {
		assertOutcome(t, points.Held)(b.Try(ctx, hold))
	}
	steps := []func() (points.Outcome, error){
		func() (points.Outcome, error) { return b.Try(ctx, hold) },
		func() (points.Outcome, error) { return b.Confirm(ctx, hold.OrderNo) },
		func() (points.Outcome, error) { return b.Cancel(ctx, hold.OrderNo) },
		func() (points.Outcome, error) { return b.Refund(ctx, hold.OrderNo, "r-"+hold.OrderNo.String()) },
	}
	rand.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	told := together(t, len(steps), func(i int) (points.Outcome, error) { return steps[i]() })

	payment, err := b.Payment(ctx, hold.OrderNo)
	if err != nil {
		t.Error(err)
		return
	}
	paid := told[points.Confirmed]
	free := told[points.Cancelled] + told[points.EmptyRollback]
	want := map[points.State]bool{
		points.StateConfirmed: paid == 1 && free == 0 && told[points.Refunded] == 0,
		points.StateRefunded:  paid == 1 && free == 0 && told[points.Refunded] == 1,
		points.StateCancelled: paid == 0 && free == 1 && told[points.Refunded] == 0,
		// A cancel ran, so the order is not left held.
	}
	if !want[payment.State] {
		t.Errorf("order %s is %s, but the steps were told %v", hold.OrderNo, payment.State, told)
	}
	if told[points.EmptyRollback] == 1 && told[points.Held]+told[points.AlreadyHeld] > 0 {
		t.Errorf("order %s: %v: a try hangs after an empty rollback", hold.OrderNo, told)
	}
}

// It protects against lost replies: calls are cut off at random moments, so that nobody knows
// what was committed. Repeated until they are answered, they end as if nothing had happened.
func TestSteps_LostReplies(t *testing.T) {
	t.Parallel()
	const orders, price = 150, 3
	b := setup(t)
	b.grant(t, "ann", orders*price)
	// Until it is answered, with a growing chance to be.
	insist := func(call func(context.Context) (points.Outcome, error)) points.Outcome {
		for attempt := 1; ; attempt++ {
			timeout := time.Duration(rand.Int64N(int64(3 * time.Millisecond)))
			if attempt > 3 {
				timeout = time.Minute
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			outcome, err := call(ctx)
			cancel()
			if err == nil {
				return outcome
			}
			if attempt > 3 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("attempt %d: %v", attempt, err)
				return 0
			}
		}
	}
	var group sync.WaitGroup
	work := make(chan flashsale.OrderNo)
	for range 4 {
		group.Go(func() {
			for orderNo := range work {
				hold := points.Hold{OrderNo: orderNo, User: "ann", Points: price}
				insist(func(ctx context.Context) (points.Outcome, error) { return b.Try(ctx, hold) })
				insist(func(ctx context.Context) (points.Outcome, error) { return b.Confirm(ctx, orderNo) })
				if orderNo%2 == 0 {
					insist(func(ctx context.Context) (points.Outcome, error) {
						return b.Refund(ctx, orderNo, "r-"+orderNo.String())
					})
				}
			}
		})
	}
	refunded := int64(0)
	for range orders {
		orderNo := nextOrderNo()
		if orderNo%2 == 0 {
			refunded++
		}
		work <- orderNo
	}
	close(work)
	group.Wait()
	assertAccount(t, b, "ann", refunded*price, 0)
}

// It protects what was answered from a crash of PostgreSQL: after it is killed and started
// again, every answered step stands, and every unanswered one can be repeated to its end.
func TestSteps_PostgresKilled(t *testing.T) {
	t.Parallel()
	const orders, price = 200, 5
	server := stacktest.NewPostgres(t)
	b := open(t, server.URL())
	if _, err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.grant(t, "ann", orders*price)

	confirmed := make(chan flashsale.OrderNo, orders)
	work := make(chan flashsale.OrderNo)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for orderNo := range work {
				outcome, err := b.Try(t.Context(), points.Hold{OrderNo: orderNo, User: "ann", Points: price})
				if err == nil && outcome == points.Held {
					outcome, err = b.Confirm(t.Context(), orderNo)
				}
				if err == nil && outcome == points.Confirmed {
					confirmed <- orderNo
				}
			}
		})
	}
	var all []flashsale.OrderNo
	for i := range orders {
		if i == orders/2 {
			server.Kill()
		}
		all = append(all, nextOrderNo())
		work <- all[i]
	}
	close(work)
	group.Wait()
	close(confirmed)
	if n := len(confirmed); n == 0 || n == orders {
		t.Fatalf("%d of %d orders were confirmed: the crash hit nothing", n, orders)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, time.Minute, func() error { return b.Ping(t.Context()) })

	for orderNo := range confirmed {
		assertOutcome(t, points.AlreadyConfirmed)(b.Cancel(t.Context(), orderNo))
	}
	taken := int64(0)
	for _, orderNo := range all {
		outcome, err := b.Cancel(t.Context(), orderNo) // what recovery does without a paid order
		if err != nil {
			t.Fatal(err)
		}
		if outcome == points.AlreadyConfirmed {
			taken += price
		}
	}
	assertAccount(t, b, "ann", orders*price-taken, 0)
	assertSound(t, b)
}
