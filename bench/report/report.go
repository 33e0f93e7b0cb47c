package report

import (
	"time"

	"flashsale/bench/host"
	"flashsale/bench/stats"
)

// Report is one run of the suite.
type Report struct {
	Host  host.Facts    `json:"host"`
	Quick bool          `json:"quick"` // once and shortly: judges nothing
	Took  time.Duration `json:"took_ns"`
	Parts []*Part       `json:"parts"`
}

// Part is what one measurement found.
type Part struct {
	Name     string   `json:"name"` // stable: parts of two reports are compared by it
	Title    string   `json:"title"`
	About    string   `json:"about,omitempty"`    // how it was measured
	Settings string   `json:"settings,omitempty"` // of this run
	Rounds   int      `json:"rounds,omitempty"`
	Figures  []Figure `json:"figures,omitempty"`
	Tables   []Table  `json:"tables,omitempty"`
	Charts   []Chart  `json:"charts,omitempty"`
	Notes    []string `json:"notes,omitempty"`    // such as the audit, as it was printed
	Failures []string `json:"failures,omitempty"` // any: what was measured was not true, or a threshold broke
}

// Better tells which way a figure improves.
type Better string

// Directions. The empty one makes no difference a better or a worse one.
const (
	Higher Better = "higher"
	Lower  Better = "lower"
)

// Figure is one thing that was measured, a value a round.
type Figure struct {
	Name   string       `json:"name"` // stable within its part
	Unit   string       `json:"unit,omitempty"`
	Better Better       `json:"better,omitempty"`
	Bound  *Bound       `json:"bound,omitempty"` // what is promised of the median
	Ratio  bool         `json:"ratio,omitempty"` // travels to other machines; the others do not
	Sample stats.Sample `json:"sample"`
}

// Bound is a floor, or a ceiling.
type Bound struct {
	Value  float64 `json:"value"`
	AtMost bool    `json:"at_most,omitempty"`
}

// Met reports whether the promise is kept. What was promised nothing, or not measured, is.
func (f Figure) Met() bool {
	switch {
	case f.Bound == nil || len(f.Sample) == 0:
		return true
	case f.Bound.AtMost:
		return f.Sample.Median() <= f.Bound.Value
	}
	return f.Sample.Median() >= f.Bound.Value
}

// Table sets candidates side by side.
type Table struct {
	Title   string   `json:"title"`
	Columns []Column `json:"columns"`
	Rows    []Row    `json:"rows"`
}

// Column is one thing measured of every candidate.
type Column struct {
	Name   string `json:"name"`
	Unit   string `json:"unit,omitempty"`
	Better Better `json:"better,omitempty"`
}

// Row is one candidate: a sample a column, empty where it has none.
type Row struct {
	Name  string         `json:"name"`
	About string         `json:"about,omitempty"`
	Cells []stats.Sample `json:"cells"`
	Note  string         `json:"note,omitempty"` // such as "oversold by 12"
	Bad   bool           `json:"bad,omitempty"`  // the note is a fault
}

// Chart is something over time.
type Chart struct {
	Title string `json:"title"`
	Unit  string `json:"unit"` // of the values
	Lines []Line `json:"lines"`
}

// Line is one series of a chart.
type Line struct {
	Name   string       `json:"name"`
	Points [][2]float64 `json:"points"` // seconds since the start, value
}

// OK reports whether everything that was measured was also true. Missed bounds are another
// matter: see [Report.Missed].
func (r *Report) OK() bool {
	for _, part := range r.Parts {
		if len(part.Failures) > 0 {
			return false
		}
	}
	return true
}

// Missed lists the promises that are not kept. A quick run judges nothing.
func (r *Report) Missed() []Figure {
	var missed []Figure
	for _, part := range r.Parts {
		for _, figure := range part.Figures {
			if !r.Quick && !figure.Met() {
				missed = append(missed, figure)
			}
		}
	}
	return missed
}
