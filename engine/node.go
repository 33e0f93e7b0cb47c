package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"flashsale"
)

// Terms of a node's lease. A process that has just started holds its id for leaseMin, and ten
// times as long as it has lived from then on, up to [Config.LeaseTTL]: what has run for a while
// outlives a long absence of the registry, and what crashes again and again does not use the
// ids up.
const (
	leaseMin   = 10 * time.Minute
	leaseEvery = 10 * time.Second // between two renewals, at most
	leaseAsk   = 5 * time.Second  // for one call of the registry, at most
)

// node makes order numbers under a node id that no other process holds.
//
// A lease is a span of milliseconds of the registry's clock in which every number under the id
// is this process's. Numbers are made of what the registry's clock shows: it was read once, when
// the lease was given, and is carried on by the monotonic clock; a wall clock is never asked. A
// number beyond the span is not made. So two processes never make the same number, whichever of
// them believes what about the time, and whatever Redis forgets.
type node struct {
	registry Registry
	logger   *slog.Logger
	ttl      time.Duration
	name     string // host and process id, for people
	started  time.Time

	mu      sync.Mutex // guards what follows
	owner   string
	lease   flashsale.NodeLease // none: ends at 0
	aheadMS int64               // of the registry's clock before the time since started
	last    int64               // place of the last number: its millisecond, then its step
}

// leaseNode takes a free node id.
func leaseNode(ctx context.Context, config Config) (*node, error) {
	host, _ := os.Hostname() // only for people
	n := &node{
		registry: config.Registry, logger: config.Logger, ttl: config.LeaseTTL,
		name: fmt.Sprintf("%s/%d", host, os.Getpid()), started: time.Now(),
	}
	if err := n.acquire(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *node) sinceMS() int64 { return time.Since(n.started).Milliseconds() }

// nowMS is what the registry's clock shows. Call with mu held.
func (n *node) nowMS() int64 { return n.aheadMS + n.sinceMS() }

func (n *node) acquire(ctx context.Context) error {
	owner := rand.Text()
	asked := n.sinceMS()
	lease, err := n.registry.LeaseNode(ctx, owner, n.name, n.term())
	if err != nil {
		return fmt.Errorf("engine: lease node id: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owner, n.lease, n.last = owner, lease, 0
	n.aheadMS = lease.NowMS - asked
	return nil
}

func (n *node) term() time.Duration {
	return min(n.ttl, leaseMin+10*time.Since(n.started))
}

// held reports whether numbers can be made.
func (n *node) held() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nowMS() <= n.lease.UntilMS
}

// take appends count numbers, ascending, or none when the lease is over. More than fit into a
// millisecond are borrowed from the next ones.
func (n *node) take(into []flashsale.OrderNo, count int) (numbers []flashsale.OrderNo, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	first := max(n.last+1, n.nowMS()*flashsale.StepsMax)
	last := first + int64(count) - 1
	if last/flashsale.StepsMax > n.lease.UntilMS {
		return into, false
	}
	n.last = last
	for place := first; place <= last; place++ {
		into = append(into, flashsale.NewOrderNo(place/flashsale.StepsMax, n.lease.ID, int(place%flashsale.StepsMax)))
	}
	return into, true
}

// NextNumber makes a number of the family that the order numbers are of, such as a trade number:
// positive, and unique for ever across all processes. [ErrUnavailable] while the node holds no
// lease.
func (e *Engine) NextNumber() (int64, error) {
	if e.node != nil {
		if numbers, ok := e.node.take(nil, 1); ok {
			return int64(numbers[0]), nil
		}
	}
	return 0, fmt.Errorf("next number: no node id: %w", ErrUnavailable)
}

// run renews the lease until ctx ends, then gives it back.
func (n *node) run(ctx context.Context) {
	ticker := time.NewTicker(min(n.ttl/5, leaseEvery))
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
	ctx, cancel := context.WithTimeout(ctx, leaseAsk)
	defer cancel()
	owner, usedMS := n.used()
	asked := n.sinceMS()
	lease, err := n.registry.RenewNode(ctx, owner, usedMS, n.term())
	switch {
	case err == nil:
		n.mu.Lock()
		defer n.mu.Unlock()
		n.lease = lease
		n.aheadMS = max(n.aheadMS, lease.NowMS-asked)
	case errors.Is(err, flashsale.ErrNotFound):
		n.logger.Error("node id lease lost, taking another", "node", n.id())
		if err := n.acquire(ctx); err != nil {
			n.logger.Error("no other node id yet", "error", err)
		}
	default:
		n.logger.Warn("node id lease not renewed", "node", n.id(), "error", err)
	}
}

func (n *node) id() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lease.ID
}

// used returns whose lease it is and the last millisecond that may have a number of it.
func (n *node) used() (owner string, usedMS int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.owner, max(n.nowMS(), n.last/flashsale.StepsMax)
}

// end gives the id back, so that a restart does not use them up.
func (n *node) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	owner, usedMS := n.used()
	n.mu.Lock()
	n.lease.UntilMS = 0 // from here on no number is made
	usedMS = max(usedMS, n.last/flashsale.StepsMax)
	n.mu.Unlock()
	if err := n.registry.EndNode(ctx, owner, usedMS); err != nil {
		n.logger.Warn("node id lease left to expire", "node", n.id(), "error", err)
	}
}

// Lease is the node id under which this process numbers orders, and until when, by the registry's clock;
// -1 where it has none.
func (e *Engine) Lease() flashsale.NodeLease {
	if e.node == nil {
		return flashsale.NodeLease{ID: -1}
	}
	e.node.mu.Lock()
	defer e.node.mu.Unlock()
	return flashsale.NodeLease{ID: e.node.lease.ID, NowMS: e.node.nowMS(), UntilMS: e.node.lease.UntilMS}
}
