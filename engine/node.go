package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bwmarrin/snowflake"
	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/lua"
)

// nodesMax is how many node ids a snowflake number has room for.
const nodesMax = 1024

// node makes order numbers under a node id that no other process holds. The id is leased in
// Redis; a process that cannot renew stops in time, before another could take the id.
type node struct {
	client rueidis.Client
	logger *slog.Logger
	ttl    time.Duration
	start  time.Time
	until  atomic.Int64 // nanoseconds since start, up to which the lease surely stands

	mu    sync.Mutex // guards what follows: a lost lease is replaced
	id    int64
	owner string
	maker *snowflake.Node
}

// leaseNode takes a free node id.
func leaseNode(ctx context.Context, client rueidis.Client, config Config) (*node, error) {
	n := &node{client: client, logger: config.Logger, ttl: config.LeaseTTL, start: time.Now()}
	if err := n.acquire(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// acquire draws ids from a counter, so that an id is used again as late as possible: should a
// clock step back between two processes, their numbers still differ.
func (n *node) acquire(ctx context.Context) error {
	owner := rand.Text()
	for range nodesMax {
		drawn, err := n.client.Do(ctx, n.client.B().Incr().Key(nodeSeqKey).Build()).AsInt64()
		if err != nil {
			return fmt.Errorf("lease node id: %w", err)
		}
		id := drawn % nodesMax
		asked := time.Now()
		take := n.client.B().Set().Key(nodeKey(id)).Value(owner).Nx().Px(n.ttl).Build()
		result := n.client.Do(ctx, take)
		if isNil(result) {
			continue // taken
		}
		if err := result.Error(); err != nil {
			return fmt.Errorf("lease node id: %w", err)
		}
		maker, err := snowflake.NewNode(id)
		if err != nil {
			return fmt.Errorf("lease node id %d: %w", id, err)
		}
		n.mu.Lock()
		n.id, n.owner, n.maker = id, owner, maker
		n.mu.Unlock()
		n.extend(asked)
		return nil
	}
	return errors.New("lease node id: all 1024 are taken; old leases expire by themselves")
}

// extend counts from before the request was sent and keeps a tenth back, so that this side
// always ends first.
func (n *node) extend(asked time.Time) {
	n.until.Store(int64(asked.Sub(n.start) + n.ttl - n.ttl/10))
}

// held reports whether the lease stands.
func (n *node) held() bool { return int64(time.Since(n.start)) < n.until.Load() }

// next makes an order number. Call only while held.
func (n *node) next() flashsale.OrderNo {
	n.mu.Lock()
	defer n.mu.Unlock()
	return flashsale.OrderNo(n.maker.Generate())
}

// NextNumber makes a number of the family that the order numbers are of, such as a trade number:
// positive, and unique for ever across all processes. [ErrUnavailable] while the node's lease is
// lost.
func (e *Engine) NextNumber() (int64, error) {
	if !e.node.held() {
		return 0, fmt.Errorf("next number: node id lease lost: %w", ErrUnavailable)
	}
	return int64(e.node.next()), nil
}

// run renews the lease until ctx ends, then gives it back.
func (n *node) run(ctx context.Context) {
	ticker := time.NewTicker(n.ttl / 5)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			n.end()
			return
		case <-ticker.C:
			n.renew(ctx)
		}
	}
}

func (n *node) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.ttl/5)
	defer cancel()
	asked := time.Now()
	status, err := n.lease(ctx, n.ttl)
	switch {
	case err != nil:
		n.logger.Warn("node id lease not renewed", "node", n.id, "error", err)
	case status == lua.NodeLeaseHeld:
		n.extend(asked)
	default:
		n.until.Store(0)
		n.logger.Error("node id lease lost, taking another", "node", n.id)
		if err := n.acquire(ctx); err != nil {
			n.logger.Error("no node id: requests are answered not_ready", "error", err)
		}
	}
}

// end gives the id back, so that a restart does not use them up.
func (n *node) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	n.until.Store(0)
	if _, err := n.lease(ctx, 0); err != nil {
		n.logger.Warn("node id lease left to expire", "node", n.id, "error", err)
	}
}

func (n *node) lease(ctx context.Context, ttl time.Duration) (int64, error) {
	keys, args := []string{nodeKey(n.id)}, []string{n.owner, decimal(ttl.Milliseconds())}
	numbers, err := decodeInts("node_lease", nodeLeaseScript.Exec(ctx, n.client, keys, args), 1)
	if err != nil {
		return 0, err
	}
	return numbers[0], nil
}
