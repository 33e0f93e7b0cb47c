package worker

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"flashsale/engine"
)

// claim takes over the entries that have been in the hands of a consumer for too long, our own
// too, persists them, and removes consumers that are long gone. It runs in the consumer's own
// goroutine, where nothing else is in hand, so it never claims what is being persisted here;
// what another worker persists at this moment is younger than ClaimMinIdle.
func (c *consumer) claim(ctx, work context.Context) error {
	for cursor := "0-0"; ctx.Err() == nil; {
		next, err := c.claimPage(work, cursor)
		if err != nil {
			return err
		}
		if n := len(c.batch.list); n > 0 {
			c.metrics.claimed.Add(float64(n))
			c.log.Info("entries claimed", "stream", c.ordersKey, "entries", n)
		}
		if err := c.settle(ctx, work); err != nil {
			return err
		}
		if cursor = next; cursor == "0-0" {
			break
		}
	}
	return c.removeConsumers(ctx)
}

// claimPage fills the batch with entries from the cursor on and returns the next cursor.
func (c *consumer) claimPage(ctx context.Context, cursor string) (next string, err error) {
	c.batch.reset()
	r, err := do(ctx, c.client, "xautoclaim", c.ordersKey, engine.Group, c.config.Consumer,
		c.config.ClaimMinIdle.Milliseconds(), cursor, "count", c.perRead)
	if err != nil {
		return "", fmt.Errorf("claim entries of %s: %w", c.ordersKey, err)
	}
	next, err = c.readClaim(r)
	if err != nil {
		return "", fmt.Errorf("claim entries of %s: %w", c.ordersKey, err)
	}
	return next, nil
}

// readClaim takes a reply of XAUTOCLAIM: cursor, entries, ids that Redis has found deleted and
// has dropped from the pending entries list.
func (c *consumer) readClaim(r reply) (next string, err error) {
	if n, err := r.array(); err != nil || n != 3 {
		return "", errReply
	}
	cursor, err := r.text()
	if err != nil {
		return "", err
	}
	if err := c.batch.readEntries(&r, 0); err != nil {
		return "", err
	}
	deleted, err := r.array()
	if err != nil {
		return "", err
	}
	var lost []string
	for range deleted {
		id, err := r.text()
		if err != nil {
			return "", err
		}
		lost = append(lost, id)
	}
	if len(lost) > 0 {
		c.alarmLost(lost)
	}
	return cursor, nil
}

// removeConsumers deletes the consumers of workers that will not come back, and never one with
// pending entries: they would be delivered to nobody. A living consumer is heard of with every
// read, several times a second.
func (c *consumer) removeConsumers(ctx context.Context) error {
	consumers, err := c.client.XInfoConsumers(ctx, c.ordersKey, engine.Group).Result()
	if err != nil {
		return fmt.Errorf("list consumers of %s: %w", c.ordersKey, err)
	}
	for _, other := range consumers {
		if !c.removable(other) {
			continue
		}
		pending, err := c.client.XGroupDelConsumer(ctx, c.ordersKey, engine.Group, other.Name).Result()
		if err != nil {
			return fmt.Errorf("delete consumer %s of %s: %w", other.Name, c.ordersKey, err)
		}
		c.log.Info("idle consumer deleted", "stream", c.ordersKey, "deleted", other.Name, "idle", other.Idle)
		if pending > 0 {
			c.log.Error("deleted consumer came back to life with entries: see the audit",
				"stream", c.ordersKey, "deleted", other.Name, "pending", pending)
		}
	}
	return nil
}

func (c *consumer) removable(other redis.XInfoConsumer) bool {
	return other.Name != c.config.Consumer && other.Pending == 0 && other.Idle > c.config.ConsumerIdleMax
}
