package engine

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// soldOutFlag lets a node answer sold_out from memory. It is a hint that can only be wrong
// for one TTL: it speaks of one epoch of the item's stock, and any sight of a newer epoch
// drops it.
type soldOutFlag struct {
	raised atomic.Pointer[raisedFlag] // nil: down
	epoch  atomic.Int64               // the newest that this node has seen

	mu       sync.Mutex // guards what follows
	loading  bool
	loadFrom int64 // engine clock, before which no roster is loaded again
	roster   *roster
}

// raisedFlag never changes; renewing replaces it.
type raisedFlag struct {
	epoch  int64
	until  int64 // engine clock
	roster *roster
}

// roster is who held the item at an epoch, as hashes of the user ids. While the stock of an
// epoch is zero nobody joins it, and who leaves raises the epoch; so whoever is not on it
// has lost, and a false match costs one script call.
type roster struct {
	epoch int64
	seed  maphash.Seed
	users map[uint64]struct{}
}

func (r *roster) has(user string) bool {
	_, ok := r.users[maphash.String(r.seed, user)]
	return ok
}

func (r *roster) add(user string) { r.users[maphash.String(r.seed, user)] = struct{}{} }

const (
	// probeGrace is how long the others go on answering from an expired flag while one
	// request asks Redis.
	probeGrace = 50 * time.Millisecond
	// rosterMax bounds the memory of one roster (about 20 bytes a user). An item with more
	// buyers raises no flag; group commit answers its losers.
	rosterMax = 2_000_000
	// rosterRest is the pause after loading a roster, in multiples of the time it took, so
	// that an item whose units trickle back cannot keep Redis busy with HSCAN.
	rosterRest = 20
)

// answer reports whether the user has surely lost. When the flag has expired the first to ask
// is sent to Redis, and the others are answered for a grace in which the reply arrives.
func (f *soldOutFlag) answer(user string, clock int64) bool {
	r := f.raised.Load()
	if r == nil || r.roster.has(user) {
		return false
	}
	if clock < r.until {
		return true
	}
	probe := &raisedFlag{epoch: r.epoch, until: clock + int64(probeGrace), roster: r.roster}
	return !f.raised.CompareAndSwap(r, probe)
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

// learn takes in what a script replied. It reports whether the caller should load the roster
// of this epoch, and then call loaded.
func (f *soldOutFlag) learn(epoch, stock, clock int64, ttl time.Duration) (load bool) {
	f.see(epoch)
	if stock > 0 {
		f.drop() // even on an old reply: a hint too few costs one call
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.roster != nil && f.roster.epoch == epoch {
		f.raise(clock, ttl)
		return false
	}
	if f.loading || clock < f.loadFrom || f.epoch.Load() != epoch {
		return false
	}
	f.loading = true
	return true
}

// loaded ends what learn asked for: r is nil when the roster could not be had.
func (f *soldOutFlag) loaded(r *roster, began, clock int64, ttl time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loading = false
	f.loadFrom = clock + rosterRest*(clock-began)
	if r != nil {
		f.roster = r
		f.raise(clock, ttl)
	}
}

// raise stands only if no newer epoch has been seen, also while it is being raised.
func (f *soldOutFlag) raise(clock int64, ttl time.Duration) {
	until := clock + int64(ttl) - rand.Int64N(int64(ttl)/5+1)
	r := &raisedFlag{epoch: f.roster.epoch, until: until, roster: f.roster}
	if f.epoch.Load() != r.epoch {
		return
	}
	f.raised.Store(r)
	if f.epoch.Load() != r.epoch {
		f.raised.CompareAndSwap(r, nil)
	}
}
