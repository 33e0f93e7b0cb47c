package points

import "fmt"

// Outcome is the answer to a grant or to a step of a payment. Every outcome is an expected
// answer; faults are errors.
type Outcome uint8

// The outcomes. Those of the first group were brought about by the call; the others tell why it
// changed nothing. Their texts are stable, for metrics and logs.
const (
	// Granted: the points are on the account.
	Granted Outcome = iota + 1
	// Held: the points are frozen for the order.
	Held
	// Confirmed: the frozen points are taken.
	Confirmed
	// Cancelled: the frozen points are free again.
	Cancelled
	// EmptyRollback: there was no try to cancel, and there will be none.
	EmptyRollback
	// Refunded: what was taken is back.
	Refunded

	// AlreadyGranted: the reference was granted before.
	AlreadyGranted
	// LimitReached: the grant would exceed what one user may ever be given.
	LimitReached
	// AlreadyHeld: the order's points are frozen since an earlier try.
	AlreadyHeld
	// InsufficientPoints: the user has fewer free points.
	InsufficientPoints
	// AlreadyConfirmed: the order's points were taken by an earlier confirm.
	AlreadyConfirmed
	// AlreadyCancelled: an earlier cancel has ended the order's payment.
	AlreadyCancelled
	// NotHeld: the order has never tried.
	NotHeld
	// NotConfirmed: the order's points are frozen only, so there is nothing to put back.
	NotConfirmed
	// AlreadyRefunded: an earlier refund has put the points back.
	AlreadyRefunded
)

var outcomeTexts = [...]string{
	Granted: "granted", Held: "held", Confirmed: "confirmed", Cancelled: "cancelled",
	EmptyRollback: "empty_rollback", Refunded: "refunded",
	AlreadyGranted: "already_granted", LimitReached: "limit_reached",
	AlreadyHeld: "already_held", InsufficientPoints: "insufficient_points",
	AlreadyConfirmed: "already_confirmed", AlreadyCancelled: "already_cancelled",
	NotHeld: "not_held", NotConfirmed: "not_confirmed", AlreadyRefunded: "already_refunded",
}

// Changed reports whether the call brought the outcome about.
func (o Outcome) Changed() bool { return o >= Granted && o <= Refunded }

// String returns the stable text.
func (o Outcome) String() string {
	if o < Granted || o > AlreadyRefunded {
		return fmt.Sprintf("outcome(%d)", uint8(o))
	}
	return outcomeTexts[o]
}
