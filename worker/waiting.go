package worker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
)

// auditEntries is how many entries one XRANGE of an audit reads.
const auditEntries = 1000

// waiting are the orders that wait in Redis, by item: for the workers, or as dead letters for an
// operator.
type waiting struct {
	stream, dead map[flashsale.ItemID][]flashsale.Order
}

// readWaiting reads the streams of some partitions. An entry that cannot be read says no item;
// that it is there is for [Auditor.measure] to see.
func (a *Auditor) readWaiting(ctx context.Context, partitions []int) (waiting, error) {
	w := waiting{
		stream: make(map[flashsale.ItemID][]flashsale.Order),
		dead:   make(map[flashsale.ItemID][]flashsale.Order),
	}
	for _, p := range partitions {
		_, err := a.readStream(ctx, p, func(order flashsale.Order) {
			w.stream[order.ItemID] = append(w.stream[order.ItemID], order)
		})
		if err != nil {
			return w, err
		}
		err = a.readDead(ctx, p, func(order flashsale.Order) {
			w.dead[order.ItemID] = append(w.dead[order.ItemID], order)
		})
		if err != nil {
			return w, err
		}
	}
	return w, nil
}

// readStream calls fn for every order of a stream, and returns how many entries cannot be read.
func (a *Auditor) readStream(ctx context.Context, partition int, fn func(flashsale.Order)) (unreadable int, err error) {
	key := engine.OrdersKey(partition)
	var page batch
	for after := "-"; ; after = "(" + page.last {
		r, err := do(ctx, a.client, "xrange", key, after, "+", "count", auditEntries)
		if err == nil {
			page.reset()
			err = page.readEntries(&r, 0)
		}
		switch {
		case hasCode(err, "WRONGTYPE"):
			return unreadable, nil // measure says so
		case err != nil:
			return unreadable, fmt.Errorf("read %s: %w", key, err)
		case page.last == "":
			return unreadable, nil
		}
		for _, order := range page.orders {
			fn(order)
		}
		for i := range page.list {
			unreadable += len(page.list[i].dead)
		}
	}
}

// readDead calls fn for every dead letter that says an order.
func (a *Auditor) readDead(ctx context.Context, partition int, fn func(flashsale.Order)) error {
	for after := "-"; ; {
		letters, err := readLetters(ctx, a.client, partition, after, "+", auditEntries)
		switch {
		case hasCode(err, "WRONGTYPE"):
			return nil // measure says so
		case err != nil:
			return err
		case len(letters) == 0:
			return nil
		}
		for _, letter := range letters {
			for _, order := range letter.orders() {
				fn(order)
			}
			_, after, _ = strings.Cut(letter.ID, "/")
		}
		after = "(" + after
	}
}

// motion is what there is to see of what is on its way, at one moment.
type motion struct {
	partitions []partitionMotion
	outbox     int64
	wrong      []string // keys that are not of our kind, and how

	orders     []int64 // of each partition's entries; counted by count
	unreadable int64   // entries, likewise
}

// partitionMotion is that of one partition. What is the same twice has not moved.
type partitionMotion struct {
	entries, pending, dead int64
	waiting                int64  // orders, as the scripts count them
	oldest, newest         string // ids: of the first entry, and of the last one ever added
}

// measure looks at what is on its way, whatever the length of the streams.
func (a *Auditor) measure(ctx context.Context) (m motion, err error) {
	m.partitions = make([]partitionMotion, a.config.Partitions)
	for p := range m.partitions {
		if err := a.measureStream(ctx, p, &m); err != nil {
			return m, err
		}
	}
	m.outbox, err = a.config.Ledger.Owed(ctx)
	return m, err
}

func (a *Auditor) measureStream(ctx context.Context, partition int, m *motion) (err error) {
	key, at := engine.OrdersKey(partition), &m.partitions[partition]
	info, err := a.client.XInfoStream(ctx, key).Result()
	switch {
	case err == nil:
		at.entries, at.oldest, at.newest = info.Length, info.FirstEntry.ID, info.LastGeneratedID
	case hasCode(err, "WRONGTYPE"):
		m.wrong = append(m.wrong, key+" is not a stream")
	case !hasCode(err, "ERR"): // no such key: nobody has bought anything yet
		return fmt.Errorf("look at %s: %w", key, err)
	}
	if err == nil {
		pending, err := a.client.XPending(ctx, key, engine.Group).Result()
		switch {
		case err == nil:
			at.pending = pending.Count
		case !isNoGroup(err): // without a group nothing is pending
			return fmt.Errorf("pending entries of %s: %w", key, err)
		}
	}
	at.dead, err = a.client.XLen(ctx, engine.DeadKey(partition)).Result()
	switch {
	case hasCode(err, "WRONGTYPE"):
		m.wrong = append(m.wrong, engine.DeadKey(partition)+" is not a stream")
	case err != nil:
		return fmt.Errorf("length of %s: %w", engine.DeadKey(partition), err)
	}
	return a.measureWaiting(ctx, partition, m)
}

func (a *Auditor) measureWaiting(ctx context.Context, partition int, m *motion) error {
	key := engine.WaitingKey(partition)
	count, err := a.client.Get(ctx, key).Result()
	switch {
	case errors.Is(err, redis.Nil): // nobody has bought anything yet
		return nil
	case hasCode(err, "WRONGTYPE"):
		m.wrong = append(m.wrong, key+" is not a string")
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", key, err)
	}
	if m.partitions[partition].waiting, err = strconv.ParseInt(count, 10, 64); err != nil {
		m.wrong = append(m.wrong, fmt.Sprintf("%s is %q, and not a number", key, count))
	}
	return nil
}

// count reads the streams, if there is anything in them.
func (a *Auditor) count(ctx context.Context, m *motion) error {
	m.orders = make([]int64, len(m.partitions))
	for p, at := range m.partitions {
		if at.entries == 0 {
			continue
		}
		unreadable, err := a.readStream(ctx, p, func(flashsale.Order) { m.orders[p]++ })
		if err != nil {
			return err
		}
		m.unreadable += int64(unreadable)
	}
	return nil
}

// miscounted tells, of the partitions where nothing has moved until later, those whose stream holds
// other orders than the scripts have counted. Of an entry that cannot be read nobody knows.
func (m motion) miscounted(later motion) (broken []string) {
	for p, at := range m.partitions {
		if m.unreadable == 0 && at == later.partitions[p] && at.waiting != m.orders[p] {
			broken = append(broken, fmt.Sprintf("%s says %d orders, %s holds %d",
				engine.WaitingKey(p), at.waiting, engine.OrdersKey(p), m.orders[p]))
		}
	}
	return broken
}

// left is how much is on its way.
func (m motion) left() (n int64) {
	for _, p := range m.partitions {
		n += p.entries + p.pending
	}
	return n + m.outbox
}
