package engine

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/lua"
)

var asideScript = rueidis.NewLuaScript(lua.Aside)

// typedKey is a key of ours with the type it must have.
type typedKey struct{ key, kind string }

func partitionKeys(p int) []typedKey {
	return []typedKey{{OrdersKey(p), "stream"}, {DeadKey(p), "stream"}, {WaitingKey(p), "string"}}
}

// SetAside moves the keys of an item that are of a wrong type out of the way, to fs:{<p>}:aside:…,
// and returns where they are now.
func (e *Engine) SetAside(ctx context.Context, item flashsale.ItemID) (moved []string, err error) {
	p := e.Partition(item)
	return e.setAside(ctx, p, []typedKey{{ItemKey(p, item), "hash"}, {BuyersKey(p, item), "hash"}})
}

// SetAsideStreams does the same with the streams of all partitions and what belongs to them. With
// an error some were not looked at. The partitions are those of which something was moved: what
// their streams held of any item may be lost.
func (e *Engine) SetAsideStreams(ctx context.Context) (moved []string, partitions map[int]bool, err error) {
	asking, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	var asks []rueidis.Completed
	for p := range e.partitions {
		for _, k := range partitionKeys(p) {
			asks = append(asks, e.client.B().Type().Key(k.key).Build())
		}
	}
	var faults []error
	partitions = make(map[int]bool)
	results := e.client.DoMulti(asking, asks...)
	for p := range e.partitions {
		keys := partitionKeys(p)
		for n, k := range keys {
			kind, err := results[p*len(keys)+n].ToString()
			if err != nil || kind == k.kind || kind == "none" {
				faults = append(faults, err)
				continue
			}
			here, err := e.setAside(ctx, p, []typedKey{k})
			moved, faults = append(moved, here...), append(faults, err)
			if len(here) > 0 {
				partitions[p] = true
			}
		}
	}
	return moved, partitions, errors.Join(faults...)
}

func (e *Engine) setAside(ctx context.Context, p int, keys []typedKey) (moved []string, err error) {
	for _, k := range keys {
		name := strings.TrimPrefix(k.key, tagged(p))
		target := tagged(p) + "aside:" + name + ":" + decimal(time.Now().UnixMilli())
		numbers, err := e.run(ctx, "aside", asideScript, 0, 1, []string{k.key, target}, k.kind)
		if err != nil {
			return moved, err
		}
		if numbers[0] == lua.AsideMoved {
			moved = append(moved, target)
		}
	}
	return moved, nil
}
