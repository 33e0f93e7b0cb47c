package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"flashsale/bench/host"
	"flashsale/bench/report"
	"flashsale/bench/stats"
)

// sample is a report with one of everything.
func sample() *report.Report {
	crowd := report.Line{Name: "requests"}
	for n := range 120 {
		crowd.Points = append(crowd.Points, [2]float64{float64(n) / 4, 9000 * math.Exp(-float64(n)/20)})
	}
	crowd.Points[50][1] = math.NaN() // a second that was not measured
	return &report.Report{
		Host: host.Facts{
			Time: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Command: "bench all", Commit: "0123456789ab",
			CPU: "Some CPU", Cores: 2, MemoryGiB: 8, Kernel: "6.1", Filesystem: "ext4", Priority: "nice 0",
			Load: "0.10", Go: "go1.26", Redis: "Redis 7.0", Postgres: "PostgreSQL 15.1",
		},
		Took: 12 * time.Minute,
		Parts: []*report.Part{
			{
				Name: "ratios", Title: "What is promised", About: "In rounds.", Settings: "256 connections", Rounds: 5,
				Figures: []report.Figure{
					{
						Name: "accepted / bare", Better: report.Higher, Ratio: true, Bound: &report.Bound{Value: 0.55},
						Sample: stats.Sample{0.58, 0.59, 0.61, 0.6, 0.6},
					},
					{
						Name: "scripts an order", Better: report.Lower, Ratio: true,
						Bound: &report.Bound{Value: 0.03, AtMost: true}, Sample: stats.Sample{0.04, 0.05, 0.04, 0.041, 0.04},
					},
					{Name: "share of the limit", Better: report.Higher, Ratio: true, Sample: stats.Sample{0.8}},
					{Name: "accepted", Unit: "answers/s", Better: report.Higher, Sample: stats.Sample{61234, 60000, 60500}},
					{Name: "never measured", Unit: "answers/s"},
				},
				Notes: []string{"ok  no item is oversold"},
			},
			{
				Name: "compare", Title: "Beside other ways",
				Tables: []report.Table{{
					Title: "Strategies",
					Columns: []report.Column{
						{Name: "orders", Unit: "/s", Better: report.Higher}, {Name: "p99", Unit: "ms", Better: report.Lower},
					},
					Rows: []report.Row{
						{Name: "group commit", About: "ours", Cells: []stats.Sample{{300_000, 310_000, 305_000}, {4, 5, 6}}},
						{Name: "row lock", Cells: []stats.Sample{{900, 950, 1000}, {}}, Note: "waits"},
						{Name: "read then write", Cells: []stats.Sample{{1200}}, Note: "oversold by 12", Bad: true},
					},
				}},
				Charts: []report.Chart{{Title: "The opening second", Unit: "requests/s", Lines: []report.Line{
					crowd, {Name: "nothing"}, {Name: "flat", Points: [][2]float64{{0, 0}, {30, 0}}},
				}}},
			},
		},
	}
}

// On a terminal everything must be said that decides: what is promised and missed, faults, and
// the figures of each candidate.
func TestReport_WriteText(t *testing.T) {
	t.Parallel()
	r := sample()
	text := written(t, r.WriteText)
	for _, want := range []string{
		"RATIO", "accepted / bare ", "0.60", "≥ 0.55", " met", "≤ 0.03", "MISSED", "61,234", "answers/s",
		"group commit", "305,000 ±2%", "FAULT: oversold by 12", "The opening second, requests/s", "█",
		"no item is oversold", "1 of 2 promises are not kept", "ratios: scripts an order is 0.04",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q:\n%s", want, text)
		}
	}
	for _, never := range []string{"NaN", "Inf", "never measured"} {
		if strings.Contains(text, never) {
			t.Errorf("says %q:\n%s", never, text)
		}
	}
	if part := written(t, r.Parts[0].WriteText); !strings.Contains(text, part) {
		t.Errorf("a part on its own reads differently:\n%s", part)
	}
}

// A quick run must not be mistaken for a verdict on speed; a fault outweighs everything.
func TestReport_Verdict(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(r *report.Report)
		word   string
		ok     bool
		missed int
	}{
		"a promise is missed": {func(*report.Report) {}, "missed", true, 1},
		"all are kept": {func(r *report.Report) {
			r.Parts[0].Figures[1].Bound.Value = 0.05
		}, "passed", true, 0},
		"what was not measured was not missed": {func(r *report.Report) {
			r.Parts[0].Figures[1].Sample = nil
		}, "passed", true, 0},
		"quick":   {func(r *report.Report) { r.Quick = true }, "measured", true, 0},
		"a fault": {func(r *report.Report) { r.Parts[1].Failures = []string{"oversold"} }, "failed", false, 1},
		"a fault of a quick run": {func(r *report.Report) {
			r.Quick, r.Parts[1].Failures = true, []string{"oversold"}
		}, "failed", false, 0},
	} {
		r := sample()
		test.change(r)
		if v := r.Verdict(); v.Word != test.word || r.OK() != test.ok || len(r.Missed()) != test.missed || len(v.Missed) != test.missed {
			t.Errorf("%s: %+v, ok is %v, missed %d", name, v, r.OK(), len(r.Missed()))
		}
		if text := written(t, r.WriteText); !strings.Contains(text, strings.ToUpper(test.word)) ||
			strings.Contains(text, "MISSED") != (!r.Quick && test.missed > 0) {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}

// The promise is of the median, and each kind of bound is missed on its own side only.
func TestFigure_Met(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		median float64
		atMost bool
		met    bool
	}{
		{0.54, false, false},
		{0.55, false, true},
		{0.56, false, true},
		{0.54, true, true},
		{0.55, true, true},
		{0.56, true, false},
	} {
		f := report.Figure{Bound: &report.Bound{Value: 0.55, AtMost: test.atMost}, Sample: stats.Sample{9, test.median, 0}}
		if f.Met() != test.met {
			t.Errorf("%v at most %v: met is %v", test.median, test.atMost, f.Met())
		}
	}
}

// The page must be whole, must say everything and must not ask the network for anything.
func TestReport_WriteHTML(t *testing.T) {
	t.Parallel()
	page := written(t, sample().WriteHTML)
	wellFormed(t, page)
	for _, want := range []string{
		"Promises missed", "accepted / bare", "scripts an order", "share of the limit", "61,234", "✗ MISSED", "✓ met",
		"group commit", "oversold by 12", "The opening second", "no item is oversold", "0123456789ab", "bench all",
		"Some CPU", "12m0s", "<polyline", "prefers-color-scheme", "(log)",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("does not say %q", want)
		}
	}
	for _, never := range []string{"NaN", "Inf%", "+Inf", "http:", "https:", "//fonts", "<script", "@import", "url(", "ZgotmplZ", "never measured"} {
		if strings.Contains(page, never) {
			t.Errorf("says %q", never)
		}
	}
}

// Names come from measurements, which may be of somebody else's server: none becomes markup.
func TestReport_WriteHTML_Escapes(t *testing.T) {
	t.Parallel()
	const hostile = `"><script>alert(1)</script><svg onload='x'>]]>`
	r := sample()
	r.Host.Command, r.Host.CPU = hostile, hostile
	part := r.Parts[0]
	part.Name, part.Title, part.About, part.Settings = hostile, hostile, hostile, hostile
	part.Notes, part.Failures = []string{hostile}, []string{hostile}
	part.Figures[0].Name, part.Figures[3].Unit = hostile, hostile
	table, chart := &r.Parts[1].Tables[0], &r.Parts[1].Charts[0]
	table.Title, table.Columns[0].Name, table.Rows[0].Name, table.Rows[1].Note = hostile, hostile, hostile, hostile
	chart.Title, chart.Unit, chart.Lines[0].Name = hostile, hostile, hostile
	page := written(t, r.WriteHTML)
	wellFormed(t, page)
	for _, never := range []string{"<script", "<svg onload", "ZgotmplZ"} {
		if strings.Contains(page, never) {
			t.Errorf("%q has become markup", never)
		}
	}
}

// A report of nothing, and one whose candidates were all left out, must still be a page.
func TestReport_Empty(t *testing.T) {
	t.Parallel()
	for _, r := range []*report.Report{
		{},
		{Parts: []*report.Part{{
			Name: "p", Title: "P", Figures: []report.Figure{{Name: "f"}},
			Tables: []report.Table{{Title: "t", Columns: []report.Column{{Name: "c"}}, Rows: []report.Row{{Name: "r"}}}},
			Charts: []report.Chart{{Title: "c", Lines: []report.Line{{Name: "l"}, {Name: "one", Points: [][2]float64{{5, 5}}}}}},
		}}},
		{Parts: []*report.Part{{Figures: []report.Figure{{Name: "zero", Ratio: true, Sample: stats.Sample{0, 0}, Bound: &report.Bound{}}}}}},
	} {
		page := written(t, r.WriteHTML)
		wellFormed(t, page)
		text := written(t, r.WriteText)
		if strings.Contains(page+text, "NaN") || strings.Contains(page+text, "Inf") {
			t.Errorf("a figure is missing:\n%s\n%s", text, page)
		}
	}
}

// What is written can be read again, or reports of two days could not be compared.
func TestReport_JSON(t *testing.T) {
	t.Parallel()
	r := sample()
	r.Parts[1].Charts[0].Lines[0].Points[50][1] = 1 // JSON knows no NaN
	path := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(path, []byte(written(t, r.WriteJSON)), 0o600); err != nil {
		t.Fatal(err)
	}
	read, err := report.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	r.Parts[0].Figures[4].Sample, r.Parts[1].Charts[0].Lines[1].Points = read.Parts[0].Figures[4].Sample, nil
	if !reflect.DeepEqual(read, r) {
		t.Errorf("got %+v\nwant %+v", read, r)
	}
	for name, text := range map[string]string{"no JSON": "{", "another program's": `{"figures": []}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := report.Read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func written(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var out bytes.Buffer
	if err := write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// wellFormed checks that every tag is closed in order: a browser would mend what is not, and
// show something else.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(page))
	decoder.Entity = xml.HTMLEntity
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Errorf("the page is malformed: %v\n%s", err, page)
			return
		}
	}
}
