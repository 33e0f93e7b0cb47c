package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"flashsale"
)

// Registry remembers what must not be forgotten with Redis: who numbers orders under which node
// id, and over how many partitions the items are spread. All processes of an installation share
// one; a ledger of package postgres is one. A process that is the only one on its Redis may use
// [NewMemoryRegistry]. The methods are called concurrently.
type Registry interface {
	// LeaseNode gives the owner a node id that nobody holds, for the term. The numbers of its
	// span are the owner's alone, whatever becomes of the lease: the next holder of the id
	// starts above it, even where clocks differ.
	LeaseNode(ctx context.Context, owner, name string, term time.Duration) (flashsale.NodeLease, error)
	// RenewNode extends the lease to the term from now, or from usedMS where that is later.
	// [flashsale.ErrNotFound] when it is not the owner's any more.
	RenewNode(ctx context.Context, owner string, usedMS int64, term time.Duration) (flashsale.NodeLease, error)
	// EndNode gives the id back. No number was made of a millisecond after usedMS.
	EndNode(ctx context.Context, owner string, usedMS int64) error
	// Partitions returns the number of partitions. Where none is stored yet it stores first.
	Partitions(ctx context.Context, first int) (int, error)
}

// MemoryRegistry is a [Registry] that lives as long as its process.
type MemoryRegistry struct {
	mu         sync.Mutex // guards what follows
	partitions int
	nodes      [flashsale.NodesMax]struct {
		owner string
		until int64 // ms
	}
}

// NewMemoryRegistry returns the registry of a single process: on a Redis that another process
// numbers orders for as well, two orders could get one number.
func NewMemoryRegistry() *MemoryRegistry { return &MemoryRegistry{} }

// LeaseNode implements [Registry].
func (r *MemoryRegistry) LeaseNode(_ context.Context, owner, _ string, term time.Duration) (flashsale.NodeLease, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now().UnixMilli()
	for id := range r.nodes {
		n := &r.nodes[id]
		if n.owner != "" && n.until >= now {
			continue
		}
		from := max(now, n.until+1)
		n.owner, n.until = owner, from+term.Milliseconds()
		return flashsale.NodeLease{ID: id, NowMS: from, UntilMS: n.until}, nil
	}
	return flashsale.NodeLease{}, errors.New("every node id is leased")
}

// RenewNode implements [Registry].
func (r *MemoryRegistry) RenewNode(_ context.Context, owner string, usedMS int64, term time.Duration) (flashsale.NodeLease, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now().UnixMilli()
	for id := range r.nodes {
		if n := &r.nodes[id]; n.owner == owner {
			n.until = max(n.until, max(now, usedMS)+term.Milliseconds())
			return flashsale.NodeLease{ID: id, NowMS: now, UntilMS: n.until}, nil
		}
	}
	return flashsale.NodeLease{}, fmt.Errorf("node of %s: %w", owner, flashsale.ErrNotFound)
}

// EndNode implements [Registry].
func (r *MemoryRegistry) EndNode(_ context.Context, owner string, usedMS int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.nodes {
		if n := &r.nodes[id]; n.owner == owner {
			n.owner, n.until = "", usedMS
		}
	}
	return nil
}

// Partitions implements [Registry].
func (r *MemoryRegistry) Partitions(_ context.Context, first int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.partitions == 0 {
		r.partitions = first
	}
	return r.partitions, nil
}
