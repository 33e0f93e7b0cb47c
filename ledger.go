package flashsale

import (
	"fmt"
	"time"
)

// Unstorable is an order of a batch that can never be stored.
type Unstorable struct {
	Index  int // in the batch
	Reason string
}

// UnstorableError names the orders of a batch that can never be stored, ascending by their index.
// None of the batch was stored; without them it can be. It is [ErrPermanent].
type UnstorableError struct{ Orders []Unstorable }

func (e *UnstorableError) Error() string {
	first := e.Orders[0]
	return fmt.Sprintf("%d orders can never be stored, such as number %d of the batch: %s",
		len(e.Orders), first.Index, first.Reason)
}

// Is makes the error [ErrPermanent].
func (e *UnstorableError) Is(target error) bool { return target == ErrPermanent }

// OutboxKind names an effect on Redis that a committed transaction owes.
type OutboxKind string

// The kinds of outbox rows.
const (
	Release OutboxKind = "release" // give the units of an order back
	Restock OutboxKind = "restock" // put added units on sale
	Pause   OutboxKind = "pause"
	Resume  OutboxKind = "resume"
)

// OutboxRow is one owed effect. Rows of one item are carried out in the order of their ids;
// OrderNo and User belong to a release, Quantity to a release and a restock.
type OutboxRow struct {
	ID       int64
	Kind     OutboxKind
	ItemID   ItemID
	OrderNo  OrderNo
	User     string
	Quantity int
}

// ItemFigures are sums of what the ledger of record holds of an item.
type ItemFigures struct {
	Item
	LiveUnits      int64 // units in live orders
	OwedUnits      int64 // units of releases and restocks still in the outbox
	Sequence       int64 // highest sequence persisted in the item's generation
	UsersOverLimit int   // users whose live orders exceed the item's limit
}

// Figures are the figures of all items, taken in one snapshot.
type Figures struct {
	Items  []ItemFigures
	Outbox int // rows not carried out
}

// ItemBooks is what the ledger of record holds of an item beside its orders, as the audit needs
// it. All of it, and the orders, are of one snapshot.
type ItemBooks struct {
	Item
	Sequence  int64            // highest sequence persisted in the item's generation
	Retired   bool             // it has left Redis for good
	Owed      []OutboxRow      // effects not carried out, in the order of their ids
	Discarded []Discarded      // in the order of their generations and sequences
	Seals     map[int64]Seal   // of generations that are over
	Unknown   map[OrderNo]bool // those of the orders asked for that are not the item's
	Holdings  bool             // holdings say what the orders say; known after the last page
}

// Discarded is an order that Redis accepted and that can be no order of the ledger.
type Discarded struct {
	OrderNo    OrderNo
	User       string
	Quantity   int
	Generation int64
	Sequence   int64
}

// OwedOrder is an order of the ledger, and whether its units are still owed to Redis.
type OwedOrder struct {
	Order
	Owed bool
}

// Seal is what the orders of one generation of an item were when the generation was over: from
// then on none is added, none is lost, and none changes but for its status.
type Seal struct {
	Orders int64 // without rejected ones: what comes too late is rejected
	Digest int64 // sum of [Order.Digest]
}

// GuardedItem is an item that Redis must hold, with what the ledger knows of its past there.
type GuardedItem struct {
	Item
	Sequence   int64 // highest sequence persisted in the item's generation
	RolledBack bool  // two orders have one sequence of the generation
}

// RebuildState is what the ledger holds of an item while nothing in the ledger can change it:
// all that is needed to tell whether Redis is right, and to write it anew.
type RebuildState struct {
	Item    Item        // the stock includes what is owed
	Orders  []Order     // live orders, and those that are over: their keys name them still
	Owed    []OutboxRow // effects not carried out, in the order of their ids
	Restock int64       // number of the last restock that the stock includes, or any number up to the next
}

// NodeLease is a node id that a process holds: every number that is made under the id up to the
// last of its milliseconds, and was not made before, is that process's alone.
type NodeLease struct {
	ID      int   // from 0, below [NodesMax]
	NowMS   int64 // what numbers start from: milliseconds since 1970, by the registry's clock
	UntilMS int64 // the last millisecond that numbers may be of
}

// UnpaidUnits are the units of an item in orders that nobody has paid yet, and when they come back.
type UnpaidUnits struct {
	Units       int64
	First, Last time.Time // the deadlines
}
