package engine

import (
	"context"
	"slices"

	"flashsale"
)

// roster is who has bought an item, up to a sequence of a generation. It only grows: who gives his
// units back stays on it, and reaches Redis as those do who hold something. So it is read from Redis
// once, and kept by what this node's own decisions say, and what is told of those of other nodes
// where units have come back; when something was missed it is read again.
type roster struct {
	filter *filter
	gen    int64
	seq    int64  // everybody up to it is on the roster; -1 while it is being read
	users  int    // how many were added
	spans  []span // accepted orders beyond seq, which are on the roster too, with gaps before them
}

// span is the orders of a run: those after a sequence, up to another.
type span struct{ after, to int64 }

// spansMax bounds what is remembered behind a gap. A gap that does not close was missed for good.
const spansMax = 64

// join adds the users of a run.
func (r *roster) join(gen int64, s span, users func(add func(user string))) {
	if gen != r.gen {
		return
	}
	users(func(user string) {
		r.filter.add(user)
		r.users++
	})
	if len(r.spans) < spansMax {
		r.spans = append(r.spans, s)
	}
	r.advance()
}

// advance moves the sequence over the spans that follow it without a gap.
func (r *roster) advance() {
	if r.seq < 0 {
		return
	}
	for moved := true; moved; {
		moved = false
		r.spans = slices.DeleteFunc(r.spans, func(s span) bool {
			if s.after > r.seq {
				return false
			}
			moved, r.seq = true, max(r.seq, s.to)
			return true
		})
	}
}

// covers reports whether everybody is on the roster who had bought at a sight.
func (r *roster) covers(at sight) bool {
	return r.gen == at.gen && r.seq >= at.seq && r.users <= r.filter.room
}

// loadRoster reads who has bought the item, so that its flag can be raised.
func (e *Engine) loadRoster(q *itemQueue, at sight, lost flashsale.Outcome) {
	began := e.clock()
	loaded := func(r *roster, err error) {
		if err != nil {
			r = nil
			e.config.Logger.Warn("no sold-out flag: its roster was not read", "item", q.item, "error", err)
		}
		q.flag.loaded(r, at, lost, began, e.clock(), e.config.FlagTTL)
	}
	count, err := e.countBuyers(e.background, q.item)
	if err != nil {
		loaded(nil, err)
		return
	}
	r := &roster{filter: newFilter(count), gen: at.gen, seq: -1}
	q.flag.load(r) // from here on it hears of what the pages may have missed
	err = e.scanBuyers(e.background, q.item, func(user, _ string) error {
		r.filter.add(user)
		return nil
	})
	loaded(r, err)
}

func (e *Engine) countBuyers(ctx context.Context, item flashsale.ItemID) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	n, err := e.client.Do(ctx, e.client.B().Hlen().Key(BuyersKey(e.Partition(item), item)).Build()).AsInt64()
	return int(n), err
}

// rosterRest is the pause after reading a roster, in multiples of the time it took, so that an item
// of which messages are missed again and again cannot keep Redis busy with HSCAN.
const rosterRest = 20
