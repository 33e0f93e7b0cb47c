package pay

import (
	"sync"
	"time"
)

// meter allows each key so many events at once, and then one an interval: the generic cell rate
// algorithm, which needs one time a key. It remembers at most so many keys; where there are more, the
// ones whose time has passed are forgotten first, then all of them.
type meter[K comparable] struct {
	burst   time.Duration // by which a key may be ahead of its time
	every   time.Duration
	keysMax int

	mu    sync.Mutex // guards what follows
	times map[K]time.Time
}

func newMeter[K comparable](burst int, every time.Duration, keysMax int) *meter[K] {
	return &meter[K]{
		burst: time.Duration(burst) * every, every: every, keysMax: keysMax, times: make(map[K]time.Time),
	}
}

// allows reports whether one more event of a key would be within its bound.
func (m *meter[K]) allows(key K, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.within(key, now)
}

// take counts an event of a key that is within its bound, and reports whether it was.
func (m *meter[K]) take(key K, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.within(key, now) {
		return false
	}
	m.add(key, now)
	return true
}

// count counts an event that has happened, whatever the bound says.
func (m *meter[K]) count(key K, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.within(key, now) { // further than that no key is ahead
		m.add(key, now)
	}
}

func (m *meter[K]) within(key K, now time.Time) bool {
	return m.times[key].Sub(now) <= m.burst-m.every
}

func (m *meter[K]) add(key K, now time.Time) {
	at, known := m.times[key]
	if !known && len(m.times) >= m.keysMax {
		m.forget(now)
	}
	if at.Before(now) {
		at = now
	}
	m.times[key] = at.Add(m.every)
}

func (m *meter[K]) forget(now time.Time) {
	for key, at := range m.times {
		if !at.After(now) {
			delete(m.times, key)
		}
	}
	if len(m.times) >= m.keysMax {
		clear(m.times)
	}
}
