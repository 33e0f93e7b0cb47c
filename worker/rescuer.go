package worker

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"flashsale/engine"
)

// rescueMax is how many of the oldest entries of a stream are looked at in one go.
const rescueMax = 200

// rescuer finds entries that no consumer will ever be given: delivered once, so that no read brings
// them again, and in nobody's pending entries list, so that nobody claims them. That is how a consumer
// leaves them that was deleted with entries in hand, or a group whose position was set by hand. It puts
// them into the list of this worker, as idle for so long that the next claim takes them up.
type rescuer struct {
	config  Config
	client  redis.UniversalClient
	metrics *metrics
}

func newRescuer(config Config, client redis.UniversalClient, metrics *metrics) *rescuer {
	return &rescuer{config: config, client: client, metrics: metrics}
}

func (r *rescuer) run(ctx context.Context) {
	for ctx.Err() == nil {
		for p := range r.config.Partitions {
			if err := r.rescue(ctx, p); err != nil && ctx.Err() == nil {
				r.metrics.faults.WithLabelValues("rescuer").Inc()
				r.config.Logger.Debug("stream not searched for orphans", "partition", p, "error", err)
			}
		}
		pause(ctx, r.config.ClaimEvery)
	}
}

// rescue looks at the oldest entries: orphans gather there, since the others leave. The entries are
// read before the list: an entry that leaves the stream in between is claimed in vain, which Redis
// ignores.
func (r *rescuer) rescue(ctx context.Context, partition int) error {
	key := engine.OrdersKey(partition)
	delivered, err := r.delivered(ctx, key)
	if err != nil || delivered == "" {
		return err
	}
	entries, err := r.client.XRangeN(ctx, key, "-", delivered, rescueMax).Result()
	if err != nil || len(entries) == 0 {
		return wrapRescue(key, err)
	}
	pending, err := r.client.XPendingExt(ctx, &redis.XPendingExtArgs{
		Stream: key, Group: engine.Group, Start: entries[0].ID, End: entries[len(entries)-1].ID, Count: rescueMax,
	}).Result()
	if err != nil {
		return wrapRescue(key, err)
	}
	known := make(map[string]bool, len(pending))
	for _, p := range pending {
		known[p.ID] = true
	}
	claim := []any{"xclaim", key, engine.Group, r.config.Consumer, 0}
	orphans := 0
	for _, entry := range entries {
		if !known[entry.ID] {
			claim, orphans = append(claim, entry.ID), orphans+1
		}
		if len(known) == rescueMax && entry.ID == pending[rescueMax-1].ID {
			break // beyond it the list was not read
		}
	}
	if orphans == 0 {
		return nil
	}
	claim = append(claim, "idle", (2 * r.config.ClaimMinIdle).Milliseconds(), "force", "justid")
	taken, err := r.client.Do(ctx, claim...).Slice()
	if err != nil {
		return wrapRescue(key, err)
	}
	if len(taken) > 0 {
		r.metrics.claimed.Add(float64(len(taken)))
		r.config.Logger.Warn("entries that were in nobody's hands are delivered", "stream", key, "entries", len(taken))
	}
	return nil
}

// delivered returns the last id that any consumer was given; "" where there is no group.
func (r *rescuer) delivered(ctx context.Context, key string) (string, error) {
	groups, err := r.client.XInfoGroups(ctx, key).Result()
	if hasCode(err, "ERR") { // no such key
		return "", nil
	}
	for _, group := range groups {
		if group.Name == engine.Group && group.LastDeliveredID != "0-0" {
			return group.LastDeliveredID, nil
		}
	}
	return "", wrapRescue(key, err)
}

func wrapRescue(key string, err error) error {
	if err != nil {
		return fmt.Errorf("rescue entries of %s: %w", key, err)
	}
	return nil
}
