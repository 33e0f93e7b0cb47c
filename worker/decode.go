package worker

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"flashsale"
)

// Bounds of the numbers in an entry, so that what passes fits the ledger's columns.
const (
	numberMax = 1<<63 - 1
	seqMax    = 1 << 53             // of an entry's first order: reserve.lua counts in doubles
	atMSMax   = 253_402_300_799_999 // the end of the year 9999
)

// headerNames are the first fields of an entry, each with its value behind it. An order follows
// a pair: the user, and "order_no qty key". Positions decide: a user may be called "item".
var headerNames = [...]string{"item", "gen", "seq", "at_ms"}

// oldName is the first field of the entries of earlier versions, which held one order each.
const oldName = "order"

// ErrOldStream tells that a stream holds entries of an earlier version. They are good orders, but
// not in a form that this version reads.
var ErrOldStream = errors.New("entries of an earlier version: let its own workers persist them, until XLEN is 0, before this version starts")

// batch is what one read delivered. Its slices are used again for the next read.
type batch struct {
	list   []entry
	orders []flashsale.Order // of all entries, in order: what could be decoded and was not set aside
	places []place           // of the orders, index by index
	lost   []string          // ids delivered before, but no longer in the stream

	first, last string // ids of the first and the last entry, of whatever kind

	at   time.Time // of the last read
	done int       // entries, from the first on, that were taken off the stream
}

// entry is one entry of the stream: the orders that one run of reserve.lua accepted of an item.
type entry struct {
	id     string
	run    int         // of the reads of new entries, which one delivered it; 0: none of them
	orders int         // how many it holds; 0 when it cannot be read
	left   int         // of them, how many are not settled
	dead   []deadOrder // what can never be persisted of it
}

// place is where an order stands: the how manieth of which entry.
type place struct{ entry, order int }

// deadOrder is an order of an entry, or the whole entry, that can never be persisted, and why.
type deadOrder struct {
	order  int // wholeEntry, or its place
	reason string
}

const wholeEntry = -1

func (b *batch) reset() {
	clear(b.list) // let go of the strings
	clear(b.orders)
	b.list, b.orders, b.places, b.lost = b.list[:0], b.orders[:0], b.places[:0], b.lost[:0]
	b.first, b.last, b.done = "", "", 0
}

// empty reports whether there is nothing to settle.
func (b *batch) empty() bool { return len(b.list)+len(b.lost) == 0 }

// setAside takes an order that can never be persisted out of the batch.
func (b *batch) setAside(index int, reason string) {
	b.settled(index)
	e := &b.list[b.places[index].entry]
	e.dead = append(e.dead, deadOrder{b.places[index].order, reason})
	b.orders = slices.Delete(b.orders, index, index+1)
	b.places = slices.Delete(b.places, index, index+1)
}

// settled notes that nothing is left to do for an order but to take its entry off the stream.
func (b *batch) settled(index int) { b.list[b.places[index].entry].left-- }

// takeSettled returns the next entries of which nothing is left, each once.
func (b *batch) takeSettled() []entry {
	from := b.done
	for b.done < len(b.list) && b.list[b.done].left == 0 {
		b.done++
	}
	return b.list[from:b.done]
}

// readStreams takes a reply of XREADGROUP for one stream; nil means nothing was read.
func (b *batch) readStreams(r reply, run int) error {
	streams, err := r.array()
	if err != nil || streams <= 0 {
		return err
	}
	if n, err := r.array(); err != nil || n != 2 || streams != 1 {
		return errReply
	}
	if _, err := r.text(); err != nil {
		return err
	}
	return b.readEntries(&r, run)
}

// readEntries takes an array of entries, as XRANGE replies it.
func (b *batch) readEntries(r *reply, run int) error {
	entries, err := r.array()
	if err != nil {
		return err
	}
	for range entries {
		if n, err := r.array(); err != nil || n != 2 {
			return errReply
		}
		id, err := r.text()
		if err != nil {
			return err
		}
		b.first, b.last = cmp.Or(b.first, id), id
		fields, err := r.array()
		if err != nil {
			return err
		}
		if fields < 0 {
			b.lost = append(b.lost, id)
			continue
		}
		if err := b.readEntry(r, entry{id: id, run: run}, fields); err != nil {
			return err
		}
	}
	return nil
}

// readEntry takes the fields of one entry. What is no order is noted with its reason; the error
// says that the reply, or a stream of an earlier version, cannot be read at all. reserve.lua
// writes nothing but what passes here, so what does not was written by something else and is not
// ours to interpret.
func (b *batch) readEntry(r *reply, e entry, fields int) error {
	head, shaped := flashsale.Order{Status: flashsale.Pending}, fields%2 == 0 && fields > 2*len(headerNames)
	var reason error
	for i, name := range headerNames[:min(len(headerNames), fields/2)] {
		got, err := r.text()
		if err != nil {
			return err
		}
		value, err := r.text()
		switch {
		case err != nil:
			return err
		case i == 0 && got == oldName:
			return ErrOldStream
		case got != name:
			shaped = false
		case reason == nil:
			reason = setHeader(&head, i, value)
		}
	}
	rest := fields - 2*min(len(headerNames), fields/2)
	if !shaped {
		reason = errors.New("not of the form item, gen, seq, at_ms, then a pair an order")
	} else {
		e.orders = rest / 2
	}
	if reason != nil {
		e.dead = append(e.dead, deadOrder{wholeEntry, reason.Error()})
		b.list = append(b.list, e)
		for range rest { // so that the next entry is found
			if _, err := r.text(); err != nil {
				return err
			}
		}
		return nil
	}
	for i := range e.orders {
		user, err := r.text()
		if err != nil {
			return err
		}
		line, err := r.text()
		if err != nil {
			return err
		}
		order := head
		order.User, order.Sequence = user, head.Sequence+int64(i)
		if reason := setLine(&order, line); reason != nil {
			e.dead = append(e.dead, deadOrder{i, reason.Error()})
			continue
		}
		e.left++
		b.orders = append(b.orders, order)
		b.places = append(b.places, place{len(b.list), i})
	}
	b.list = append(b.list, e)
	return nil
}

// setHeader takes the value of a field that all orders of an entry share.
func setHeader(order *flashsale.Order, field int, value string) (reason error) {
	switch headerNames[field] {
	case "item":
		var n int64
		n, reason = number("item", value, numberMax)
		order.ItemID = flashsale.ItemID(n)
	case "gen":
		order.Generation, reason = number("gen", value, numberMax)
	case "seq":
		order.Sequence, reason = number("seq", value, seqMax)
	case "at_ms":
		var n int64
		n, reason = number("at_ms", value, atMSMax)
		order.ReservedAt = time.UnixMilli(n)
	}
	return reason
}

// setLine takes "order_no qty key" of the order's user; without a key it ends with the space.
func setLine(order *flashsale.Order, line string) error {
	if !flashsale.ValidUser(order.User) {
		return fmt.Errorf("user %.80q is not valid", order.User)
	}
	no, rest, first := strings.Cut(line, " ")
	qty, key, second := strings.Cut(rest, " ")
	if !first || !second {
		return fmt.Errorf("%.200q is not an order number, a quantity and a key", line)
	}
	n, err := number("order", no, numberMax)
	if err != nil {
		return err
	}
	units, err := number("qty", qty, flashsale.LimitMax)
	if err != nil {
		return err
	}
	if key != "" && !flashsale.ValidIdempotencyKey(key) {
		return fmt.Errorf("key %.150q is not valid", key)
	}
	order.OrderNo, order.Quantity, order.IdempotencyKey = flashsale.OrderNo(n), int(units), key
	return nil
}

// number reads a positive decimal without leading zeros.
func number(name, text string, numMax uint64) (int64, error) {
	if len(text) == 0 || len(text) > 19 || text[0] == '0' {
		return 0, fmt.Errorf("%s %.80q is not a positive number", name, text)
	}
	var n uint64
	for i := range len(text) {
		c := text[i]
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%s %.80q is not a positive number", name, text)
		}
		n = n*10 + uint64(c-'0') // 19 digits stay below 2^64
	}
	if n > numMax {
		return 0, fmt.Errorf("%s %s exceeds %d", name, text, numMax)
	}
	return int64(n), nil
}
