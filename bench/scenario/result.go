package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"flashsale/bench/report"
	"flashsale/bench/stats"
	"flashsale/bench/xflash"
)

// Result is what came of a scene.
type Result struct {
	Scene, About string
	Rate         int // iterations begun each second; 0: one after the other
	Seconds      int // at that rate
	Stock        int64
	Took         time.Duration
	Counts       map[string]int64   // what the crowd was told, and how often it asked
	Latency      map[string]float64 // of a purchase in ms, as k6 saw it
	Late         *float64           // ms that k6 itself began late, p99; nil where it was not noted
	Timeline     *xflash.Timeline
	Proof        string // what the counts were compared with
	Audit        string // as it was said; "" where there was none
	Failures     []string
}

// OK tells whether every threshold held and every count agreed.
func (r *Result) OK() bool { return len(r.Failures) == 0 }

// String is the verdict in a line.
func (r *Result) String() string {
	verdict := "pass"
	if !r.OK() {
		verdict = "FAIL"
	}
	var counts []string
	for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
		counts = append(counts, fmt.Sprintf("%s %d", name, r.Counts[name]))
	}
	return fmt.Sprintf("%s: %s, %s", r.Scene, verdict, strings.Join(counts, ", "))
}

// columns are of the table in which scenes stand side by side.
var columns = []report.Column{
	{Name: "requests"},
	{Name: "accepted"},
	{Name: "sold_out"},
	{Name: "duplicate"},
	{Name: "p50", Unit: "ms", Better: report.Lower},
	{Name: "p99", Unit: "ms", Better: report.Lower},
	{Name: "k6 late p99", Unit: "ms", Better: report.Lower},
}

func newPart(c Config, results []*Result) *report.Part {
	part := &report.Part{
		Name:  "scenarios",
		Title: "Scenarios",
		About: "k6 plays shoppers; the thresholds of each scenario judge. What the crowd was told is then compared " +
			"with what Redis accepted and has left, with the live orders of the ledger and, where it was paid, with the money, " +
			"and the audit must find every invariant whole. Latencies are as k6 saw them, which here costs more than the engine.",
		Settings: c.settings(),
	}
	table := report.Table{Title: "scenes", Columns: columns}
	for _, result := range results {
		table.Rows = append(table.Rows, result.row())
		part.Charts = append(part.Charts, result.charts()...)
		part.Notes = append(part.Notes, fmt.Sprintf("%s: %s", result.Scene, result.Proof))
		for _, failure := range result.Failures {
			part.Failures = append(part.Failures, result.Scene+": "+failure)
		}
	}
	part.Tables = []report.Table{table}
	if last := results[len(results)-1]; last.Audit != "" {
		part.Notes = append(part.Notes, "the last audit:\n"+last.Audit)
	}
	return part
}

func (r *Result) row() report.Row {
	row := report.Row{Name: r.Scene, About: r.About, Note: "pass", Bad: !r.OK()}
	if row.Bad {
		row.Note = fmt.Sprintf("failures: %d", len(r.Failures))
	}
	for _, name := range []string{"requests", "accepted", "sold_out", "duplicate"} {
		row.Cells = append(row.Cells, stats.Sample{float64(r.Counts[name])})
	}
	for _, name := range []string{"med", "p(99)"} {
		row.Cells = append(row.Cells, stats.Sample{r.Latency[name]})
	}
	if r.Late == nil {
		row.Cells = append(row.Cells, nil)
	} else {
		row.Cells = append(row.Cells, stats.Sample{*r.Late})
	}
	return row
}

// charts show what happened when, of a scene with a crowd.
func (r *Result) charts() []report.Chart {
	if scene, _ := find(r.Scene); !scene.crowded {
		return nil
	}
	second := r.Timeline.Every.Seconds()
	answers := report.Chart{Title: r.Scene + ": what shoppers were told", Unit: "answers/s"}
	for _, name := range slices.Sorted(maps.Keys(r.Timeline.Counts)) {
		line := report.Line{Name: name}
		for n, count := range r.Timeline.Counts[name] {
			line.Points = append(line.Points, [2]float64{float64(n) * second, float64(count) / second})
		}
		answers.Lines = append(answers.Lines, line)
	}
	latency := report.Chart{Title: r.Scene + ": latency of a purchase", Unit: "ms"}
	for _, series := range []struct {
		name   string
		values []*float64
	}{{"p50", r.Timeline.P50}, {"p99", r.Timeline.P99}} {
		line := report.Line{Name: series.name}
		for n, value := range series.values {
			if value != nil {
				line.Points = append(line.Points, [2]float64{float64(n) * second, *value})
			}
		}
		latency.Lines = append(latency.Lines, line)
	}
	return []report.Chart{answers, latency}
}
