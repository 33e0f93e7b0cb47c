package peak

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"flashsale/bench/stats"
)

// Result is what came of a run.
type Result struct {
	Start    time.Time     `json:"start"`
	Duration time.Duration `json:"duration_ns"` // from the start to the last answer
	Sent     int64         `json:"sent"`
	Rate     float64       `json:"rate"`    // requests sent and ended, each second
	Queued   int64         `json:"queued"`  // due while every connection was busy
	Unsent   int64         `json:"unsent"`  // given up: the queue was too long
	Wrapped  int64         `json:"wrapped"` // requests of users who had been sent before
	Closed   bool          `json:"closed"`  // loop: there is no due time but the sending

	Counts  map[string]int64 `json:"counts"` // by class
	Classes map[string]Class `json:"classes"`
	Latency Percentiles      `json:"latency"` // from the due time; of what ended in any class
	Service Percentiles      `json:"service"` // from the sending
	Late    Percentiles      `json:"late"`    // from due time to sending, a connection standing ready

	Bucket   time.Duration `json:"bucket_ns"`
	Timeline []Moment      `json:"timeline"`
	CPU      time.Duration `json:"cpu_ns"`          // what this process used meanwhile
	Fault    string        `json:"fault,omitempty"` // the first one of a connection
}

// Class is one outcome: when it first and last came, since the start, and after how long.
type Class struct {
	First   time.Duration `json:"first_ns"`
	Last    time.Duration `json:"last_ns"`
	Latency Percentiles   `json:"latency"` // from the due time
}

// Percentiles are of a distribution, within a thousandth.
type Percentiles struct {
	P50  time.Duration `json:"p50_ns"`
	P90  time.Duration `json:"p90_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	Max  time.Duration `json:"max_ns"`
}

// Moment is a bucket of the timeline: what ended in it. Latencies count from the due time and
// are exact within a hundredth.
type Moment struct {
	At     time.Duration    `json:"at_ns"` // its begin, since the start
	Counts map[string]int64 `json:"counts"`
	P50    time.Duration    `json:"p50_ns"`
	P99    time.Duration    `json:"p99_ns"`
}

// Total is how many requests ended in a moment.
func (m Moment) Total() int64 {
	var total int64
	for _, count := range m.Counts {
		total += count
	}
	return total
}

// Doubtful is how many requests the server may or may not have carried out.
func (r *Result) Doubtful() int64 { return r.Counts[Unknown] + r.Counts[Broken] }

// Unanswered is how many shoppers were told nothing.
func (r *Result) Unanswered() int64 { return r.Doubtful() + r.Counts[Unconnected] + r.Unsent }

func (g *generator) result(used time.Duration) *Result {
	t := g.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shut()
	r := &Result{
		Start: g.start, Sent: t.sent, Queued: t.queued, Closed: g.schedule.closed,
		Counts: make(map[string]int64), Classes: make(map[string]Class),
		Service: percentiles(t.service), Late: percentiles(t.late),
		Bucket: t.bucket, CPU: used, Fault: t.fault,
	}
	all, ended := t.histogram(3), int64(0)
	for name, c := range t.classes {
		r.Counts[name] = c.count
		r.Classes[name] = Class{First: c.first, Last: c.last, Latency: percentiles(c.latency)}
		r.Duration = max(r.Duration, c.last)
		all.Merge(c.latency)
		ended += c.count
	}
	r.Latency = percentiles(all)
	r.Wrapped = max(0, ended-int64(g.Users))
	if !r.Closed {
		r.Unsent = g.schedule.total - ended
	}
	if r.Duration > 0 {
		r.Rate = float64(r.Sent) / r.Duration.Seconds()
	}
	for n, m := range t.timeline[:t.open+1] {
		moment := Moment{At: time.Duration(n) * t.bucket, Counts: make(map[string]int64), P50: m.p50, P99: m.p99}
		for index, name := range t.names {
			if m.counts[index] > 0 {
				moment.Counts[name] = int64(m.counts[index])
			}
		}
		r.Timeline = append(r.Timeline, moment)
	}
	return r
}

func percentiles(h *hdrhistogram.Histogram) Percentiles {
	at := func(p float64) time.Duration {
		return time.Duration(h.ValueAtPercentile(p)) * time.Microsecond
	}
	return Percentiles{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: at(100)}
}

// WriteText writes the result for a person.
func (r *Result) WriteText(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "requests   %s sent in %.2f s, %s/s; %s due while every connection was busy",
		count(r.Sent), r.Duration.Seconds(), stats.Human(r.Rate), count(r.Queued))
	if r.Unsent > 0 {
		fmt.Fprintf(&text, "; %s NEVER SENT, the queue was too long", count(r.Unsent))
	}
	if r.Wrapped > 0 {
		fmt.Fprintf(&text, "; %s of users who came again", count(r.Wrapped))
	}
	fmt.Fprintf(&text, "\noutcomes   %s\n", counts(r.Counts))
	if r.Fault != "" {
		fmt.Fprintf(&text, "           first fault: %s\n", r.Fault)
	}
	fmt.Fprintf(&text, "\n%-24s %9s %9s %9s %9s %9s\n", "milliseconds", "p50", "p90", "p99", "p99.9", "max")
	row := func(name string, p Percentiles) {
		fmt.Fprintf(&text, "%-24s", name)
		for _, d := range []time.Duration{p.P50, p.P90, p.P99, p.P999, p.Max} {
			fmt.Fprintf(&text, " %9s", stats.Human(ms(d)))
		}
		text.WriteByte('\n')
	}
	if !r.Closed {
		row("latency, from due time", r.Latency)
		for _, name := range slices.Sorted(maps.Keys(r.Classes)) {
			row("  "+name, r.Classes[name].Latency)
		}
	}
	row("service, from sending", r.Service)
	if !r.Closed {
		row("generator was late by", r.Late)
	}
	if ended := r.Sent + r.Counts[Unconnected]; ended > 0 {
		fmt.Fprintf(&text, "\ngenerator  %.2f s of CPU, %.1f µs a request\n",
			r.CPU.Seconds(), float64(r.CPU.Microseconds())/float64(ended))
	}
	_, err := io.WriteString(out, text.String())
	return err
}
