package stats_test

import (
	"math"
	"testing"

	"flashsale/bench/stats"
)

// One bad round must not decide what a report says: that is why it is medians all the way.
func TestSample_OneOutlier(t *testing.T) {
	t.Parallel()
	s := stats.Sample{10, 11, 10, 9, 1000}
	if got := s.Median(); got != 10 {
		t.Errorf("median: got %v, want 10", got)
	}
	if got := s.Spread(); got != 0.1 {
		t.Errorf("spread: got %v, want 0.1", got)
	}
	if s.Min() != 9 || s.Max() != 1000 {
		t.Errorf("got %v..%v, want 9..1000", s.Min(), s.Max())
	}
}

// Nothing measured is no figure, neither zero nor a panic.
func TestSample_Empty(t *testing.T) {
	t.Parallel()
	var s stats.Sample
	for _, got := range []float64{s.Median(), s.Min(), s.Max(), s.Spread()} {
		if !math.IsNaN(got) {
			t.Errorf("got %v, want NaN", got)
		}
	}
	if got := stats.Human(s.Median()); got != "-" {
		t.Errorf("got %q, want a dash", got)
	}
}

// Ratios are taken within a round, so that a machine that slows down from round to round
// does not look like a difference.
func TestSample_OverIsPaired(t *testing.T) {
	t.Parallel()
	got := stats.Sample{50, 30, 10}.Over(stats.Sample{100, 60, 20})
	if got.Min() != 0.5 || got.Max() != 0.5 || len(got) != 3 {
		t.Errorf("got %v, want 0.5 in each round", got)
	}
}

// The figures of a table must be readable without counting digits.
func TestHuman(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0.00", 0.0123: "0.0123", 0.546: "0.55", 3.14159: "3.14", 64.25: "64.2", 315: "315",
		99_999.7: "100,000", 1_234_567: "1,234,567", -4321: "-4,321",
	} {
		if got := stats.Human(v); got != want {
			t.Errorf("Human(%v): got %q, want %q", v, got, want)
		}
	}
}
