package flashsale

import "fmt"

// Outcome is the answer to a request for units of an item. Every outcome is an expected
// answer; faults are errors.
type Outcome uint8

// The outcomes. Their texts are the stable codes of the HTTP API and of the metrics.
const (
	// Accepted: the units are taken and the order is pending.
	Accepted Outcome = iota + 1
	// Replayed: the idempotency key was accepted before; the first order_no again.
	Replayed
	// SoldOut: fewer units are left than were asked for.
	SoldOut
	// DuplicateOrder: the user holds the one order that the item allows.
	DuplicateOrder
	// LimitReached: the units would exceed what the item allows one user.
	LimitReached
	// NotStarted: the item's window has not opened.
	NotStarted
	// Ended: the item's window has closed.
	Ended
	// Paused: an operator has paused the item.
	Paused
	// KeyReused: the idempotency key was used for another quantity; its order_no.
	KeyReused
	// ItemNotFound: no such item.
	ItemNotFound
	// NotReady: the item is not loaded in Redis, or is being rebuilt; ask again later.
	NotReady
	// Overloaded: a queue on the way is full; ask again later.
	Overloaded
)

var outcomeTexts = [...]string{
	Accepted: "accepted", Replayed: "replayed", SoldOut: "sold_out",
	DuplicateOrder: "duplicate_order", LimitReached: "limit_reached",
	NotStarted: "not_started", Ended: "ended", Paused: "paused",
	KeyReused: "idempotency_key_reused", ItemNotFound: "item_not_found", NotReady: "not_ready", Overloaded: "overloaded",
}

// Outcomes returns every outcome, in the order of their declaration.
func Outcomes() []Outcome {
	all := make([]Outcome, 0, len(outcomeTexts)-1)
	for o := Accepted; o <= Overloaded; o++ {
		all = append(all, o)
	}
	return all
}

// String returns the stable code.
func (o Outcome) String() string {
	if o < Accepted || o > Overloaded {
		return fmt.Sprintf("outcome(%d)", uint8(o))
	}
	return outcomeTexts[o]
}
