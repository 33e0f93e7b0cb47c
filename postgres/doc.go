// Package postgres is the ledger of record: sales, items, orders, payments and the outbox, on
// PostgreSQL. Redis decides who gets a unit; an order exists for good once this package has
// committed it.
//
// # What is promised
//
//   - Never oversold. Units are taken from an item's row in the transaction that inserts the
//     order, and the constraint items_stock keeps the row's stock from 0 to its total. For
//     every item stock + units in live orders = total, after every commit.
//   - Never over the limit. An item whose limit is 1 has one live order a user by a unique
//     index; one whose limit is more counts what each user holds in holdings, with a CHECK.
//   - Once. An order_no is stored once, whatever is redelivered. Each edge between states is
//     one conditional UPDATE, so among any number of attempts one wins, and the units of an
//     order come back once.
//   - Owed effects survive. What a commit owes to Redis (a release, a restock, a pause) is a
//     row of the outbox in the same transaction; [Ledger.Outbox] hands the rows to the relay
//     in order, and again until it reports them done.
//   - Paid once. An order has one confirmed payment, a trade number is used once, and a refund is
//     exactly its payment, once. What arrives for an order that takes none is owed back by the
//     transaction that records it.
//   - Durable. Every connection runs with synchronous_commit on, so a result that is
//     returned survives a crash of PostgreSQL (with fsync on, its default).
//
// # What is not promised
//
// An error other than [flashsale.ErrPermanent] says nothing about whether the transaction was
// committed: its reply may be lost. [Ledger.Persist], [Ledger.Cancel] and [Ledger.CancelDue]
// may simply be called again; a restock may not. An order that is not in the ledger yet cannot
// be cancelled: a cancellation acts on unpaid orders only, so there is no late insert to guard
// against. Nothing here reads from a replica.
//
// # Locks
//
// Correctness comes from constraints and conditional statements at READ COMMITTED. So that
// transactions queue instead of deadlocking, all of them lock in one order: refunds, orders, then
// charges and intents, then holdings by item and user, then items by id. An item's row is locked last and until the
// commit, so commits of one item run one after another; the inserts before it overlap. What
// can still cross is two batches that hold live duplicates of each other's users, after a loss
// in Redis: PostgreSQL ends one of them, which is a transient error as any other.
//
// # Use
//
//	ledger, err := postgres.Open(ctx, postgres.Config{URL: "postgres://flashsale@db/flashsale"})
//	…
//	defer ledger.Close()
//	results, err := ledger.Persist(ctx, batch) // one result an order, in the order of the batch
package postgres
