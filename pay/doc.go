// Package pay is the payment desk: it takes money for orders, by Alipay or with points, gives it
// back, and finishes whatever a crash has left half done.
//
//	desk, err := pay.New(pay.Config{Ledger: ledger, Alipay: client, Points: pointsLedger, …})
//	…
//	settlement, err := desk.Start(ctx, orderNo, "ann", flashsale.Alipay) // settlement.PayURL
//	go desk.Run(ctx)                                                    // in the worker
//
// # Who decides
//
// The order database does, in one transaction each: an order becomes paid by a conditional
// UPDATE from unpaid, refunding from paid, refunded from refunding. The amount is always that of
// the order's row. The providers are told before or after, by steps that may be repeated.
//
// # What is promised
//
//   - Paid once. An order has one confirmed payment, a trade number is used once. Money that
//     comes for an order that is over, or paid otherwise, is recorded and given back by itself.
//   - Nothing is believed. A notice is a hint: the desk asks Alipay about the trade, and only
//     that answer, about this order with this amount, makes an order paid. A browser that
//     comes back makes nothing paid.
//   - A notice is acknowledged only when all that follows from it is committed.
//   - Already paid wins: the trade of an order whose time is over is closed before the order is
//     cancelled, and if the shopper has paid it, the order is paid.
//   - No order is paid with points without its debit, and no debit stays without its order paid
//     or the points back: the intent is written first, the transaction that makes the order
//     paid decides, and [Desk.Run] finishes what was left. See docs/adr/0003.
//   - A refund is exactly its payment, once. Its number is derived from the order, and it is
//     asked for again until it is final. Units come back when the money is.
//
// # What is not promised
//
// An error says nothing about what was done: ask again. When Alipay was asked and does not answer,
// an order waits [flashsale/postgres.ChargeGrace] beyond its deadline for its trade to be closed;
// should the shopper have paid it, he gets his money back. A refund that the provider refuses
// for good stays as it is, shown by the audit, until an operator has seen to it.
//
// # Where it runs
//
// Servers call Start, Notify, Return and Refund. Recovery, [Desk.Run] and [Desk.CloseDue], runs
// in the workers, any number of them: rows are taken up with SKIP LOCKED and every step may
// be done twice.
package pay
