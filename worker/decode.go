package worker

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"flashsale"
)

// Bounds of the numbers in an entry, so that what passes fits the ledger's columns.
const (
	numberMax = 1<<63 - 1
	atMSMax   = 253_402_300_799_999 // the end of the year 9999
)

// batch is what one read delivered. Its slices are used again for the next read.
type batch struct {
	ids    []string          // entry ids of orders, index by index
	orders []flashsale.Order // what could be decoded
	bad    []badEntry        // what can never become an order
	lost   []string          // delivered before, but no longer in the stream
	runs   []part            // of orders that one read of new entries delivered

	first, last string // ids of the first and the last entry, of whatever kind
}

// badEntry is an entry that does not say an order, and why.
type badEntry struct {
	id     string
	reason error
}

func (b *batch) reset() {
	clear(b.orders) // let go of the strings
	clear(b.ids)
	b.ids, b.orders, b.bad, b.lost = b.ids[:0], b.orders[:0], b.bad[:0], b.lost[:0]
	b.runs = b.runs[:0]
	b.first, b.last = "", ""
}

// remove takes an order out of the batch.
func (b *batch) remove(index int) {
	b.ids = slices.Delete(b.ids, index, index+1)
	b.orders = slices.Delete(b.orders, index, index+1)
	for i := range b.runs {
		if b.runs[i].from > index {
			b.runs[i].from--
		}
		if b.runs[i].to > index {
			b.runs[i].to--
		}
	}
}

// entries returns how many entries the batch holds, of whatever kind.
func (b *batch) entries() int { return len(b.ids) + len(b.bad) + len(b.lost) }

// readStreams takes a reply of XREADGROUP for one stream; nil means nothing was read.
func (b *batch) readStreams(r reply) error {
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
	return b.readEntries(&r)
}

// readEntries takes an array of entries, as XRANGE replies it.
func (b *batch) readEntries(r *reply) error {
	entries, err := r.array()
	if err != nil {
		return err
	}
	for range entries {
		if n, err := r.array(); err != nil || n != 2 {
			return errReply
		}
		text, err := r.text()
		if err != nil {
			return err
		}
		id := string(text)
		b.first, b.last = cmp.Or(b.first, id), id
		fields, err := r.array()
		if err != nil {
			return err
		}
		if fields < 0 {
			b.lost = append(b.lost, id)
			continue
		}
		order, reason, err := readOrder(r, fields)
		if err != nil {
			return err
		}
		if reason != nil {
			b.bad = append(b.bad, badEntry{id, reason})
			continue
		}
		b.ids = append(b.ids, id)
		b.orders = append(b.orders, order)
	}
	return nil
}

// The fields of an entry, as bits of those seen.
const (
	fieldOrder = 1 << iota
	fieldItem
	fieldUser
	fieldQty
	fieldGen
	fieldSeq
	fieldAtMS
	fieldKey

	fieldsRequired = fieldKey - 1
)

// readOrder takes the fields of one entry. The reason tells why it is no order; the error that
// the reply cannot be read at all. reserve.lua writes nothing but what passes here, so what
// does not was written by something else and is not ours to interpret.
func readOrder(r *reply, fields int) (order flashsale.Order, reason, err error) {
	seen := 0
	for range fields / 2 {
		name, err := r.text()
		if err != nil {
			return order, nil, err
		}
		value, err := r.text()
		if err != nil {
			return order, nil, err
		}
		if reason != nil {
			continue // the rest is read, so that the next entry is found
		}
		var field int
		if field, reason = setField(&order, name, value); reason == nil && seen&field != 0 {
			reason = fmt.Errorf("field %q comes twice", name)
		}
		seen |= field
	}
	if reason == nil && seen&fieldsRequired != fieldsRequired {
		reason = errors.New("one of the fields order, item, user, qty, gen, seq, at_ms is missing")
	}
	order.Status = flashsale.Pending
	return order, reason, nil
}

func setField(order *flashsale.Order, name, value []byte) (field int, reason error) {
	var n int64
	switch string(name) {
	case "order":
		n, reason = number("order", value, numberMax)
		order.OrderNo = flashsale.OrderNo(n)
		return fieldOrder, reason
	case "item":
		n, reason = number("item", value, numberMax)
		order.ItemID = flashsale.ItemID(n)
		return fieldItem, reason
	case "user":
		order.User = string(value)
		if !flashsale.ValidUser(order.User) {
			reason = fmt.Errorf("user %.80q is not valid", value)
		}
		return fieldUser, reason
	case "qty":
		n, reason = number("qty", value, flashsale.LimitMax)
		order.Quantity = int(n)
		return fieldQty, reason
	case "gen":
		order.Generation, reason = number("gen", value, numberMax)
		return fieldGen, reason
	case "seq":
		order.Sequence, reason = number("seq", value, numberMax)
		return fieldSeq, reason
	case "at_ms":
		n, reason = number("at_ms", value, atMSMax)
		order.ReservedAt = time.UnixMilli(n)
		return fieldAtMS, reason
	case "key":
		order.IdempotencyKey = string(value)
		if !flashsale.ValidIdempotencyKey(order.IdempotencyKey) {
			reason = fmt.Errorf("key %.80q is not valid", value)
		}
		return fieldKey, reason
	default:
		return 0, fmt.Errorf("field %.80q is unknown", name)
	}
}

// number reads a positive decimal without leading zeros.
func number(name string, text []byte, numMax uint64) (int64, error) {
	if len(text) == 0 || len(text) > 19 || text[0] == '0' {
		return 0, fmt.Errorf("%s %.80q is not a positive number", name, text)
	}
	var n uint64
	for _, c := range text {
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
