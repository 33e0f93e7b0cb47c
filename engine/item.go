package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/lua"
)

// Account is an item as Redis holds it.
type Account struct {
	ID         flashsale.ItemID
	Stock      int64
	Limit      int
	OpensAt    time.Time
	ClosesAt   time.Time
	Epoch      int64 // raised whenever units come back
	Generation int64 // raised by each rebuild
	Sequence   int64 // orders accepted in this generation
	Restock    int64 // number of the last restock carried out
	State      string
	Run        string // id of the run of Redis in which this was vouched for
}

// States of an account.
const (
	StateOpen   = "open"
	StatePaused = "paused"
)

// accountFields are what lua/preheat.lua writes, in the order of [decodeAccount].
var accountFields = []string{"stock", "limit", "opens_at_ms", "closes_at_ms", "epoch", "gen", "seq", "restock", "state", "run"}

// Preheat loads an item before its sale: its stock, limit, window and generation (at least 1)
// as the ledger has them. An item that is there already is [ErrExists] and stays as it is.
func (e *Engine) Preheat(ctx context.Context, item flashsale.Item) error {
	if item.Generation < 1 || item.Limit < 1 || item.Stock < 0 || !item.OpensAt.Before(item.ClosesAt) {
		return fmt.Errorf("preheat item %d: %w", item.ID, ErrInvalid)
	}
	p := e.Partition(item.ID)
	numbers, err := e.run(ctx, "preheat", preheatScript, item.ID, 1,
		[]string{ItemKey(p, item.ID), BuyersKey(p, item.ID)},
		decimal(item.Stock), strconv.Itoa(item.Limit), decimal(item.OpensAt.UnixMilli()),
		decimal(item.ClosesAt.UnixMilli()), decimal(item.Generation), stateOf(item))
	if err != nil {
		return err
	}
	if numbers[0] == lua.PreheatExists {
		return fmt.Errorf("preheat item %d: %w", item.ID, ErrExists)
	}
	return nil
}

// Pause refuses every new request for an item, until [Engine.Resume].
func (e *Engine) Pause(ctx context.Context, item flashsale.ItemID) error {
	return e.setState(ctx, item, StatePaused)
}

// Resume ends a pause.
func (e *Engine) Resume(ctx context.Context, item flashsale.ItemID) error {
	return e.setState(ctx, item, StateOpen)
}

func (e *Engine) setState(ctx context.Context, item flashsale.ItemID, state string) error {
	numbers, err := e.run(ctx, "set_state", setStateScript, item, 1,
		[]string{ItemKey(e.Partition(item), item)}, state)
	if err != nil {
		return err
	}
	if numbers[0] == lua.SetStateNotReady {
		return fmt.Errorf("set state of item %d: %w", item, ErrNotReady)
	}
	return nil
}

// Restock adds units to an item. The numbers of an item's restocks ascend; repeating one
// changes nothing, so a caller who does not know whether it was carried out asks again.
func (e *Engine) Restock(ctx context.Context, item flashsale.ItemID, number, add int64) error {
	if number < 1 || add < 1 {
		return fmt.Errorf("restock item %d: %w", item, ErrInvalid)
	}
	numbers, err := e.run(ctx, "restock", restockScript, item, 3,
		[]string{ItemKey(e.Partition(item), item)},
		ClearedChannel, item.String(), decimal(number), decimal(add))
	if err != nil {
		return err
	}
	if numbers[0] == lua.RestockNotReady {
		return fmt.Errorf("restock item %d: %w", item, ErrNotReady)
	}
	return nil
}

// Held names an order and the user who holds it.
type Held struct {
	OrderNo flashsale.OrderNo
	User    string
}

// releaseMax is what lua/release.lua takes in one run.
const releaseMax = 1000

// Release gives the units of orders of one item back and returns how many did so now; an
// order released before counts no more, so asking again is safe. With [ErrNotReady] the item
// is not loaded: ask again later. After another error some may be released: ask again.
func (e *Engine) Release(ctx context.Context, item flashsale.ItemID, orders []Held) (released int, err error) {
	p := e.Partition(item)
	keys := []string{ItemKey(p, item), BuyersKey(p, item)}
	for len(orders) > 0 {
		n := min(len(orders), releaseMax)
		args := make([]string, 0, 2+2*n)
		args = append(args, ClearedChannel, item.String())
		for _, order := range orders[:n] {
			args = append(args, order.OrderNo.String(), order.User)
		}
		orders = orders[n:]
		numbers, err := e.run(ctx, "release", releaseScript, item, 5, keys, args...)
		if err != nil {
			return released, err
		}
		if numbers[0] == lua.ReleaseNotReady {
			return released, fmt.Errorf("release item %d: %w", item, ErrNotReady)
		}
		released += int(numbers[3])
		if unknown := numbers[4]; unknown > 0 {
			e.metrics.unknownReleases.Add(float64(unknown))
			e.config.Logger.Error("orders are released that nobody holds: buyers has lost something",
				"item", item, "orders", unknown)
		}
	}
	return released, nil
}

// Item returns the item's account, [flashsale.ErrNotFound] when Redis has none, or
// [ErrUnreadable] when it is not whole.
func (e *Engine) Item(ctx context.Context, item flashsale.ItemID) (Account, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	return readAccount(item, e.client.Do(ctx, e.askAccount(item)))
}

// Items returns the accounts that Redis has of the given items. It asks about all of them in one
// round trip. With an error it returns what it could read.
func (e *Engine) Items(ctx context.Context, items []flashsale.ItemID) (map[flashsale.ItemID]Account, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	reads := make([]rueidis.Completed, len(items))
	for n, item := range items {
		reads[n] = e.askAccount(item)
	}
	var (
		accounts = make(map[flashsale.ItemID]Account, len(items))
		failed   error
	)
	for n, result := range e.client.DoMulti(ctx, reads...) {
		switch account, err := readAccount(items[n], result); {
		case err == nil:
			accounts[items[n]] = account
		case !errors.Is(err, flashsale.ErrNotFound):
			failed = err
		}
	}
	return accounts, failed
}

func (e *Engine) askAccount(item flashsale.ItemID) rueidis.Completed {
	return e.client.B().Hmget().Key(ItemKey(e.Partition(item), item)).Field(accountFields...).Build()
}

// unreadable turns the reply that a key is of another type into [ErrUnreadable].
func unreadable(err error) error {
	if reply, is := rueidis.IsRedisErr(err); is && strings.HasPrefix(reply.Error(), "WRONGTYPE") {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return err
}

func decodeAccount(item flashsale.ItemID, parts []rueidis.RedisMessage) (Account, error) {
	if len(parts) != len(accountFields) {
		return Account{}, fmt.Errorf("account of %d fields, want %d", len(parts), len(accountFields))
	}
	d := decoder{parts: parts}
	a := Account{
		ID: item, Stock: d.decimal(0), Limit: int(d.decimal(1)),
		OpensAt: fromMS(d.decimal(2)), ClosesAt: fromMS(d.decimal(3)),
		Epoch: d.decimal(4), Generation: d.decimal(5), Sequence: d.decimal(6), Restock: d.decimal(7),
		State: d.text(8), Run: d.text(9),
	}
	return a, d.err
}

// run calls a script with a deadline of its own and reads its reply of n integers.
func (e *Engine) run(ctx context.Context, name string, script *rueidis.Lua, item flashsale.ItemID,
	n int, keys []string, args ...string,
) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	numbers, err := decodeInts(name, script.Exec(ctx, e.client, keys, args), n)
	if err != nil {
		return nil, faultError(name, item, err)
	}
	return numbers, nil
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func fromMS(ms int64) time.Time { return time.UnixMilli(ms) }
