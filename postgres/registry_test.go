package postgres

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"flashsale"
)

// Two processes under one node id would give two orders one number: however many start at once,
// each has an id of its own.
func TestLeaseNode_AtOnce(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	const processes = 60
	ids := make([]int, processes)
	var running sync.WaitGroup
	for n := range ids {
		running.Go(func() {
			lease, err := b.LeaseNode(b.ctx, fmt.Sprint("owner ", n), "host/1", time.Hour)
			if err != nil {
				t.Error(err)
			}
			ids[n] = lease.ID
		})
	}
	running.Wait()
	seen := map[int]bool{}
	for _, id := range ids {
		if seen[id] || id < 0 || id >= flashsale.NodesMax {
			t.Errorf("the id %d is given twice, or is none", id)
		}
		seen[id] = true
	}
}

// The next holder of an id starts above all that the one before may have used: what it gave back
// that it had used, or else the end of its span, whatever the clock says by then.
func TestLeaseNode_NextHolder(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	first := b.leaseNode("first", time.Hour)
	b.exec(`INSERT INTO nodes (id, until_ms, owner, name)
SELECT s, 9e15, 'holder ' || s, 'host/1' FROM generate_series(0, 1023) s WHERE s <> $1`, first.ID)

	renewed, err := b.RenewNode(b.ctx, "first", first.NowMS, 2*time.Hour)
	if err != nil || renewed.ID != first.ID || renewed.UntilMS < first.UntilMS+time.Hour.Milliseconds() {
		t.Fatalf("renewed %+v, %v, was %+v", renewed, err, first)
	}
	used := renewed.NowMS + time.Minute.Milliseconds() // ahead of the clock, as after it stepped back
	if err := b.EndNode(b.ctx, "first", used); err != nil {
		t.Fatal(err)
	}
	if _, err := b.RenewNode(b.ctx, "first", used, time.Hour); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("a lease that was ended is renewed: %v", err)
	}
	second := b.leaseNode("second", time.Hour)
	if second.ID != first.ID || second.NowMS != used+1 || second.UntilMS != second.NowMS+time.Hour.Milliseconds() {
		t.Fatalf("the next lease is %+v, used up to %d", second, used)
	}

	// All are held by somebody who was heard of a moment ago: nobody else starts.
	if lease, err := b.LeaseNode(b.ctx, "third", "host/3", time.Hour); err == nil {
		t.Fatalf("leased %+v although all are held", lease)
	}
	// A crash loop has used all of them up: the one that ends first is taken, above its span.
	b.exec(`UPDATE nodes SET renewed_at = now() - interval '2 minutes'`)
	third := b.leaseNode("third", time.Hour)
	if third.ID != second.ID || third.NowMS != second.UntilMS+1 {
		t.Errorf("leased %+v after %+v", third, second)
	}
	// One whose span is over is free again, and preferred.
	b.exec(`UPDATE nodes SET until_ms = 1 WHERE id = 7`)
	if fourth := b.leaseNode("fourth", time.Hour); fourth.ID != 7 || time.Since(time.UnixMilli(fourth.NowMS)) > time.Minute {
		t.Errorf("leased %+v", fourth)
	}
}

func (b *books) leaseNode(owner string, term time.Duration) flashsale.NodeLease {
	b.t.Helper()
	lease, err := b.LeaseNode(b.ctx, owner, "host/1", term)
	if err != nil {
		b.t.Fatal(err)
	}
	return lease
}

// The first number of partitions stands: whoever comes later is told it.
func TestPartitions(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	var running sync.WaitGroup
	got := make([]int, 16)
	for n := range got {
		running.Go(func() {
			var err error
			if got[n], err = b.Partitions(b.ctx, n+1); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	for _, partitions := range got {
		if partitions != got[0] || partitions < 1 || partitions > 16 {
			t.Fatalf("processes that start at once have %v partitions", got)
		}
	}
}
