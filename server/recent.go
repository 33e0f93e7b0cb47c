package server

import "sync"

// recent remembers what was asked for lately: at least max things, at most twice as many. What is
// asked for again before max others have come stays, so that made-up names push out each other
// and not what a crowd looks at.
type recent[K comparable, V any] struct {
	max int

	mu         sync.Mutex // guards what follows
	young, old map[K]V
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{max: limit, young: make(map[K]V)}
}

func (r *recent[K, V]) get(key K) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(key)
}

// getOr returns what is remembered, or else what make makes, which is remembered from then on.
func (r *recent[K, V]) getOr(key K, create func() V) V {
	r.mu.Lock()
	defer r.mu.Unlock()
	value, ok := r.find(key)
	if !ok {
		value = create()
		r.put(key, value)
	}
	return value
}

func (r *recent[K, V]) set(key K, value V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(key, value)
}

func (r *recent[K, V]) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.young, r.old = make(map[K]V), nil
}

func (r *recent[K, V]) find(key K) (V, bool) {
	if value, ok := r.young[key]; ok {
		return value, true
	}
	value, ok := r.old[key]
	if ok {
		r.put(key, value)
	}
	return value, ok
}

func (r *recent[K, V]) put(key K, value V) {
	if len(r.young) >= r.max {
		r.young, r.old = make(map[K]V), r.young
	}
	r.young[key] = value
}
