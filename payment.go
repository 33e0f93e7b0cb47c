package flashsale

import (
	"fmt"
	"time"
)

// Method is a way to pay.
type Method string

// The ways to pay.
const (
	Alipay Method = "alipay" // amounts are fen
	Points Method = "points" // amounts are points
)

// RefundReasonLenMax bounds, in characters, why money is to be given back.
const RefundReasonLenMax = 200

// ProviderNoLenMax bounds, in characters, the number of a refund that somebody else has chosen.
const ProviderNoLenMax = 200

// Payment is money, or points, that has arrived for an order: a row of the payment log.
type Payment struct {
	Method  Method
	TradeNo string // the provider's number: each is used once
	OrderNo OrderNo
	Amount  int64
	Surplus bool // it pays no order, because that was over or paid already: it is given back
	PaidAt  time.Time
}

// RefundState is where a refund stands.
type RefundState string

// The states of a refund.
const (
	RefundDue     RefundState = "due"     // owed, and asked for again until it is final
	RefundDone    RefundState = "done"    // the money is back
	RefundRefused RefundState = "refused" // by the provider, for good: an operator must see to it
)

// Refund is what we give back of a payment: all of it, less what others have given back before. A
// row of the refund log.
type Refund struct {
	RefundNo string // derived from the order, so that every repetition has the same
	OrderNo  OrderNo
	Method   Method
	TradeNo  string
	Amount   int64
	Surplus  bool // of a surplus payment: the order stays as it is
	State    RefundState
	Reason   string
	Fault    string // why it was refused
	Attempts int
}

// ForeignRefund is money of a trade that the provider has given back without being asked by us,
// as when somebody refunds in the provider's console. It breaks invariant 5 until an operator has
// settled it.
type ForeignRefund struct {
	RefundNo   string // ours for it, derived from the order: F<order_no>-1, -2 …
	ProviderNo string // the provider's; "" where it told none
	OrderNo    OrderNo
	Method     Method
	TradeNo    string
	Amount     int64     // as the provider tells it; 0: it told only what was given back in all
	At         time.Time // when the money went back
	SettledAt  time.Time // zero: nobody has seen to it
}

// Charge is a payment with Alipay that was started: a pay page was handed out, so there may be
// a trade.
type Charge struct {
	OrderNo OrderNo
	Expired bool // nobody can start a trade any more
}

// IntentState is where a payment with points stands in the order database.
type IntentState string

// The states of an intent.
const (
	IntentTrying     IntentState = "trying"     // the points are being frozen
	IntentShort      IntentState = "short"      // there were too few; the shopper may try again
	IntentConfirming IntentState = "confirming" // the order is paid, the points are to be taken
	IntentCancelling IntentState = "cancelling" // the order is over, the points are to be set free
	IntentDone       IntentState = "done"
)

// Intent is the coordinator's note of a payment with points, written before the first step, so
// that a crash leaves nothing that nobody knows of.
type Intent struct {
	OrderNo  OrderNo
	User     string
	Points   int64
	TradeNo  int64
	State    IntentState
	Attempts int
}

// PayOutcome is the answer to a request to pay an order, or to give its money back. Every
// outcome is an expected answer; faults are errors.
type PayOutcome uint8

// The outcomes. Their texts are the stable codes of the HTTP API and of the metrics.
const (
	// PayStarted: the shopper pays at the address that comes with it.
	PayStarted PayOutcome = iota + 1
	// PayDone: the order is paid, by this request or by an earlier one.
	PayDone
	// RefundStarted: the money is on its way back.
	RefundStarted
	// RefundComplete: the money is back.
	RefundComplete
	// NotPayable: the order is in a state in which it cannot be paid.
	NotPayable
	// NotRefundable: the order is in a state in which there is nothing to give back.
	NotRefundable
	// MethodUnavailable: the order cannot be paid in this way.
	MethodUnavailable
	// InsufficientPoints: the user has too few points; nothing was done.
	InsufficientPoints
	// PaymentClosed: the payment was ended; the order cannot be paid in this way any more.
	PaymentClosed
	// TooLate: too little time is left before the order's deadline.
	TooLate
	// PaymentRefused: the provider does not take this payment, and never will.
	PaymentRefused
)

var payOutcomeTexts = [...]string{
	PayStarted: "started", PayDone: "paid", RefundStarted: "refunding", RefundComplete: "refunded",
	NotPayable: "not_payable", NotRefundable: "not_refundable", MethodUnavailable: "method_unavailable",
	InsufficientPoints: "insufficient_points", PaymentClosed: "payment_closed", TooLate: "too_late",
	PaymentRefused: "payment_refused",
}

// String returns the stable code.
func (o PayOutcome) String() string {
	if o < PayStarted || o > PaymentRefused {
		return fmt.Sprintf("pay_outcome(%d)", uint8(o))
	}
	return payOutcomeTexts[o]
}

// Settlement is what came of a request to pay an order or to give its money back.
type Settlement struct {
	Outcome PayOutcome
	Order   Order  // as it stands
	PayURL  string // PayStarted only
}

// Receipt is what became of a payment or refund in the order database.
type Receipt struct {
	Order  Order  // as it stands
	Refund Refund // of the payment; the zero refund while nothing is to be given back
	New    bool   // this call changed something
}

// PaymentHistory is all that the order database knows of an order's money.
type PaymentHistory struct {
	Order    Order
	Charge   string // state of a payment started with Alipay: open, paid, closed; "" without one
	Intent   Intent // of a payment with points; the zero intent without one
	Payments []Payment
	Refunds  []Refund
	Foreign  []ForeignRefund
}

// OpenMoney is money that waits for a hand: a refund that the provider has refused, one that was not
// ours and that nobody has settled, or money that came for nothing and is not back yet.
type OpenMoney struct {
	Kind     string // refused_refund, foreign_refund, surplus_payment
	Number   string // of the refund, as `flashsale refund` takes it
	OrderNo  OrderNo
	Status   Status // of the order
	Method   Method
	TradeNo  string
	Amount   int64
	Detail   string // what the provider said, or its own number
	Since    time.Time
	Attempts int
}

// SaleCancellation is how far the cancellation of a whole sale has come, in orders.
type SaleCancellation struct {
	SaleID    SaleID
	Reason    string
	StartedAt time.Time
	Walked    bool // every order was looked at
	Unpaid    int  // still to be cancelled
	Paid      int  // still to be refunded
	Refunding int  // on their way back, or refused
	Refused   int  // of those: by the provider, for good
	Refunded  int
	Cancelled int
}

// Done reports whether nothing more happens by itself.
func (c SaleCancellation) Done() bool {
	return c.Walked && c.Unpaid == 0 && c.Paid == 0 && c.Refunding == c.Refused
}

// PointsEntry is one movement of a user's points.
type PointsEntry struct {
	Sequence int64 // the how manieth of the user
	Type     string
	OrderNo  OrderNo // 0: a grant
	Ref      string
	Points   int64 // added to the balance
	Balance  int64 // after this entry
	At       time.Time
}

// PointsStatement is what a user has, with a page of entries, newest first.
type PointsStatement struct {
	Balance int64
	Frozen  int64 // the part of the balance that payments under way have set aside
	Entries []PointsEntry
}

// MoneyFigures are what the audit adds up of one way to pay, in one snapshot: received = held +
// refunding + refunded.
type MoneyFigures struct {
	Method    Method `json:"method"`
	Received  int64  `json:"received"`
	Held      int64  `json:"held"`      // payments of orders that are paid
	Refunding int64  `json:"refunding"` // owed back, or refused
	Refunded  int64  `json:"refunded"`
}

// MoneyReport is what the audit says of the money, in all databases that hold some.
type MoneyReport struct {
	Figures []MoneyFigures
	Open    int      // payments, refunds and intents that are under way
	Broken  []string // a line for each contradiction
}

// PointsPayment is how the order database sees a payment with points, for the audit.
type PointsPayment struct {
	Intent
	Paid   bool        // the payment log has it
	Refund RefundState // "" without one
}
