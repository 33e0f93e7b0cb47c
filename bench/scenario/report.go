package scenario

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// WriteText writes the verdict for a person.
func (r *Result) WriteText(out io.Writer) error {
	verdict := "pass"
	if !r.OK() {
		verdict = "FAIL"
	}
	var counts []string
	for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
		counts = append(counts, fmt.Sprintf("%s %d", name, r.Counts[name]))
	}
	if _, err := fmt.Fprintf(out, "%s  %-9s  %s\n                 p50 %.1f ms, p99 %.1f ms as k6 saw it; k6 itself was late by %.1f ms (p99)\n",
		verdict, r.Scene, strings.Join(counts, ", "), r.Latency["med"], r.Latency["p(99)"], r.Late); err != nil {
		return err
	}
	for _, failure := range r.Failures {
		if _, err := fmt.Fprintf(out, "      %s\n", strings.TrimSpace(failure)); err != nil {
			return err
		}
	}
	return nil
}
