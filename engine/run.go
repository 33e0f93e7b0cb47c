package engine

import (
	"context"
	"strconv"
	"strings"
	"time"

	"flashsale"
	"flashsale/lua"
)

// itemsMax is how many items lua/reserve.lua takes in one run.
const itemsMax = 64

// run is what one script call decides: groups of requests, together by their items.
type run struct {
	sections []section
	requests int

	// Buffers of the script call.
	keys, args []string
	numbers    []flashsale.OrderNo
	ends       []int
}

// section is the part of a run that is of one item.
type section struct {
	queue    *itemQueue
	groups   []*group
	requests int
}

// fits reports whether a group may still be added. The first always may.
func (r *run) fits(q *itemQueue, g *group, requestsMax int) bool {
	return r.requests == 0 ||
		r.requests+len(g.requests) <= requestsMax && (q.section > 0 || len(r.sections) < itemsMax)
}

// add puts a group into the section of its item.
func (r *run) add(q *itemQueue, g *group) {
	if q.section == 0 {
		n := len(r.sections)
		if n < cap(r.sections) { // with the memory of an earlier run
			r.sections = r.sections[:n+1]
			r.sections[n] = section{queue: q, groups: r.sections[n].groups[:0]}
		} else {
			r.sections = append(r.sections, section{queue: q})
		}
		q.section = n + 1
	}
	s := &r.sections[q.section-1]
	s.groups = append(s.groups, g)
	s.requests += len(g.requests)
	r.requests += len(g.requests)
}

// fill builds the keys and arguments of lua/reserve.lua, with a number for each request.
func (r *run) fill(keys []string, streamMax string) {
	// The texts of all orders share one string: one allocation a run. It is not reused, because
	// rueidis may still write it out after a deadline has passed.
	text := make([]byte, 0, 24*r.requests)
	r.ends = r.ends[:0]
	n := 0
	for _, s := range r.sections {
		for _, g := range s.groups {
			for i := range g.requests {
				req := &g.requests[i]
				text = strconv.AppendInt(text, int64(r.numbers[n]), 10)
				text = append(text, ' ')
				text = strconv.AppendInt(text, int64(req.Quantity), 10)
				text = append(text, ' ')
				text = append(text, req.IdempotencyKey...)
				r.ends = append(r.ends, len(text))
				n++
			}
		}
	}
	orders, start := string(text), 0
	r.keys = append(r.keys[:0], keys...)
	r.args = append(r.args[:0], streamMax, ClearedChannel)
	n = 0
	for _, s := range r.sections {
		r.keys = append(r.keys, s.queue.keys[:]...)
		r.args = append(r.args, s.queue.text, strconv.Itoa(s.requests))
		for _, g := range s.groups {
			for i := range g.requests {
				r.args = append(r.args, g.requests[i].User, orders[start:r.ends[n]])
				start = r.ends[n]
				n++
			}
		}
	}
}

// fail answers every request alike.
func (r *run) fail(reply Reply, err error) {
	for _, s := range r.sections {
		s.fail(reply, err)
	}
}

func (s *section) fail(reply Reply, err error) {
	for _, g := range s.groups {
		g.fail(reply, err)
	}
}

// finish wakes everybody and forgets them.
func (r *run) finish() {
	for i := range r.sections {
		s := &r.sections[i]
		for _, g := range s.groups {
			g.finish()
		}
		clear(s.groups)
		s.queue = nil
	}
	clear(r.args)
	r.sections, r.requests = r.sections[:0], 0
}

// number gives each request of the run an order number, unless this node must not.
func (e *Engine) number(r *run) (ok bool) {
	if e.node == nil || e.displaced.Load() {
		return false
	}
	r.numbers, ok = e.node.take(r.numbers[:0], r.requests)
	return ok
}

// decide runs the script for a run and notes its decisions.
func (e *Engine) decide(l *lane, r *run) {
	defer e.metrics.decided(r)
	if !e.number(r) {
		r.fail(Reply{Outcome: flashsale.NotReady}, nil)
		return
	}
	if l.away.is() {
		e.fault(l, r, errAway)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.config.ScriptTimeout)
	defer cancel()
	r.fill(l.keys, e.streamMax)
	began := e.clock()
	reply, err := decodeReserve(reserveScript.Exec(ctx, e.decider, r.keys, r.args), r)
	clock := e.clock()
	took := time.Duration(clock - began)
	e.metrics.ran(r.requests, took)
	switch {
	case err != nil:
		e.fault(l, r, err)
	case reply.status == statusOverloaded:
		r.fail(Reply{Outcome: flashsale.Overloaded}, nil)
	default:
		numbers := r.numbers
		for n := range r.sections {
			e.learn(&r.sections[n], &reply.decisions[n], reply.nowMS, numbers, clock, took)
			numbers = numbers[r.sections[n].requests:]
		}
	}
}

// fault answers a run that Redis did not decide, as far as is known.
func (e *Engine) fault(l *lane, r *run, err error) {
	e.metrics.faults.Inc()
	l.away.notice(err, func() { e.running.Go(func() { e.watchAway(l, l.partition) }) })
	for _, s := range r.sections {
		s.fail(Reply{}, faultError("reserve", s.queue.item, err))
	}
}

// learn answers the requests of one item, and keeps what the decision says of it.
func (e *Engine) learn(s *section, d *itemDecision, nowMS int64, numbers []flashsale.OrderNo, clock int64, took time.Duration) {
	q := s.queue
	if d.status == statusNotReady {
		q.flag.drop() // what it speaks of is gone
		s.fail(Reply{Outcome: flashsale.NotReady}, nil)
		return
	}
	q.window.learn(nowMS, d.opensMS, d.sight.seq > 0, clock, took)
	d.answer(s, numbers)
	d.join(s)
	lost := flashsale.Outcome(0)
	switch {
	case nowMS >= d.closesMS:
		lost = flashsale.Ended
	case d.stock <= 0:
		lost = flashsale.SoldOut
	}
	if at := d.sight; q.flag.learn(at, lost, clock, e.config.FlagTTL) {
		e.running.Go(func() { e.loadRoster(q, at, lost) })
	}
}

// join tells the roster who was accepted.
func (i *itemDecision) join(s *section) {
	accepted := int64(strings.Count(i.outcomes, string(lua.LetterAccepted)))
	if accepted == 0 {
		return
	}
	s.queue.flag.join(i.sight.gen, span{i.sight.seq - accepted, i.sight.seq}, func(add func(string)) {
		for _, g := range s.groups {
			for n := range g.requests {
				if g.decisions[n].reply.Outcome == flashsale.Accepted {
					add(g.requests[n].User)
				}
			}
		}
	})
}
