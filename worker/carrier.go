package worker

import (
	"context"
	"fmt"

	"flashsale"
	"flashsale/engine"
)

// CarrierLedger is the ledger of record as a [Carrier] needs it.
type CarrierLedger interface {
	// ItemOutbox hands out what is owed to one item, while no relay is at work, and deletes the
	// rows whose ids fn returns.
	ItemOutbox(ctx context.Context, item flashsale.ItemID, fn func(rows []flashsale.OutboxRow) (done []int64, err error)) error
	// Released strikes off that the units of an order are owed.
	Released(ctx context.Context, order flashsale.Order) error
}

// Carrier carries out on Redis at once what a transaction of this process has just committed, so
// that whoever asked for it is not told that it is done before it is, whether a worker runs or
// not. What it cannot reach stays in the outbox for the relay. It is safe for concurrent use.
type Carrier struct {
	ledger CarrierLedger
	engine RelayEngine
}

// NewCarrier joins the two stores.
func NewCarrier(ledger CarrierLedger, engine RelayEngine) *Carrier {
	return &Carrier{ledger: ledger, engine: engine}
}

// Settle carries out all that is owed to an item, in order: pauses, restocks, releases. An error
// that wraps [engine.ErrNotReady] says that Redis does not sell the item now, and will sell it
// only as the ledger has it.
func (c *Carrier) Settle(ctx context.Context, item flashsale.ItemID) error {
	err := c.ledger.ItemOutbox(ctx, item, func(rows []flashsale.OutboxRow) (done []int64, err error) {
		n, err := carryOutItem(ctx, c.engine, item, rows)
		for _, row := range rows[:n] {
			done = append(done, row.ID)
		}
		return done, err
	})
	if err != nil {
		return fmt.Errorf("settle item %s: %w", item, err)
	}
	return nil
}

// Release gives the units of a cancelled order back. It needs no order among what is owed to its
// item: a release counts once, whenever and however often it comes.
func (c *Carrier) Release(ctx context.Context, order flashsale.Order) error {
	held := []engine.Held{{OrderNo: order.OrderNo, User: order.User}}
	if _, err := c.engine.Release(ctx, order.ItemID, held); err != nil {
		return fmt.Errorf("release order %s: %w", order.OrderNo, err)
	}
	return c.ledger.Released(ctx, order)
}
