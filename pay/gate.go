package pay

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"flashsale"
	"flashsale/pay/alipay"
)

// Bounds of what anybody on the internet can make us do.
const (
	meteredMax = 10_000 // addresses, and orders, that are remembered

	// An address may send so many bad signatures at once, and so many a second. A check costs
	// some 30 µs of processor.
	badPerAddrBurst = 200
	badPerAddrEvery = time.Second / 20
	// Likewise about one order that exists: its number is known to its shopper.
	badPerOrderBurst = 10
	badPerOrderEvery = 10 * time.Second

	// knownAtOnce bounds the look-ups of orders about which an address that is over its bound sends
	// something.
	knownAtOnce = 8

	// asksAtOnce bounds the questions to Alipay that messages and waiting shoppers cause.
	asksAtOnce = 64
	askWait    = 2 * time.Second // for a turn
	// lookEvery is how often one order that somebody waits for makes us ask Alipay.
	lookEvery = 2 * time.Second
)

// ErrBusy is returned for a message that is not looked at, because there are too many: Alipay's own
// come again.
var ErrBusy = errors.New("too many messages")

// gate stands before everything that costs more than a look at the fields of a message: the check of
// its signature, and the question to Alipay. What the fields give away counts against nobody, so
// that garbage holds up no genuine notice, not even from behind the same address. Who sends bad
// signatures has a bound for his address; beyond it only messages about orders that exist are
// checked, each order with a bound of its own: a forger can spend those of his own orders.
type gate struct {
	addresses *meter[netip.Prefix]
	orders    *meter[flashsale.OrderNo]
	known     chan struct{} // slots for look-ups of orders
	asks      chan struct{} // slots for questions to Alipay
	rate      *meter[struct{}]
	looks     *meter[flashsale.OrderNo]
}

func newGate(noticesMax int) *gate {
	return &gate{
		addresses: newMeter[netip.Prefix](badPerAddrBurst, badPerAddrEvery, meteredMax),
		orders:    newMeter[flashsale.OrderNo](badPerOrderBurst, badPerOrderEvery, meteredMax),
		known:     make(chan struct{}, knownAtOnce),
		asks:      make(chan struct{}, asksAtOnce),
		rate:      newMeter[struct{}](noticesMax, time.Second/time.Duration(noticesMax), 1),
		looks:     newMeter[flashsale.OrderNo](1, lookEvery, meteredMax),
	}
}

// admission is the way of one message through the gate.
type admission struct {
	gate    *gate
	from    netip.Prefix
	exists  func(flashsale.OrderNo) bool
	order   flashsale.OrderNo
	checked bool // its signature was
}

// admit is asked once the fields look like a message of Alipay's.
func (a *admission) admit(no flashsale.OrderNo) error {
	now := time.Now()
	if !a.gate.addresses.allows(a.from, now) && (!a.gate.orders.allows(no, now) || !a.exists(no)) {
		return ErrBusy
	}
	a.order, a.checked = no, true
	return nil
}

// done counts a message whose signature was bad.
func (a *admission) done(err error) {
	if a.checked && errors.Is(err, alipay.ErrForged) {
		now := time.Now()
		a.gate.addresses.count(a.from, now)
		a.gate.orders.count(a.order, now)
	}
}

// ask lets a question to Alipay in, or not, after waiting for its turn; who is in calls leave.
func (g *gate) ask(ctx context.Context, wait time.Duration) (leave func(), ok bool) {
	if !g.rate.take(struct{}{}, time.Now()) {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case g.asks <- struct{}{}:
		return func() { <-g.asks }, true
	case <-ctx.Done():
		return nil, false
	}
}

// admission opens the gate for a message from an address.
func (d *Desk) admission(ctx context.Context, from netip.Prefix) *admission {
	return &admission{gate: d.gate, from: from, exists: func(no flashsale.OrderNo) bool {
		select {
		case d.gate.known <- struct{}{}:
			defer func() { <-d.gate.known }()
		case <-ctx.Done():
			return false
		}
		_, err := d.config.Ledger.Order(ctx, no)
		return err == nil
	}}
}
