package engine

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"
)

// Size of a filter. With 16 bits a user, five of which are set, one in 700 users is taken for
// another who is in it; a filter that has reached its largest size takes more and more for others.
const (
	filterBitsEach = 16
	filterHashes   = 5
	filterBitsMin  = 1 << 16
	filterBitsMax  = 1 << 27 // 16 MiB, for 8 million users; 16 million at one in 45
)

// filter is a set of users in bounded memory that forgets nobody, and takes a few for others who are
// in it (a Bloom filter). It is read and written without a lock.
type filter struct {
	seed  maphash.Seed
	words []atomic.Uint64 // a power of two of them
	room  int             // users for whom it was made
}

// newFilter makes a filter for so many users, and a quarter more.
func newFilter(users int) *filter {
	users += users/4 + filterBitsMin/filterBitsEach
	want := min(max(users*filterBitsEach, filterBitsMin), filterBitsMax)
	size := 1 << bits.Len(uint(want-1))
	return &filter{seed: maphash.MakeSeed(), words: make([]atomic.Uint64, size/64), room: users}
}

// each calls visit for the bits of a user until it returns false.
func (f *filter) each(user string, visit func(word *atomic.Uint64, bit uint64) bool) {
	h := maphash.String(f.seed, user)
	step := h>>32 | 1
	for range filterHashes {
		at := h & uint64(len(f.words)*64-1)
		if !visit(&f.words[at/64], 1<<(at%64)) {
			return
		}
		h += step
	}
}

func (f *filter) add(user string) {
	f.each(user, func(word *atomic.Uint64, bit uint64) bool {
		if word.Load()&bit == 0 {
			word.Or(bit)
		}
		return true
	})
}

// has reports whether the user is in it, or is taken for another who is.
func (f *filter) has(user string) bool {
	found := true
	f.each(user, func(word *atomic.Uint64, bit uint64) bool {
		found = word.Load()&bit != 0
		return found
	})
	return found
}
