package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// defaultClusterPartitions spreads the items over up to as many nodes of a cluster.
const defaultClusterPartitions = len(tags)

var errPartitions = errors.New("the number of partitions was changed: start this process anew")

// agreePartitions makes all nodes use one number, which Redis cannot forget: the first stores it,
// the others take it, and who was configured otherwise may not start, since it would look for
// items elsewhere.
func agreePartitions(ctx context.Context, cluster bool, config Config) (int, error) {
	first := cmp.Or(config.Partitions, 1)
	if cluster {
		first = cmp.Or(config.Partitions, defaultClusterPartitions)
	}
	stored, err := config.Registry.Partitions(ctx, first)
	if err != nil {
		return 0, fmt.Errorf("engine: %w", err)
	}
	if stored < 1 || stored > PartitionsLimit {
		return 0, fmt.Errorf("engine: %d is stored as the number of partitions, which must be from 1 to %d", stored, PartitionsLimit)
	}
	if config.Partitions != 0 && config.Partitions != stored {
		return 0, fmt.Errorf("engine: configured for %d partitions, but this installation has %d: "+
			"set the same number on every node, or none", config.Partitions, stored)
	}
	return stored, nil
}

// watchPartitions takes the node off sale when the number of partitions was changed behind its
// back: it looks for items elsewhere than the others.
func (e *Engine) watchPartitions(ctx context.Context) {
	ticker := time.NewTicker(min(e.config.LeaseTTL/5, leaseEvery))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		asking, cancel := context.WithTimeout(ctx, leaseAsk)
		stored, err := e.config.Registry.Partitions(asking, e.partitions)
		cancel()
		if err != nil {
			continue // the lease's renewal says so
		}
		if was := e.displaced.Swap(stored != e.partitions); !was && stored != e.partitions {
			e.config.Logger.Error("not selling any more", "error", errPartitions, "partitions", e.partitions, "stored", stored)
		}
	}
}
