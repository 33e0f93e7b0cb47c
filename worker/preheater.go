package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"flashsale"
	"flashsale/engine"
)

// ErrLost is returned for an item that the ledger has loaded before but that Redis does not
// hold. Loading it again would forget the orders that are pending: it must be rebuilt.
var ErrLost = errors.New("loaded before but missing in redis: run `flashsale sale rebuild`")

// PreheatLedger is the ledger of record as the preheater needs it.
type PreheatLedger interface {
	Sale(ctx context.Context, id flashsale.SaleID) (flashsale.Sale, error)
	// Load locks the item, calls fn with it, generation 1 if it was never loaded before, and keeps
	// the generation if fn succeeds. fn must not call the ledger.
	Load(ctx context.Context, id flashsale.ItemID, fn func(item flashsale.Item, before bool) error) error
}

// PreheatEngine is Redis' side of the engine as the preheater needs it.
type PreheatEngine interface {
	Preheat(ctx context.Context, item flashsale.Item) error
	Item(ctx context.Context, item flashsale.ItemID) (engine.Account, error)
}

// Preheater loads sales into Redis. It may be used concurrently, and by several processes.
type Preheater struct {
	ledger PreheatLedger
	engine PreheatEngine
	log    *slog.Logger
}

// NewPreheater returns a preheater; without a logger it keeps silent.
func NewPreheater(ledger PreheatLedger, engine PreheatEngine, logger *slog.Logger) *Preheater {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Preheater{ledger: ledger, engine: engine, log: logger}
}

// PreheatSale loads every item of a sale that is not in Redis yet, and leaves those that are
// as they are: asking again is safe. One item's fault does not keep the others from loading;
// the error joins all of them. [ErrLost] marks the items that need a rebuild.
func (p *Preheater) PreheatSale(ctx context.Context, id flashsale.SaleID) error {
	sale, err := p.ledger.Sale(ctx, id)
	if err != nil {
		return fmt.Errorf("preheat sale %d: %w", id, err)
	}
	var faults []error
	for _, item := range sale.Items {
		err := p.ledger.Load(ctx, item.ID, func(item flashsale.Item, before bool) error {
			return p.load(ctx, item, before)
		})
		if err != nil {
			faults = append(faults, fmt.Errorf("preheat item %d of sale %d: %w", item.ID, id, err))
		}
	}
	return errors.Join(faults...)
}

// load runs while the ledger holds the item's row. Whether the item was loaded before tells a first
// load, or one that crashed before its commit, from a loss.
func (p *Preheater) load(ctx context.Context, item flashsale.Item, before bool) error {
	account, err := p.engine.Item(ctx, item.ID)
	switch {
	case err == nil:
		if account.Generation != item.Generation {
			return fmt.Errorf("redis holds generation %d and the ledger %d: run `flashsale sale rebuild`",
				account.Generation, item.Generation)
		}
		return nil
	case !errors.Is(err, flashsale.ErrNotFound):
		return err
	case before:
		return ErrLost
	}
	if err := p.engine.Preheat(ctx, item); err != nil {
		if errors.Is(err, engine.ErrExists) {
			return fmt.Errorf("redis holds buyers of an item without an account: %w", ErrLost)
		}
		return err
	}
	p.log.Info("item loaded", "item", item.ID, "stock", item.Stock, "generation", item.Generation)
	return nil
}
