package engine

import (
	"context"
	"fmt"

	"flashsale"
)

// Forget takes an item whose sale is long over out of Redis, with all that says who has bought
// what. Requests for it are answered [ErrNotReady] from now on. It may be repeated.
func (e *Engine) Forget(ctx context.Context, item flashsale.ItemID) error {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	p := e.Partition(item)
	unlink := e.client.B().Unlink().Key(ItemKey(p, item), BuyersKey(p, item)).Build()
	if err := e.client.Do(ctx, unlink).Error(); err != nil {
		return fmt.Errorf("forget item %d: %w", item, err)
	}
	return nil
}
