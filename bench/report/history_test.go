package report_test

import (
	"strings"
	"testing"

	"flashsale/bench/report"
	"flashsale/bench/stats"
)

// A benchmark that calls noise a regression is ignored soon, and one that calls a regression
// noise is worth nothing.
func TestCompare_Noise(t *testing.T) {
	t.Parallel()
	calm := stats.Sample{100, 101, 99, 102, 98}
	for name, test := range map[string]struct {
		old, latest stats.Sample
		better      report.Better
		trend       report.Trend
	}{
		"clearly more, more is better":      {calm, stats.Sample{110, 111, 109, 112, 108}, report.Higher, report.Improved},
		"clearly less, more is better":      {calm, stats.Sample{90, 91, 89, 92, 88}, report.Higher, report.Worsened},
		"clearly more, less is better":      {calm, stats.Sample{110, 111, 109, 112, 108}, report.Lower, report.Worsened},
		"clearly more, neither is better":   {calm, stats.Sample{110, 111, 109, 112, 108}, "", report.Moved},
		"the same":                          {calm, calm, report.Higher, report.Same},
		"all values alike":                  {stats.Sample{1, 1, 1, 1, 1}, stats.Sample{1, 1, 1, 1, 1}, report.Higher, report.Same},
		"two of five rounds overlap":        {calm, stats.Sample{101, 103, 99.5, 104, 100}, report.Higher, report.Same},
		"one bad round":                     {calm, stats.Sample{100, 101, 99, 40, 98}, report.Higher, report.Same},
		"ranked above, but within a spread": {stats.Sample{70, 80, 92, 99, 103}, stats.Sample{100, 101, 104, 110, 115}, report.Higher, report.Same},
		"too few rounds":                    {stats.Sample{100, 101, 99}, stats.Sample{200, 201, 199}, report.Higher, report.Unknown},
		"one round":                         {stats.Sample{100}, stats.Sample{50}, report.Higher, report.Unknown},
		"four rounds are just enough":       {stats.Sample{100, 101, 99, 100}, stats.Sample{120, 121, 119, 122}, report.Higher, report.Improved},
	} {
		old, latest := figures(test.old, test.better), figures(test.latest, test.better)
		changes := report.Compare(old, latest).Changes
		if len(changes) != 2 {
			t.Fatalf("%s: got %+v", name, changes)
		}
		for _, change := range changes {
			if change.Trend != test.trend {
				t.Errorf("%s: got %s (p %.3f), want %s", name, change.Trend, change.P, test.trend)
			}
		}
	}
}

// Only a promise that got worse by more than the noise may fail a build: not what got better,
// not what promises nothing, and nothing that was measured on another machine.
func TestCompare_Broken(t *testing.T) {
	t.Parallel()
	calm, slow := stats.Sample{100, 101, 99, 102, 98}, stats.Sample{90, 91, 89, 92, 88}
	old, latest := figures(calm, report.Higher), figures(slow, report.Higher)
	if broken := report.Compare(old, latest).Broken(); len(broken) != 1 || broken[0].Name != "ratio" {
		t.Errorf("worse: got %+v", broken)
	}
	if broken := report.Compare(latest, old).Broken(); len(broken) != 0 {
		t.Errorf("better: got %+v", broken)
	}
	latest.Parts[0].Figures[1].Bound = nil
	if broken := report.Compare(old, latest).Broken(); len(broken) != 0 {
		t.Errorf("promises nothing: got %+v", broken)
	}
}

// Figures of two machines say nothing of the program; ratios do. What does not compare is said.
func TestCompare_AnotherMachine(t *testing.T) {
	t.Parallel()
	old, latest := sample(), sample()
	latest.Host.Cores = 64
	latest.Parts[0].Settings = "64 connections"
	latest.Parts[0].Figures[0].Name = "renamed"
	latest.Parts[1].Name = "else"
	c := report.Compare(old, latest)
	for _, change := range c.Changes {
		if !change.Ratio {
			t.Errorf("%s compares", change.Name)
		}
	}
	text := written(t, c.WriteText)
	for _, want := range []string{
		"only ratios compare", "other settings: 64 connections; were: 256 connections", "renamed was not measured before",
		"accepted / bare is not measured any more", "else: was not measured before", "compare: is not measured any more",
	} {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
			t.Errorf("does not say %q:\n%s", want, text)
		}
	}
}

// On one machine the figures and the cells of tables are compared, and each line tells how much.
func TestComparison_WriteText(t *testing.T) {
	t.Parallel()
	old, latest := sample(), sample()
	figure := &latest.Parts[0].Figures[0]
	for n := range figure.Sample {
		figure.Sample[n] /= 2
	}
	text := written(t, report.Compare(old, latest).WriteText)
	for _, want := range []string{
		"ratios: accepted / bare", "-50.0%", "0.008", "WORSE, promised", "compare: row lock: orders (Strategies)", "unknown",
		"0 better, 1 worse",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "NaN") || strings.Index(text, "RATIO") > strings.Index(text, "FIGURE") {
		t.Errorf("got\n%s", text)
	}
}

// figures is a report of a promised ratio and of a figure that is measured alike.
func figures(s stats.Sample, better report.Better) *report.Report {
	r := &report.Report{Parts: []*report.Part{{Name: "part", Figures: []report.Figure{
		{Name: "figure", Better: better, Sample: s},
		{Name: "ratio", Better: better, Sample: s, Ratio: true, Bound: &report.Bound{Value: 1}},
	}}}}
	r.Host.CPU = "some CPU"
	return r
}
