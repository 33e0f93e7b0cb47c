package baseline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// streamMax is never reached.
const streamMax = "100000000"

// script runs the engine's own reserve.lua once a request.
//
// It is the best of the known ways: one round trip, atomic, right on any number of nodes and
// after any crash of a node. The client's library pipelines the calls of all requests by
// itself. What it lacks is the engine's group commit: every request is a command to parse, a
// script to enter, an account to read and a reply to write. So the ratio of the engine to this
// row is what group commit is worth, all else being equal.
type script struct {
	redis            rueidis.Client
	item             string
	account          Account
	preheat, reserve *rueidis.Lua
}

func openScript(s Stores) (Strategy, error) {
	made := &script{redis: s.Redis, item: strconv.FormatInt(s.Item, 10), account: accountOf(s.Item)}
	for name, into := range map[string]**rueidis.Lua{"preheat": &made.preheat, "reserve": &made.reserve} {
		text, err := os.ReadFile(filepath.Join(s.Source, "lua", name+".lua"))
		if err != nil {
			return nil, fmt.Errorf("the engine's script: %w", err)
		}
		*into = rueidis.NewLuaScript(string(text))
	}
	return made, nil
}

// Prepare implements [Strategy].
func (s *script) Prepare(ctx context.Context, stock int64) error {
	const limit, generation = "1", "1"
	opens, closes := time.Now().Add(-time.Minute), time.Now().Add(12*time.Hour)
	err := s.preheat.Exec(ctx, s.redis, []string{s.account.Item, s.account.Buyers}, []string{
		strconv.FormatInt(stock, 10), limit, strconv.FormatInt(opens.UnixMilli(), 10),
		strconv.FormatInt(closes.UnixMilli(), 10), generation, "open",
	}).Error()
	if err != nil {
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
	const decided, status, outcomes = 1, 0, 6 // reserve.lua describes its reply
	if len(reply) <= outcomes {
		return 0, fmt.Errorf("reserve.lua: unexpected reply of %d parts", len(reply))
	}
	is, err := reply[status].ToInt64()
	if err != nil {
		return 0, fmt.Errorf("reserve.lua: status: %w", err)
	}
	letter, err := reply[outcomes].ToString()
	if err != nil {
		return 0, fmt.Errorf("reserve.lua: outcomes: %w", err)
	}
	switch {
	case is == decided && letter == "A":
		return Accepted, nil
	case is == decided && letter == "D":
		return Duplicate, nil
	case is == decided && letter == "S":
		return SoldOut, nil
	}
	return 0, fmt.Errorf("reserve.lua: unexpected status %d with outcome %q", is, letter)
}

// State implements [Strategy].
func (s *script) State(ctx context.Context) (State, error) { return s.account.State(ctx, s.redis) }

// Forget implements [Strategy].
func (s *script) Forget(ctx context.Context) error { return s.account.forget(ctx, s.redis) }
