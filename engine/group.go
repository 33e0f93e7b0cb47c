package engine

import (
	"sync/atomic"

	"flashsale"
)

// groupMax is how many requests one group holds: what an item puts into a run when others wait,
// too, is its turn.
const groupMax = 128

// group is requests of one item that came one after the other, and where each of them waits for
// its decision. Those who wait share one channel: closing it wakes them all, and what they then
// read lies side by side in memory.
type group struct {
	requests  []Request
	decisions []decision
	done      chan struct{} // closed when the decisions stand
	readers   atomic.Int32  // who have not read theirs; who leaves early never does
}

// decision is the answer to one request.
type decision struct {
	reply Reply
	err   error
}

// join adds a request and returns its place. The lane's mutex guards the group until it is taken.
func (g *group) join(req Request) (place int) {
	g.requests = append(g.requests, req)
	return len(g.requests) - 1
}

// decide notes the next decision, in the order of the requests.
func (g *group) decide(reply Reply, err error) {
	g.decisions = append(g.decisions, decision{reply, err})
}

// fail answers every request alike.
func (g *group) fail(reply Reply, err error) {
	g.decisions = g.decisions[:0]
	for range g.requests {
		g.decide(reply, err)
	}
}

// finish wakes those who wait. The group is theirs from here on.
func (g *group) finish() {
	g.readers.Store(int32(len(g.requests)))
	close(g.done)
}

// read returns the decision at a place, once done is closed. It may be called once a place;
// whoever is the last to read gives the group back, to be used again.
func (g *group) read(place int, recycle func(*group)) (Reply, error) {
	d := g.decisions[place]
	if g.readers.Add(-1) == 0 {
		recycle(g)
	}
	return d.reply, d.err
}

// reset empties the group, so that it keeps no strings of its requests alive.
func (g *group) reset() {
	clear(g.requests)
	clear(g.decisions)
	g.requests, g.decisions = g.requests[:0], g.decisions[:0]
	g.done = make(chan struct{})
}

// tally counts the decisions by outcome. Those that are faults have none.
func (g *group) tally(into *[flashsale.Overloaded + 1]int) {
	for n := range g.decisions {
		if d := &g.decisions[n]; d.err == nil {
			into[d.reply.Outcome]++
		}
	}
}
