package pay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"flashsale"
	"flashsale/pay/alipay"
)

// Protects a bound from growing, from forgetting and from being spent by refusals.
func TestMeter(t *testing.T) {
	t.Parallel()
	m := newMeter[string](3, time.Second, 2)
	now := time.Unix(1_800_000_000, 0)
	taken := func(key string, at time.Time, n int) (taken int) {
		for range n {
			if m.take(key, at) {
				taken++
			}
		}
		return taken
	}
	for _, step := range []struct {
		key  string
		at   time.Duration
		want int
	}{
		{"a", 0, 3},
		{"a", 0, 0},
		{"a", 999 * time.Millisecond, 0},
		{"a", time.Second, 1},
		{"a", 3 * time.Second, 2},
		{"b", 3 * time.Second, 3},
		{"c", 3 * time.Second, 3},
		{"a", time.Hour, 3},
	} {
		if got := taken(step.key, now.Add(step.at), 10); got != step.want {
			t.Errorf("%s after %s: %d taken, want %d", step.key, step.at, got, step.want)
		}
		if len(m.times) > 2 {
			t.Fatalf("%d keys remembered", len(m.times))
		}
	}
	for range 10 {
		m.count("x", now.Add(2*time.Hour))
	}
	if m.allows("x", now.Add(2*time.Hour)) || !m.allows("x", now.Add(2*time.Hour+time.Second)) {
		t.Error("events that are counted beyond the bound bar a key for longer than the bound says")
	}
}

// Protects genuine messages from a forger behind the same address: he uses up the address, and the
// orders whose numbers he knows, but never another's order.
func TestGate_ForgerBehindTheSameAddress(t *testing.T) {
	t.Parallel()
	g := newGate(1000)
	from, other := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	const his, mine, unknown = flashsale.OrderNo(1), flashsale.OrderNo(2), flashsale.OrderNo(3)
	lookUps := 0
	message := func(from netip.Prefix, no flashsale.OrderNo, err error) error {
		a := &admission{gate: g, from: from, exists: func(no flashsale.OrderNo) bool { lookUps++; return no != unknown }}
		refused := a.admit(no)
		if refused == nil {
			a.done(err)
		} else {
			a.done(refused)
		}
		return refused
	}
	forged := fmt.Errorf("x: %w", alipay.ErrForged)
	checked := 0
	for range 10_000 {
		if message(from, unknown, forged) == nil {
			checked++
		}
	}
	if checked > badPerAddrBurst+20 { // and what a moment brings
		t.Errorf("%d signatures were checked", checked)
	}
	before := lookUps
	checked = 0
	for range 10_000 {
		if message(from, his, forged) == nil {
			checked++
		}
	}
	if checked > badPerOrderBurst+20 || lookUps-before > badPerOrderBurst+20 {
		t.Errorf("%d signatures were checked and %d orders looked up for one order", checked, lookUps-before)
	}
	for range 100 {
		if err := message(from, mine, nil); err != nil {
			t.Fatalf("a genuine message from the same address: %v", err)
		}
	}
	if err := message(other, his, nil); err != nil {
		t.Errorf("a message about the forger's order, from Alipay's own address: %v", err)
	}
}
