package engine

import (
	"strconv"
	"sync/atomic"

	"flashsale"
)

// batch is the requests that one script call decides together, and where each of them waits
// for its decision. Those who wait share one channel: closing it wakes them all, and what they
// then read lies side by side in memory.
type batch struct {
	requests  []Request
	decisions []decision
	done      chan struct{} // closed when the decisions stand
	readers   atomic.Int32  // who have not read theirs; who leaves early never does

	// Buffers of the script call.
	args   []string
	orders []flashsale.OrderNo
	digits []byte
	ends   []int
}

// decision is the answer to one request.
type decision struct {
	reply Reply
	err   error
}

// join adds a request and returns its place. The lane's mutex guards the batch until it is taken.
func (b *batch) join(req Request) (place int) {
	b.requests = append(b.requests, req)
	return len(b.requests) - 1
}

// fill builds the script's arguments: item, stream_max, then four of each request.
func (b *batch) fill(item, streamMax string) []string {
	// All order numbers share one string: one allocation a batch. It is not reused, because
	// rueidis may still write it out after a deadline has passed.
	b.digits, b.ends = b.digits[:0], b.ends[:0]
	for _, order := range b.orders {
		b.digits = strconv.AppendInt(b.digits, int64(order), 10)
		b.ends = append(b.ends, len(b.digits))
	}
	digits := string(b.digits)
	b.args = append(b.args[:0], item, streamMax)
	start := 0
	for n := range b.requests {
		req := &b.requests[n]
		b.args = append(b.args, digits[start:b.ends[n]], req.User, strconv.Itoa(req.Quantity), req.IdempotencyKey)
		start = b.ends[n]
	}
	return b.args
}

// fail answers every request alike.
func (b *batch) fail(reply Reply, err error) {
	b.decisions = b.decisions[:0]
	for range b.requests {
		b.decisions = append(b.decisions, decision{reply, err})
	}
}

// finish wakes those who wait. The batch is theirs from here on.
func (b *batch) finish() {
	b.readers.Store(int32(len(b.requests)))
	close(b.done)
}

// read returns the decision at a place, once done is closed. It may be called once a place;
// whoever is the last to read gives the batch back, to be used again.
func (b *batch) read(place int, recycle func(*batch)) (Reply, error) {
	d := b.decisions[place]
	if b.readers.Add(-1) == 0 {
		recycle(b)
	}
	return d.reply, d.err
}

// reset empties the batch, so that it keeps no strings of its requests alive.
func (b *batch) reset() {
	clear(b.requests)
	clear(b.decisions)
	clear(b.args)
	b.requests, b.decisions = b.requests[:0], b.decisions[:0]
	b.done = make(chan struct{})
}
