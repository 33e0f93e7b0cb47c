package points_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"flashsale"
	"flashsale/pay/points"
)

// model is the ledger in plain Go: what the real one must answer, step by step.
type model struct {
	balance, frozen map[string]int64
	grants          map[string]bool // by reference
	entries         map[string][]int64
	orders          map[flashsale.OrderNo]*modelOrder
}

type modelOrder struct {
	user     string
	points   int64
	state    points.State
	refundNo string
}

func newModel() *model {
	return &model{
		balance: map[string]int64{}, frozen: map[string]int64{}, grants: map[string]bool{},
		entries: map[string][]int64{}, orders: map[flashsale.OrderNo]*modelOrder{},
	}
}

func (m *model) book(user string, amount int64) {
	m.balance[user] += amount
	m.entries[user] = append(m.entries[user], amount)
}

func (m *model) grant(user string, amount int64, ref string) points.Outcome {
	if m.grants[ref] {
		return points.AlreadyGranted
	}
	m.grants[ref] = true
	m.book(user, amount)
	return points.Granted
}

// ended is the answer to a try, confirm or cancel of a payment that has ended.
func (o *modelOrder) ended() points.Outcome {
	if o.state == points.StateCancelled {
		return points.AlreadyCancelled
	}
	return points.AlreadyConfirmed
}

func (m *model) try(orderNo flashsale.OrderNo, user string, amount int64) points.Outcome {
	switch order := m.orders[orderNo]; {
	case order == nil && m.balance[user]-m.frozen[user] < amount:
		return points.InsufficientPoints
	case order == nil:
		m.orders[orderNo] = &modelOrder{user: user, points: amount, state: points.StateHeld}
		m.frozen[user] += amount
		return points.Held
	case order.state == points.StateHeld:
		return points.AlreadyHeld
	default:
		return order.ended()
	}
}

func (m *model) confirm(orderNo flashsale.OrderNo) points.Outcome {
	switch order := m.orders[orderNo]; {
	case order == nil:
		return points.NotHeld
	case order.state == points.StateHeld:
		order.state = points.StateConfirmed
		m.frozen[order.user] -= order.points
		m.book(order.user, -order.points)
		return points.Confirmed
	default:
		return order.ended()
	}
}

func (m *model) cancel(orderNo flashsale.OrderNo) points.Outcome {
	switch order := m.orders[orderNo]; {
	case order == nil:
		m.orders[orderNo] = &modelOrder{state: points.StateCancelled}
		return points.EmptyRollback
	case order.state == points.StateHeld:
		order.state = points.StateCancelled
		m.frozen[order.user] -= order.points
		return points.Cancelled
	default:
		return order.ended()
	}
}

func (m *model) refund(orderNo flashsale.OrderNo, refundNo string) points.Outcome {
	order := m.orders[orderNo]
	if order == nil {
		return points.NotHeld
	}
	switch order.state {
	case points.StateHeld:
		return points.NotConfirmed
	case points.StateConfirmed:
		order.state, order.refundNo = points.StateRefunded, refundNo
		m.book(order.user, order.points)
		return points.Refunded
	case points.StateRefunded:
		return points.AlreadyRefunded
	default:
		return points.AlreadyCancelled
	}
}

// call is one call, to be made on the model and on the ledger.
type call struct {
	step    string
	user    string
	orderNo flashsale.OrderNo
	points  int64
	ref     string
}

func (c call) String() string {
	return fmt.Sprintf("%s(user %s, order %s, points %d, ref %s)", c.step, c.user, c.orderNo, c.points, c.ref)
}

func (c call) onModel(m *model) points.Outcome {
	switch c.step {
	case "grant":
		return m.grant(c.user, c.points, c.ref)
	case "try":
		return m.try(c.orderNo, c.user, c.points)
	case "confirm":
		return m.confirm(c.orderNo)
	case "cancel":
		return m.cancel(c.orderNo)
	default:
		return m.refund(c.orderNo, c.ref)
	}
}

func (c call) onLedger(ctx context.Context, b bundle) (points.Outcome, error) {
	switch c.step {
	case "grant":
		return b.Grant(ctx, c.user, c.points, c.ref)
	case "try":
		return b.Try(ctx, points.Hold{OrderNo: c.orderNo, User: c.user, Points: c.points})
	case "confirm":
		return b.Confirm(ctx, c.orderNo)
	case "cancel":
		return b.Cancel(ctx, c.orderNo)
	default:
		return b.Refund(ctx, c.orderNo, c.ref)
	}
}

// check makes a call on both and compares the answer, the user's account, his entries and what
// is known of the order.
func (c call) check(t rapid.TB, b bundle, m *model) {
	t.Helper()
	ctx := context.Background()
	want := c.onModel(m)
	if got, err := c.onLedger(ctx, b); err != nil || got != want {
		t.Fatalf("%v: %v, error %v; want %v", c, got, err, want)
	}
	account, err := b.Account(ctx, c.user)
	if wanted := (points.Account{User: c.user, Balance: m.balance[c.user], Frozen: m.frozen[c.user]}); err != nil || account != wanted {
		t.Fatalf("after %v: account %+v, error %v; want %+v", c, account, err, wanted)
	}
	entries, err := b.Entries(ctx, c.user, 0, points.EntriesMax)
	if err != nil {
		t.Fatalf("after %v: %v", c, err)
	}
	var moved []int64
	for _, entry := range slices.Backward(entries) {
		moved = append(moved, entry.Points)
	}
	if !slices.Equal(moved, m.entries[c.user]) {
		t.Fatalf("after %v: entries %v, want %v", c, moved, m.entries[c.user])
	}
	if c.orderNo == 0 {
		return
	}
	payment, err := b.Payment(ctx, c.orderNo)
	order := m.orders[c.orderNo]
	if order == nil {
		if err == nil {
			t.Fatalf("after %v: payment %+v, want none", c, payment)
		}
		return
	}
	if err != nil || payment.State != order.state || payment.User != order.user ||
		payment.Points != order.points || payment.RefundNo != order.refundNo {
		t.Fatalf("after %v: payment %+v, error %v; want %+v", c, payment, err, *order)
	}
}

// It protects every order in which steps can arrive: all sequences of five steps, and with them
// all shorter ones, answer as the model does and leave what it leaves.
func TestSteps_EverySequence(t *testing.T) {
	t.Parallel()
	const length = 5
	steps := []string{"try", "confirm", "cancel", "refund"}
	b := setup(t)
	for _, first := range steps {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			var walk func(sequence []string)
			walk = func(sequence []string) {
				if len(sequence) < length {
					for _, next := range steps {
						walk(append(slices.Clone(sequence), next))
					}
					return
				}
				m, orderNo := newModel(), nextOrderNo()
				user := "user-" + orderNo.String()
				grant := call{step: "grant", user: user, points: 150, ref: user}
				grant.check(t, b, m)
				for _, step := range sequence {
					one := call{step: step, user: user, orderNo: orderNo, points: 100}
					if step == "refund" {
						one.ref = "refund-" + orderNo.String()
					}
					one.check(t, b, m)
				}
			}
			walk([]string{first})
		})
	}
}

// It protects what no table thinks of: random calls for a few users and orders, scarce points
// and repeated references. On a failure rapid prints the shortest run and the seed that repeats it.
func TestSteps_Random(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rapid.Check(t, func(t *rapid.T) {
		m := newModel()
		// Fresh names in every run, so that runs share a database.
		run := nextOrderNo()
		var users, refs []string
		var orders []flashsale.OrderNo
		for i := range 4 {
			users = append(users, fmt.Sprintf("user-%s-%d", run, i%3))
			refs = append(refs, fmt.Sprintf("ref-%s-%d", run, i))
			orders = append(orders, nextOrderNo())
		}
		for range rapid.IntRange(1, 25).Draw(t, "calls") {
			which := rapid.IntRange(0, 3).Draw(t, "which")
			// An order and a reference stand for the same user and points each time.
			one := call{
				step: rapid.SampledFrom([]string{
					"grant", "try", "try", "confirm", "confirm", "cancel", "refund", "refund",
				}).Draw(t, "step"),
				user: users[which], points: int64(50 + 50*which),
			}
			switch one.step {
			case "grant":
				one.ref = refs[which]
			case "refund":
				one.orderNo, one.ref = orders[which], refs[which]
			default:
				one.orderNo = orders[which]
			}
			one.check(t, b, m)
		}
	})
}
