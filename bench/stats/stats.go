// Package stats says what a handful of repeated measurements are worth: the median, and how
// far the rounds stray from it. A mean would let one bad round of a shared machine decide.
package stats

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Sample is what one figure was in each round.
type Sample []float64

// Median is the middle value, NaN of nothing.
func (s Sample) Median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Min is the smallest value, NaN of nothing.
func (s Sample) Min() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	return slices.Min(s)
}

// Max is the largest value, NaN of nothing.
func (s Sample) Max() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	return slices.Max(s)
}

// Spread is the median distance from the median, as a share of it: half of the rounds lie
// within median ± spread, and a single outlier does not move it. NaN of nothing.
func (s Sample) Spread() float64 {
	median := s.Median()
	if median == 0 {
		return 0
	}
	distances := make(Sample, len(s))
	for n, v := range s {
		distances[n] = math.Abs(v - median)
	}
	return distances.Median() / math.Abs(median)
}

// Over divides round by round: what drifts in both cancels out.
func (s Sample) Over(other Sample) Sample {
	ratios := make(Sample, min(len(s), len(other)))
	for n := range ratios {
		ratios[n] = s[n] / other[n]
	}
	return ratios
}

// Human writes a figure with three digits that matter and thousands separated.
func Human(v float64) string {
	switch abs := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case abs >= 1000:
		return thousands(int64(math.Round(v)))
	case abs >= 100:
		return fmt.Sprintf("%.0f", v)
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	case abs >= 0.1 || v == 0:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.4f", v)
	}
}

func thousands(n int64) string {
	if n < 0 {
		return "-" + thousands(-n)
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
