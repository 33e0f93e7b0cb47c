package report

import (
	"strings"
	"testing"
)

// An axis whose labels are not round, or too many to read, is worse than none.
func TestTicks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		low, high float64
		atMost    int
		want      string
	}{
		{0, 14331, 5, "0 5,000 10,000"},
		{0, 1, 5, "0.0 0.2 0.4 0.6 0.8 1.0"},
		{0, 0.03, 5, "0.00 0.01 0.02 0.03"},
		{0.036, 2.01, 8, "0.5 1.0 1.5 2.0"},
		{-3, 3, 3, "-2 0 2"},
		{0, 30, 8, "0 5 10 15 20 25 30"},
		{7, 7, 5, "7"},
	} {
		values, step := ticks(test.low, test.high, test.atMost)
		var labels []string
		for _, v := range values {
			labels = append(labels, tickLabel(v, step))
		}
		if got := strings.Join(labels, " "); got != test.want {
			t.Errorf("%v to %v: got %s, want %s", test.low, test.high, got, test.want)
		}
	}
}

// Bars begin at zero, because one that does not lies about proportions; only where the short ones
// could not be seen are they logarithmic, and then each has a length all the same.
func TestBarAxis(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values []float64
		log    bool
		want   string
	}{
		{[]float64{50, 100, 25}, false, "50.00% 100.00% 25.00%"},
		{[]float64{1, 100}, false, "1.00% 100.00%"},
		{[]float64{10, 20_000, 200}, true, "8.36% 100.00% 44.48%"},
		{[]float64{0, 10, 20_000}, true, "0.00% 8.36% 100.00%"},
		{[]float64{0, 0}, false, "0.00% 0.00%"},
		{nil, false, ""},
	} {
		scale := barAxis(test.values)
		var lengths []string
		for _, v := range test.values {
			lengths = append(lengths, scale.at(v).String())
		}
		if got := strings.Join(lengths, " "); got != test.want || scale.log != test.log {
			t.Errorf("%v: got %s, logarithmic %v", test.values, got, scale.log)
		}
	}
}
