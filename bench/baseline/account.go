package baseline

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/rueidis"
)

// Account is where an item is kept in Redis: a hash with its stock, a hash with its buyers, and
// a stream with an entry an order. The engine keeps its items likewise, under other keys.
type Account struct {
	Item, Buyers, Orders string
}

// accountOf are the keys of a baseline's item, all in one slot.
func accountOf(item int64) Account {
	tag := "baseline:{" + strconv.FormatInt(item, 10) + "}:"
	return Account{Item: tag + "item", Buyers: tag + "buyers", Orders: tag + "orders"}
}

// keys are all of them, in the order of the engine's scripts.
func (a Account) keys() []string { return []string{a.Item, a.Buyers, a.Orders} }

// forget drops the item.
func (a Account) forget(ctx context.Context, redis rueidis.Client) error {
	if err := redis.Do(ctx, redis.B().Unlink().Key(a.keys()...).Build()).Error(); err != nil {
		return fmt.Errorf("forget %s: %w", a.Item, err)
	}
	return nil
}

// pageMax is how many entries of the stream are read at once.
const pageMax = 5000

// State reads the units left and the orders from the stream.
func (a Account) State(ctx context.Context, redis rueidis.Client) (State, error) {
	left, err := redis.Do(ctx, redis.B().Hget().Key(a.Item).Field("stock").Build()).AsInt64()
	if err != nil {
		return State{}, fmt.Errorf("read %s: %w", a.Item, err)
	}
	state := State{Left: max(0, left)} // below zero for as long as somebody gives back
	for from := "-"; ; {
		page := redis.B().Xrange().Key(a.Orders).Start(from).End("+").Count(pageMax).Build()
		entries, err := redis.Do(ctx, page).AsXRange()
		if err != nil {
			return State{}, fmt.Errorf("read %s: %w", a.Orders, err)
		}
		for _, entry := range entries {
			number, err := strconv.ParseInt(entry.FieldValues["order"], 10, 64)
			if err != nil {
				return State{}, fmt.Errorf("read entry %s of %s: %w", entry.ID, a.Orders, err)
			}
			state.Orders = append(state.Orders, Order{Number: number, User: entry.FieldValues["user"]})
		}
		if len(entries) < pageMax {
			return state, nil
		}
		from = "(" + entries[len(entries)-1].ID
	}
}
