package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"flashsale"
)

const (
	tellEvery = time.Second
	tellMax   = 1000        // flags that a node tells of
	tellTTL   = time.Minute // until what nobody tells any more is gone
	tellBase  = 10
)

// RaisedFlags are the sold-out flags by which a node answers, as it has told last.
type RaisedFlags struct {
	Told  int64 // how often it has told; a node that has ended tells no more
	Epoch map[flashsale.ItemID]int64
}

// tellFlags tells the auditors, by a field of a hash in Redis a second, which flags this node holds up:
// "<how often told>[ <item> <epoch>...]". It says nothing while it holds up none, and is no matter of
// the hot path.
func (e *Engine) tellFlags(ctx context.Context) {
	field := e.node.name + "/" + strconv.FormatUint(rand.Uint64(), 36)
	ticker := time.NewTicker(tellEvery)
	defer ticker.Stop()
	standing := false
	for told := 1; ; told++ {
		select {
		case <-ctx.Done():
			if standing {
				e.forgetFlags(field)
			}
			return
		case <-ticker.C:
		}
		flags := e.raisedFlags()
		if flags == "" {
			if standing {
				standing = !e.forgetFlags(field)
			}
			continue
		}
		call, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
		for _, result := range e.client.DoMulti(call,
			e.client.B().Hset().Key(FlagsKey).FieldValue().FieldValue(field, strconv.Itoa(told)+flags).Build(),
			e.client.B().Expire().Key(FlagsKey).Seconds(int64(tellTTL/time.Second)).Build(),
		) {
			if err := result.Error(); err != nil { // the audit then knows of one node less
				e.config.Logger.Debug("flags not told", "error", err)
			}
		}
		cancel()
		standing = true
	}
}

func (e *Engine) forgetFlags(field string) (done bool) {
	call, cancel := context.WithTimeout(context.Background(), e.config.ScriptTimeout)
	defer cancel()
	return e.client.Do(call, e.client.B().Hdel().Key(FlagsKey).Field(field).Build()).Error() == nil
}

// raisedFlags are the items whose flag answers now, each behind a space with its epoch.
func (e *Engine) raisedFlags() string {
	var text []byte
	count, clock := 0, e.clock()
	e.queues.every(func(q *itemQueue) {
		flag := q.flag.raised.Load()
		if flag == nil || flag.outcome != flashsale.SoldOut || clock >= flag.until || count == tellMax {
			return
		}
		count++
		text = append(append(append(text, ' '), q.text...), ' ')
		text = strconv.AppendInt(text, flag.epoch, tellBase)
	})
	return string(text)
}

// RaisedFlags returns which sold-out flags each node holds up, by the node's name.
func (e *Engine) RaisedFlags(ctx context.Context) (map[string]RaisedFlags, error) {
	fields, err := e.client.Do(ctx, e.client.B().Hgetall().Key(FlagsKey).Build()).AsStrMap()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", FlagsKey, err)
	}
	nodes := make(map[string]RaisedFlags, len(fields))
	for node, text := range fields {
		words := strings.Fields(text)
		if len(words)%2 == 0 {
			continue // nobody of ours has written it
		}
		told, _ := strconv.ParseInt(words[0], tellBase, 64)
		flags := RaisedFlags{Told: told, Epoch: make(map[flashsale.ItemID]int64)}
		for n := 1; n < len(words); n += 2 {
			item, err := flashsale.ParseID[flashsale.ItemID](words[n])
			epoch, epochErr := strconv.ParseInt(words[n+1], tellBase, 64)
			if err == nil && epochErr == nil {
				flags.Epoch[item] = epoch
			}
		}
		nodes[node] = flags
	}
	return nodes, nil
}
