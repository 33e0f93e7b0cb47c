package engine

import (
	"context"
	"fmt"

	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/lua"
)

var removeScript = rueidis.NewLuaScriptRetryable(lua.Remove)

// Remove takes an item out of Redis that nobody has bought from; one that is not there is removed
// already. Once an order was accepted it is [flashsale.ErrConflict], and stays as it is.
func (e *Engine) Remove(ctx context.Context, item flashsale.ItemID) error {
	p := e.Partition(item)
	numbers, err := e.run(ctx, "remove", removeScript, item, 1, []string{ItemKey(p, item), BuyersKey(p, item)})
	if err != nil {
		return err
	}
	if numbers[0] == lua.RemoveBought {
		return fmt.Errorf("remove item %d: orders were accepted: %w", item, flashsale.ErrConflict)
	}
	return nil
}
