package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/lua"
)

// StateRebuilding is the state of an account behind a fence: it sells and takes back nothing.
const StateRebuilding = "rebuilding"

// ErrFenceLost is returned when another rebuild has taken the item's fence over; nothing was done.
var ErrFenceLost = errors.New("fence taken over by another rebuild")

// rebuildUsersMax is how many users one call of lua/rebuild_buyers.lua carries.
const rebuildUsersMax = 1000

// Fence is an item taken off sale so that it can be compared with the ledger and rebuilt.
type Fence struct {
	engine *Engine
	item   flashsale.ItemID
	token  string
	keys   []string

	// LastID is the highest id of the partition's stream when the fence came up: once no entry
	// up to it is left, every order of the item has reached the ledger.
	LastID string
}

// Fence takes an item off sale: requests for it are answered not_ready, releases and restocks
// with [ErrNotReady], until [Fence.Open] or [Fence.Lift]. A fence that is up already is taken
// over, and what its owner does afterwards fails with [ErrFenceLost]: so a rebuild that died
// is simply done again. The token names this rebuild.
func (e *Engine) Fence(ctx context.Context, item flashsale.ItemID, token string) (*Fence, error) {
	p := e.Partition(item)
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	result := fenceScript.Exec(ctx, e.client, []string{ItemKey(p, item), OrdersKey(p)}, []string{token})
	parts, err := result.ToArray()
	if err != nil {
		return nil, faultError("fence", item, err)
	}
	d := decoder{parts: parts}
	if len(parts) != 2 || d.int(0) != lua.FenceFenced || d.err != nil {
		return nil, shapeError("fence", result)
	}
	return &Fence{
		engine: e, item: item, token: token, LastID: d.text(1),
		keys: []string{ItemKey(p, item), BuyersKey(p, item)},
	}, d.err
}

// Open writes the item anew, as the ledger has it, and puts it on sale in the generation of
// item: stock, window and limit from item, the buyers from orders. The restock number is that
// of the last restock that the stock includes.
func (f *Fence) Open(ctx context.Context, item flashsale.Item, orders []flashsale.Order, restock int64) error {
	if err := f.writeBuyers(ctx, orders); err != nil {
		return err
	}
	numbers, err := f.engine.run(ctx, "rebuild_open", rebuildOpenScript, f.item, 1, f.keys[:1],
		f.token, ClearedChannel, f.item.String(), decimal(item.Stock), strconv.Itoa(item.Limit),
		decimal(item.OpensAt.UnixMilli()), decimal(item.ClosesAt.UnixMilli()), decimal(item.Generation),
		decimal(restock), stateOf(item))
	return f.owned(numbers, err, lua.RebuildOpenForeign)
}

func (f *Fence) writeBuyers(ctx context.Context, orders []flashsale.Order) error {
	entries := make(map[string]string, len(orders))
	for _, order := range orders {
		qty := order.Quantity
		if order.Status.Final() {
			qty = -qty // over: only its number and its key are still known
		}
		line := order.OrderNo.String() + " " + strconv.Itoa(qty) + " " + order.IdempotencyKey
		if entry := entries[order.User]; entry != "" {
			line = entry + "," + line
		}
		entries[order.User] = line
	}
	write := func(args []string) error {
		numbers, err := f.engine.run(ctx, "rebuild_buyers", rebuildBuyersScript, f.item, 1, f.keys, args...)
		return f.owned(numbers, err, lua.RebuildBuyersForeign)
	}
	args := []string{f.token, "1"} // the first call forgets who was there, also when nobody is to be written
	for user, entry := range entries {
		if args = append(args, user, entry); len(args) >= 2+2*rebuildUsersMax {
			if err := write(args); err != nil {
				return err
			}
			args = append(args[:0], f.token, "0")
		}
	}
	return write(args)
}

// Lift ends the fence and leaves the account as it is.
func (f *Fence) Lift(ctx context.Context, item flashsale.Item) error {
	numbers, err := f.engine.run(ctx, "fence_lift", fenceLiftScript, f.item, 1, f.keys[:1], f.token, stateOf(item))
	return f.owned(numbers, err, lua.FenceLiftForeign)
}

// owned turns the reply that the fence is another's into an error.
func (f *Fence) owned(numbers []int64, err error, foreign int64) error {
	if err == nil && numbers[0] == foreign {
		return fmt.Errorf("rebuild item %d: %w", f.item, ErrFenceLost)
	}
	return err
}

// Drained reports whether every entry that was in the stream when the fence came up is gone.
func (f *Fence) Drained(ctx context.Context) (bool, error) {
	e := f.engine
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	oldest := e.client.B().Xrange().Key(OrdersKey(e.Partition(f.item))).Start("-").End(f.LastID).Count(1).Build()
	entries, err := e.client.Do(ctx, oldest).AsXRange()
	if err != nil && !rueidis.IsRedisNil(err) {
		return false, fmt.Errorf("drain item %d: %w", f.item, err)
	}
	return len(entries) == 0, nil
}

// stateOf is the state in which the ledger wants an item.
func stateOf(item flashsale.Item) string {
	if item.Paused {
		return StatePaused
	}
	return StateOpen
}
