package peak

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// classesMax bounds the classes that are told apart; further ones are counted together.
const classesMax = 16

// other is the class of what comes after the last that is told apart.
const other = "other"

// tally counts what came back. One lock serves all connections: it is held for well under a
// microsecond.
type tally struct {
	bucket  time.Duration
	highest int64 // in microseconds: what histograms can hold

	mu       sync.Mutex // guards what follows
	classes  map[string]*class
	names    []string // by the class' index
	service  *hdrhistogram.Histogram
	late     *hdrhistogram.Histogram
	sent     int64
	queued   int64
	fault    string // the first one, as it was told
	open     int    // the bucket of the timeline that is being filled
	current  *hdrhistogram.Histogram
	timeline []moment
}

// class is one outcome.
type class struct {
	index       int
	count       int64
	first, last time.Duration
	latency     *hdrhistogram.Histogram
}

// moment is a bucket of the timeline.
type moment struct {
	counts   [classesMax]uint32
	p50, p99 time.Duration
}

// sample is one request that came to its end. Times are since the start.
type sample struct {
	class           []byte
	due, sent, done time.Duration
	unsent          bool // there was no connection
	queued          bool // it was due while every connection was busy
}

func newTally(bucket, longest time.Duration) *tally {
	t := &tally{
		bucket: bucket, highest: longest.Microseconds() + 1,
		classes: make(map[string]*class, classesMax), timeline: make([]moment, longest/bucket+1),
	}
	t.service, t.late, t.current = t.histogram(3), t.histogram(3), t.histogram(2)
	return t
}

func (t *tally) histogram(digits int) *hdrhistogram.Histogram {
	return hdrhistogram.New(1, t.highest, digits)
}

// observe adds a duration to a histogram, which holds the longest that is possible.
func (t *tally) observe(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(0, d.Microseconds()), t.highest)) // within its range by then
}

func (t *tally) record(s *sample) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.class(s.class)
	if c.count == 0 {
		c.first = s.done
	}
	c.count++
	c.last = max(c.last, s.done)
	t.observe(c.latency, s.done-s.due)
	if !s.unsent {
		t.sent++
		t.observe(t.service, s.done-s.sent)
	}
	if s.queued {
		t.queued++
	} else {
		t.observe(t.late, s.sent-s.due)
	}
	// Two connections may come here in another order than they were answered: what belongs
	// into a bucket that is closed already is counted in the next.
	if b := min(int(s.done/t.bucket), len(t.timeline)-1); b > t.open {
		t.shut()
		t.open = b
	}
	t.observe(t.current, s.done-s.due)
	t.timeline[t.open].counts[c.index]++
}

// class finds a class, and makes it when it is new.
func (t *tally) class(name []byte) *class {
	if c := t.classes[string(name)]; c != nil {
		return c
	}
	text := string(name)
	if len(t.names) >= classesMax-1 {
		text = other
	}
	c := t.classes[text]
	if c == nil {
		c = &class{index: len(t.names), latency: t.histogram(3)}
		t.classes[text], t.names = c, append(t.names, text)
	}
	return c
}

// blame keeps the first fault of a connection.
func (t *tally) blame(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault == "" {
		t.fault = err.Error()
	}
}

// shut computes the latencies of the open bucket.
func (t *tally) shut() {
	m := &t.timeline[t.open]
	m.p50 = time.Duration(t.current.ValueAtPercentile(50)) * time.Microsecond
	m.p99 = time.Duration(t.current.ValueAtPercentile(99)) * time.Microsecond
	t.current.Reset()
}
