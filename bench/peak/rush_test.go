package peak_test

import (
	"strings"
	"testing"
	"time"

	"flashsale/bench/peak"
)

// The whole must hold with the real engine: everybody gets an answer, the counts are true, and
// each figure and chart of the report is there.
func TestRush(t *testing.T) {
	t.Parallel()
	var progress strings.Builder
	part, err := peak.Rush(t.Context(), peak.RushConfig{
		Rate: 1000, Before: 20, Length: time.Second, Stock: 100, Rounds: 2, Connections: 32,
		Progress: &progress,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	if len(part.Failures) > 0 || part.Rounds != 2 {
		t.Errorf("failures: %q", part.Failures)
	}
	if len(part.Notes) != 1 || !strings.Contains(part.Notes[0], "no item is oversold") {
		t.Errorf("the audit is missing: %q", part.Notes)
	}
	for _, figure := range part.Figures {
		if len(figure.Sample) != 2 || figure.Sample.Min() < 0 {
			t.Errorf("%s: %v", figure.Name, figure.Sample)
		}
	}
	lines := make(map[string][][2]float64)
	for _, chart := range part.Charts {
		for _, line := range chart.Lines {
			lines[line.Name] = line.Points
		}
	}
	for _, name := range []string{"accepted", "sold_out", "p50", "p99", "waiting in the stream", "persisted"} {
		if len(lines[name]) == 0 {
			t.Errorf("there is no line %q", name)
		}
	}
	if points := lines["persisted"]; len(points) > 0 && points[len(points)-1][1] != 100 {
		t.Errorf("the line does not end with all units persisted: %v", points[len(points)-1])
	}
	if points := lines["waiting in the stream"]; len(points) > 0 && points[len(points)-1][1] != 0 {
		t.Errorf("the line does not end with a drained stream: %v", points[len(points)-1])
	}
}

// A rush that nothing is sold out in is none.
func TestRush_Validate(t *testing.T) {
	t.Parallel()
	for _, c := range []peak.RushConfig{
		{Rate: 100, Length: time.Second, Stock: 200}, {Stock: -1}, {Rounds: -1}, {Before: -1}, {Rate: -1},
	} {
		if _, err := peak.Rush(t.Context(), c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}
