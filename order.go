package flashsale

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"time"
)

// Status is the state of an order. The edges between states are listed at [Status.Next].
type Status string

// The states of an order.
const (
	Pending   Status = "pending"   // decided in Redis, not yet in PostgreSQL
	Unpaid    Status = "unpaid"    // confirmed: committed in PostgreSQL
	Paid      Status = "paid"      // money received
	Refunding Status = "refunding" // money on its way back
	Refunded  Status = "refunded"  // money given back, units given back
	Cancelled Status = "cancelled" // by pay timeout or by the shopper, units given back
	Rejected  Status = "rejected"  // refused by PostgreSQL, units given back
)

// Next returns the states that may follow.
func (s Status) Next() []Status {
	switch s {
	case Pending:
		return []Status{Unpaid, Rejected}
	case Unpaid:
		return []Status{Paid, Cancelled}
	case Paid:
		return []Status{Refunding}
	case Refunding:
		return []Status{Refunded}
	default:
		return nil
	}
}

// Valid reports whether there is such a state.
func (s Status) Valid() bool {
	switch s {
	case Pending, Unpaid, Paid, Refunding, Refunded, Cancelled, Rejected:
		return true
	default:
		return false
	}
}

// Final reports whether the state never changes again.
func (s Status) Final() bool { return len(s.Next()) == 0 }

// Live reports whether an order in this state holds its units in the ledger of record.
func (s Status) Live() bool { return s == Unpaid || s == Paid || s == Refunding }

// Order is one purchase. A pending order knows only what its stream entry holds.
type Order struct {
	OrderNo        OrderNo
	ItemID         ItemID
	User           string
	Quantity       int
	IdempotencyKey string // "" when the client sent none
	Generation     int64  // of the item when the script decided
	Sequence       int64  // the how manieth order the item accepted in its generation
	Status         Status
	Reason         string // why it was rejected or cancelled
	AmountFen      int64
	AmountPoints   int64
	ReservedAt     time.Time // Redis time of the decision
	CreatedAt      time.Time // PostgreSQL time of the confirmation; zero while pending
	UpdatedAt      time.Time
	PayDeadline    time.Time
}

// Digest is a number that stands for all of an order that never changes once it is confirmed.
// Digests of many orders are added up, with overflow, so their order does not matter.
func (o Order) Digest() int64 {
	text := make([]byte, 0, 160)
	for _, n := range []int64{
		int64(o.OrderNo), int64(o.ItemID), int64(o.Quantity), o.Generation, o.Sequence,
		o.AmountFen, o.AmountPoints,
	} {
		text = append(strconv.AppendInt(text, n, 10), ' ')
	}
	sum := sha256.Sum256(append(text, o.User...))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// OrderEvent is something that happened to an order, for whoever looks into a complaint.
type OrderEvent struct {
	At     time.Time
	Event  string // a stable code, such as confirmed
	Detail string // numbers and reasons, for people
}

// Result tells that an order has reached a state: what the worker publishes and the
// websocket of the shopper shows.
type Result struct {
	OrderNo OrderNo `json:"order_no"`
	User    string  `json:"user"`
	Status  Status  `json:"status"`
	Reason  string  `json:"reason,omitempty"`
}
