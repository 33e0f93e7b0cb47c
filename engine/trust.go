package engine

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"flashsale"
	"flashsale/lua"
)

// Vouched reports whether what Redis holds of an item is vouched for in its present run: it was
// written there, or compared with the ledger, since Redis started or was promoted. Until then no
// script sells the item or gives its units back: a restart or a failover may have brought an older
// state back. An item that is not there is not vouched for.
func (e *Engine) Vouched(ctx context.Context, item flashsale.ItemID) (bool, error) {
	p := e.Partition(item)
	runID, err := e.RunID(ctx, p)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	result := e.client.Do(ctx, e.client.B().Hget().Key(ItemKey(p, item)).Field("run").Build())
	if isNil(result) {
		return false, nil
	}
	run, err := result.ToString()
	if err != nil {
		return false, fmt.Errorf("run of item %d: %w", item, err)
	}
	return run == runID, nil
}

// RunID names the run of the Redis that holds a partition: it changes when that Redis restarts or
// another is promoted in its place.
func (e *Engine) RunID(ctx context.Context, partition int) (string, error) {
	runID, _, err := e.tell(ctx, partition)
	return runID, err
}

// Now returns the time by which the scripts decide, in the first partition.
func (e *Engine) Now(ctx context.Context) (time.Time, error) {
	_, now, err := e.tell(ctx, 0)
	return now, err
}

func (e *Engine) tell(ctx context.Context, partition int) (runID string, now time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	result := runScript.Exec(ctx, e.client, []string{OrdersKey(partition)}, nil)
	parts, err := result.ToArray()
	if err != nil {
		return "", now, fmt.Errorf("run of partition %d: %w", partition, err)
	}
	d := decoder{parts: parts}
	if len(parts) != 3 || d.int(0) != lua.RunTold {
		return "", now, shapeError("run", result)
	}
	runID = d.text(1)
	ms, err := strconv.ParseInt(d.text(2), 10, 64)
	if d.err != nil || err != nil {
		return "", now, shapeError("run", result)
	}
	return runID, time.UnixMilli(ms), nil
}
