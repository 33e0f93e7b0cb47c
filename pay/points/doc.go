// Package points is the points service: accounts, a ledger of every movement, and the payment
// of an order in the three steps try, confirm and cancel. It has a database of its own and knows
// nothing of an order but its number; who coordinates it with the order database is package pay.
//
// # The states of a hold
//
//	       ┌─ Confirm → confirmed ─ Refund → refunded
//	Try → held
//	       └─ Cancel  → cancelled ← Cancel of what was never tried
//
// Try freezes points of the user, Confirm takes them, Cancel sets them free, Refund puts back
// what Confirm took. Each answers with an [Outcome], by where the hold stands:
//
//	        | none          | held         | confirmed        | refunded         | cancelled
//	Try     | Held          | AlreadyHeld  | AlreadyConfirmed | AlreadyConfirmed | AlreadyCancelled
//	Confirm | NotHeld       | Confirmed    | AlreadyConfirmed | AlreadyConfirmed | AlreadyCancelled
//	Cancel  | EmptyRollback | Cancelled    | AlreadyConfirmed | AlreadyConfirmed | AlreadyCancelled
//	Refund  | NotHeld       | NotConfirmed | Refunded         | AlreadyRefunded  | AlreadyCancelled
//
// A Try may also end as InsufficientPoints. Then it has left no trace: the same order may try
// again, and needs no Cancel. A cancelled order is cancelled for good and cannot be tried again.
//
// # What is promised
//
//   - Once. Any step may be repeated any number of times, at the same time too: it takes effect
//     once, and every repetition learns what stands. Grants are told apart by their reference.
//   - Empty rollback. A Cancel without a Try succeeds and leaves its fences behind.
//   - No hanging. A Try that arrives after its Cancel freezes nothing.
//   - One end. Of a Confirm and a Cancel at the same time one wins and the other is told.
//   - Never below zero. A balance and its frozen part stay at or above zero, and a balance never
//     exceeds what was granted, by CHECK constraints.
//   - It adds up. A balance is the sum of its entries, in a row without gaps whose every entry
//     carries the balance after it. A refund is exactly its debit, at most once.
//     [Ledger.Figures] proves all of it from the rows alone.
//   - Durable. Every connection runs with synchronous_commit on, so what was answered survives
//     a crash of PostgreSQL (with fsync on, its default).
//
// # What is not promised
//
// An error says nothing about whether the step took effect: the reply to a commit may be lost.
// Call again with the same arguments. An error that wraps [flashsale.ErrPermanent] (bad input)
// or [flashsale.ErrConflict] (the same order, reference or trade number with other values) is a
// defect of the caller and comes again.
//
// A hold does not expire. Whoever tries must record the intent first, and confirm or cancel in
// the end.
//
// # Locks
//
// Each call is one short transaction at READ COMMITTED whose correctness rests on unique indexes
// and conditional UPDATEs. All of them lock in one order, so they queue instead of deadlocking:
// the fence of their own step, the fence of the try, the order's hold, the user's account, and
// last the rows that they add, whose unique indexes make them wait only for transactions that
// have nothing left to lock.
//
// # Use
//
//	ledger, err := points.Open(ctx, points.Config{URL: "postgres://points@db/points", NextTradeNo: next})
//	…
//	defer ledger.Close()
//	outcome, err := ledger.Try(ctx, points.Hold{OrderNo: 42, User: "ann", Points: 100})
//	if err == nil && outcome == points.Held { … ledger.Confirm(ctx, 42) … }
package points
