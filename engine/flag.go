package engine

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"flashsale"
)

// soldOutFlag lets a node answer sold_out, or ended, from memory. It is a hint that can only be wrong
// for one TTL: it speaks of one epoch of the item's stock, and any sight of a newer epoch
// drops it.
//
// While the stock of an epoch is zero, or after the close, nobody joins the buyers, so whoever is not on a roster that
// covers that moment has lost. A false match costs one script call.
type soldOutFlag struct {
	raised atomic.Pointer[raisedFlag] // nil: down
	epoch  atomic.Int64               // the newest that this node has seen
	kept   atomic.Bool                // there is a roster, or one is being read

	mu       sync.Mutex // guards what follows
	loading  bool
	loadFrom int64 // engine clock, before which no roster is read again
	gapSince int64 // engine clock, when the roster was first found not to cover a sight; 0: it does
	roster   *roster
}

// raisedFlag never changes; renewing replaces it.
type raisedFlag struct {
	outcome flashsale.Outcome // SoldOut, or Ended
	epoch   int64
	until   int64 // engine clock
	users   *filter
}

// probeGrace is how long the others go on answering from an expired flag while one request asks
// Redis.
const probeGrace = 50 * time.Millisecond

// answer returns how the user has surely lost, or 0. When the flag has expired the first to ask
// is sent to Redis, and the others are answered for a grace in which the reply arrives.
func (f *soldOutFlag) answer(user string, clock int64) flashsale.Outcome {
	r := f.raised.Load()
	if r == nil || r.users.has(user) {
		return 0
	}
	if clock < r.until {
		return r.outcome
	}
	probe := *r
	probe.until = clock + int64(probeGrace)
	if f.raised.CompareAndSwap(r, &probe) {
		return 0
	}
	return r.outcome
}

// see drops the flag if it speaks of an older epoch.
func (f *soldOutFlag) see(epoch int64) {
	for {
		newest := f.epoch.Load()
		if epoch <= newest {
			break
		}
		if f.epoch.CompareAndSwap(newest, epoch) {
			break
		}
	}
	if r := f.raised.Load(); r != nil && r.epoch < epoch {
		f.raised.CompareAndSwap(r, nil)
	}
}

// drop forgets the flag, whatever it says.
func (f *soldOutFlag) drop() { f.raised.Store(nil) }

// join hears of a run that accepted orders, on this node or another.
func (f *soldOutFlag) join(gen int64, s span, users func(add func(user string))) {
	if !f.kept.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.roster != nil {
		f.roster.join(gen, s, users)
	}
}

// gapGrace is how long a message may be on its way that closes a gap in the roster.
const gapGrace = 100 * time.Millisecond

// learn takes in what a script replied: how everybody who holds nothing has lost, or 0. It reports
// whether the caller should read the roster, with load and loaded.
func (f *soldOutFlag) learn(at sight, lost flashsale.Outcome, clock int64, ttl time.Duration) (load bool) {
	f.see(at.epoch)
	if lost == 0 {
		f.drop() // even on an old reply: a hint too few costs one call
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.roster != nil && f.roster.covers(at) {
		f.gapSince = 0
		f.raise(lost, at.epoch, clock, ttl)
		return false
	}
	if f.roster != nil && f.gapSince == 0 {
		f.gapSince = clock
	}
	if f.gapSince > 0 && clock < f.gapSince+int64(gapGrace) {
		return false
	}
	if f.loading || clock < f.loadFrom || f.epoch.Load() != at.epoch {
		return false
	}
	f.loading = true
	return true
}

// load puts a roster in place that is about to be read.
func (f *soldOutFlag) load(r *roster) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roster = r
	f.kept.Store(true)
}

// loaded ends what learn asked for: r is nil when the roster could not be had.
func (f *soldOutFlag) loaded(r *roster, at sight, lost flashsale.Outcome, began, clock int64, ttl time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loading, f.gapSince = false, 0
	f.loadFrom = clock + rosterRest*(clock-began)
	f.roster = r
	f.kept.Store(r != nil)
	if r == nil {
		return
	}
	r.seq = at.seq
	r.advance()
	f.raise(lost, at.epoch, clock, ttl)
}

// raise stands only if no newer epoch has been seen, also while it is being raised.
func (f *soldOutFlag) raise(lost flashsale.Outcome, epoch, clock int64, ttl time.Duration) {
	until := clock + int64(ttl) - rand.Int64N(int64(ttl)/5+1)
	r := &raisedFlag{outcome: lost, epoch: epoch, until: until, users: f.roster.filter}
	if f.epoch.Load() != r.epoch {
		return
	}
	f.raised.Store(r)
	if f.epoch.Load() != r.epoch {
		f.raised.CompareAndSwap(r, nil)
	}
}
