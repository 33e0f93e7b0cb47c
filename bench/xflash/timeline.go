package xflash

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.k6.io/k6/metrics"
	"go.k6.io/k6/output"
)

// Every is the width of a bucket of a timeline.
const Every = 250 * time.Millisecond

// prefix marks the scripts' own metrics.
const prefix = "flash_"

// bucketsMax bounds a timeline: what comes later than an hour falls into the last bucket.
const bucketsMax = int(time.Hour / Every)

// Timeline is what happened in each bucket since the first answer.
type Timeline struct {
	Every  time.Duration      `json:"every_ns"`
	Counts map[string][]int64 `json:"counts"` // by metric, without its prefix
	P50    []*float64         `json:"p50_ms"` // of purchases; null where there were none
	P99    []*float64         `json:"p99_ms"` // as P50
}

// timeline collects it.
type timeline struct {
	path   string
	out    io.Writer
	ticker *output.PeriodicFlusher
	began  time.Time

	mu        sync.Mutex // guards what follows
	counts    map[string][]int64
	latencies [][]float64
	said      map[string]int64 // what was told to the person who watches
}

var _ output.Output = (*timeline)(nil)

func newTimeline(params output.Params) (output.Output, error) {
	if params.ConfigArgument == "" {
		return nil, errors.New("--out timeline needs a file: timeline=FILE")
	}
	return &timeline{
		path: params.ConfigArgument, out: params.StdErr,
		counts: make(map[string][]int64), said: make(map[string]int64),
	}, nil
}

// Description is shown by k6.
func (t *timeline) Description() string { return "timeline (" + t.path + ")" }

// Start is called before the first sample.
func (t *timeline) Start() (err error) {
	t.began = time.Now()
	t.ticker, err = output.NewPeriodicFlusher(time.Second, t.say)
	return err
}

// AddMetricSamples counts: that is cheap enough to be done at once.
func (t *timeline) AddMetricSamples(containers []metrics.SampleContainer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, container := range containers {
		for _, sample := range container.GetSamples() {
			t.add(sample)
		}
	}
}

func (t *timeline) add(sample metrics.Sample) {
	at := min(max(0, int(sample.Time.Sub(t.began)/Every)), bucketsMax-1)
	name, ours := strings.CutPrefix(sample.Metric.Name, prefix)
	switch {
	case sample.Metric.Name == metrics.HTTPReqDurationName:
		if by, _ := sample.Tags.Get("name"); by == "buy" {
			t.latencies = grow(t.latencies, at)
			t.latencies[at] = append(t.latencies[at], sample.Value)
		}
	case ours && sample.Metric.Type == metrics.Counter:
		counts := grow(t.counts[name], at)
		counts[at] += int64(sample.Value)
		t.counts[name] = counts
	}
}

// grow makes a slice long enough for an index.
func grow[T any](s []T, at int) []T {
	if at < len(s) {
		return s
	}
	return append(s, make([]T, at+1-len(s))...)
}

// say tells a person what came since it was called last.
func (t *timeline) say() {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(t.counts)) {
		var sum int64
		for _, count := range t.counts[name] {
			sum += count
		}
		if came := sum - t.said[name]; came > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, came))
		}
		t.said[name] = sum
	}
	if len(parts) > 0 {
		fmt.Fprintf(t.out, "    %3.0f s  %s\n", time.Since(t.began).Seconds(), strings.Join(parts, ", "))
	}
}

// Stop writes the file.
func (t *timeline) Stop() error {
	t.ticker.Stop()
	text, err := json.Marshal(t.whole())
	if err != nil {
		return fmt.Errorf("timeline: %w", err)
	}
	if err := os.WriteFile(t.path, text, 0o600); err != nil {
		return fmt.Errorf("timeline: %w", err)
	}
	return nil
}

// whole brings all series to one length. k6 needs a while to set up its VUs, in which nothing
// happens: that is cut off.
func (t *timeline) whole() Timeline {
	t.mu.Lock()
	defer t.mu.Unlock()
	first, length := bucketsMax, 0
	see := func(at int, empty bool) {
		if !empty {
			first, length = min(first, at), max(length, at+1)
		}
	}
	for at, latencies := range t.latencies {
		see(at, len(latencies) == 0)
	}
	for _, counts := range t.counts {
		for at, count := range counts {
			see(at, count == 0)
		}
	}
	whole := Timeline{Every: Every, Counts: make(map[string][]int64)}
	first = min(first, length)
	for name, counts := range t.counts {
		whole.Counts[name] = grow(counts, length-1)[first:length]
	}
	for _, latencies := range grow(t.latencies, length-1)[first:length] {
		slices.Sort(latencies)
		whole.P50 = append(whole.P50, quantile(latencies, 0.50))
		whole.P99 = append(whole.P99, quantile(latencies, 0.99))
	}
	return whole
}

// quantile is the least value that so many are not above.
func quantile(sorted []float64, q float64) *float64 {
	if len(sorted) == 0 {
		return nil
	}
	return &sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}
