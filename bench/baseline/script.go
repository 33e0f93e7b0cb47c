package baseline

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// EntryAnOrder is the script with which the engine decided while each accepted order was a stream
// entry of its own and a run decided one item: what the engine of today is compared with.
//
//go:embed entry_an_order.lua
var EntryAnOrder string

// streamMax is never reached.
const streamMax = "100000000"

// script runs one script a request, which writes one stream entry an order.
//
// It is the best of the known ways: one round trip, atomic, right on any number of nodes and
// after any crash of a node. The client's library pipelines the calls of all requests by
// itself. What it lacks is the engine's group commit: every request is a command to parse, a
// script to enter, an account to read, an entry to write and a reply to write. So the ratio of the
// engine to this row is what deciding together is worth.
type script struct {
	redis   rueidis.Client
	item    string
	account Account
	reserve *rueidis.Lua
}

func openScript(s Stores) (Strategy, error) {
	return &script{
		redis: s.Redis, item: strconv.FormatInt(s.Item, 10), account: accountOf(s.Item),
		reserve: rueidis.NewLuaScript(EntryAnOrder),
	}, nil
}

// Prepare implements [Strategy].
func (s *script) Prepare(ctx context.Context, stock int64) error {
	opens, closes := time.Now().Add(-time.Minute), time.Now().Add(12*time.Hour)
	set := s.redis.B().Hset().Key(s.account.Item).FieldValue().
		FieldValue("stock", strconv.FormatInt(stock, 10)).FieldValue("limit", "1").
		FieldValue("opens_at_ms", strconv.FormatInt(opens.UnixMilli(), 10)).
		FieldValue("closes_at_ms", strconv.FormatInt(closes.UnixMilli(), 10)).
		FieldValue("epoch", "1000000000").FieldValue("gen", "1").FieldValue("seq", "0").
		FieldValue("restock", "0").FieldValue("state", "open")
	if err := s.redis.Do(ctx, set.Build()).Error(); err != nil {
		return fmt.Errorf("prepare %s: %w", s.account.Item, err)
	}
	return nil
}

// Buy implements [Strategy].
func (s *script) Buy(ctx context.Context, user string, number int64) (Outcome, error) {
	reply, err := s.reserve.Exec(ctx, s.redis, s.account.keys(),
		[]string{s.item, streamMax, strconv.FormatInt(number, 10), user, "1", ""}).ToArray()
	if err != nil {
		return 0, err
	}
	const decided, status, outcomes = 1, 0, 6 // the script describes its reply
	if len(reply) <= outcomes {
		return 0, fmt.Errorf("entry_an_order.lua: unexpected reply of %d parts", len(reply))
	}
	is, err := reply[status].ToInt64()
	if err != nil {
		return 0, fmt.Errorf("entry_an_order.lua: status: %w", err)
	}
	letter, err := reply[outcomes].ToString()
	if err != nil {
		return 0, fmt.Errorf("entry_an_order.lua: outcomes: %w", err)
	}
	switch {
	case is == decided && letter == "A":
		return Accepted, nil
	case is == decided && letter == "D":
		return Duplicate, nil
	case is == decided && letter == "S":
		return SoldOut, nil
	}
	return 0, fmt.Errorf("entry_an_order.lua: unexpected status %d with outcome %q", is, letter)
}

// State implements [Strategy].
func (s *script) State(ctx context.Context) (State, error) { return s.account.State(ctx, s.redis) }

// Forget implements [Strategy].
func (s *script) Forget(ctx context.Context) error { return s.account.forget(ctx, s.redis) }
