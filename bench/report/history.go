package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	mathstats "github.com/aclements/go-moremath/stats"

	"flashsale/bench/stats"
)

// significance is how often chance alone may make a difference that we would call one, before
// the medians are looked at.
const significance = 0.05

// Comparison is what has changed from one report to another.
type Comparison struct {
	Old, New    *Report
	SameMachine bool     // figures of one machine compare
	Changes     []Change // ratios first
	Remarks     []string // why some things do not compare
}

// Change is one figure, or one cell of a table, in both reports.
type Change struct {
	Part, Name, Unit string
	Better           Better
	Ratio            bool
	Promised         bool
	Old, New         stats.Sample
	P                float64 // how often chance alone makes two such samples; NaN of too few rounds
	Trend            Trend
}

// Trend is the verdict on a change.
type Trend string

// Trends.
const (
	Improved Trend = "better"
	Worsened Trend = "WORSE"
	Moved    Trend = "moved"   // beyond the noise, of what has no better and worse
	Same     Trend = "same"    // within the noise
	Unknown  Trend = "unknown" // too few rounds to tell
)

// Compare looks for everything that both reports have measured under the same names. Ratios
// compare always; figures of a machine only with figures of a machine like it.
func Compare(old, latest *Report) *Comparison {
	c := &Comparison{
		Old: old, New: latest,
		SameMachine: old.Host.CPU == latest.Host.CPU && old.Host.Cores == latest.Host.Cores,
	}
	if old.Quick || latest.Quick {
		c.Remarks = append(c.Remarks, "one of the reports is of a quick run, which measures once and shortly")
	}
	if !c.SameMachine {
		c.Remarks = append(c.Remarks, fmt.Sprintf("another machine (%s, %d cores; was %s, %d cores): only ratios compare",
			latest.Host.CPU, latest.Host.Cores, old.Host.CPU, old.Host.Cores))
	}
	var ratios, figures []Change
	for _, part := range latest.Parts {
		before := old.part(part.Name)
		if before == nil {
			c.Remarks = append(c.Remarks, part.Name+": was not measured before")
			continue
		}
		if before.Settings != part.Settings {
			c.Remarks = append(c.Remarks, fmt.Sprintf("%s: other settings: %s; were: %s", part.Name, part.Settings, before.Settings))
		}
		was := before.measured()
		now := part.measured()
		for _, name := range now.names {
			change := now.changes[name]
			if !was.has(name) {
				c.Remarks = append(c.Remarks, fmt.Sprintf("%s: %s was not measured before", part.Name, name))
				continue
			}
			change.Old = was.changes[name].New
			change.judge()
			if change.Ratio {
				ratios = append(ratios, change)
			} else if c.SameMachine {
				figures = append(figures, change)
			}
		}
		for _, name := range was.names {
			if !now.has(name) {
				c.Remarks = append(c.Remarks, fmt.Sprintf("%s: %s is not measured any more", part.Name, name))
			}
		}
	}
	for _, part := range old.Parts {
		if latest.part(part.Name) == nil {
			c.Remarks = append(c.Remarks, part.Name+": is not measured any more")
		}
	}
	c.Changes = slices.Concat(ratios, figures)
	return c
}

func (r *Report) part(name string) *Part {
	for _, part := range r.Parts {
		if part.Name == name {
			return part
		}
	}
	return nil
}

// measured is everything of a part that can be compared, by name and in order.
type measured struct {
	names   []string
	changes map[string]Change // without what was before
}

func (m *measured) has(name string) bool { _, ok := m.changes[name]; return ok }

func (m *measured) add(c Change) {
	if len(c.New) == 0 || m.has(c.Name) {
		return
	}
	m.names = append(m.names, c.Name)
	m.changes[c.Name] = c
}

func (p *Part) measured() *measured {
	m := &measured{changes: make(map[string]Change)}
	for _, f := range p.Figures {
		m.add(Change{
			Part: p.Name, Name: f.Name, Unit: f.Unit, Better: f.Better,
			Ratio: f.Ratio, Promised: f.Bound != nil, New: f.Sample,
		})
	}
	for _, table := range p.Tables {
		for _, row := range table.Rows {
			for n, column := range table.Columns {
				if n < len(row.Cells) && len(row.Cells[n]) > 1 { // one value, as of a profile, says nothing
					m.add(Change{
						Part: p.Name, Name: row.Name + ": " + column.Name + " (" + table.Title + ")",
						Unit: column.Unit, Better: column.Better, New: row.Cells[n],
					})
				}
			}
		}
	}
	return m
}

// judge tells a change from noise, by two tests that both must say so. Mann and Whitney's asks
// whether one report's rounds rank above the other's, exactly and with no assumption of how
// rounds are distributed; but with enough rounds it sees differences too small to matter. So
// the medians must also lie further apart than both spreads together.
func (c *Change) judge() {
	c.Trend, c.P = Same, math.NaN()
	if possible := 2 / choose(len(c.Old)+len(c.New), len(c.Old)); possible >= significance {
		c.Trend = Unknown
		return
	}
	result, err := mathstats.MannWhitneyUTest(c.Old, c.New, mathstats.LocationDiffers)
	if err != nil { // all values are alike
		c.P = 1
		return
	}
	c.P = result.P
	apart := c.New.Median() - c.Old.Median()
	noise := c.Old.Spread()*math.Abs(c.Old.Median()) + c.New.Spread()*math.Abs(c.New.Median())
	if c.P >= significance || math.Abs(apart) <= noise {
		return
	}
	switch {
	case c.Better == "":
		c.Trend = Moved
	case (apart > 0) == (c.Better == Higher):
		c.Trend = Improved
	default:
		c.Trend = Worsened
	}
}

// choose is how many ways there are to take k of n: of so many orders of the rounds, two are the
// most extreme.
func choose(n, k int) float64 {
	ways := 1.0
	for i := 1; i <= k; i++ {
		ways *= float64(n-k+i) / float64(i)
	}
	return ways
}

// Percent is how much the median has grown.
func (c Change) Percent() float64 {
	return 100 * (c.New.Median() - c.Old.Median()) / math.Abs(c.Old.Median())
}

// Broken lists what was promised and got worse by more than the noise.
func (c *Comparison) Broken() []Change {
	var broken []Change
	for _, change := range c.Changes {
		if change.Promised && change.Trend == Worsened {
			broken = append(broken, change)
		}
	}
	return broken
}

// WriteText writes the comparison for a terminal.
func (c *Comparison) WriteText(out io.Writer) error {
	var text strings.Builder
	for n, r := range []*Report{c.Old, c.New} {
		fmt.Fprintf(&text, "%s  %s, commit %s, %s, %d cores\n", [...]string{"old", "new"}[n],
			r.Host.Time.Format(time.RFC3339), r.Host.Commit, r.Host.CPU, r.Host.Cores)
	}
	for _, remark := range c.Remarks {
		fmt.Fprintf(&text, "note %s\n", indent(wrap(remark, textWidth-5), "     "))
	}
	counts := make(map[Trend]int)
	const ratio, figure = "RATIO", "FIGURE, of this machine only"
	tables := map[string]grid{}
	for _, change := range c.Changes {
		counts[change.Trend]++
		table := figure
		if change.Ratio {
			table = ratio
		}
		if tables[table] == nil {
			tables[table] = grid{{table, "OLD", "NEW", "CHANGE", "P", ""}}
		}
		tables[table] = append(tables[table], change.row())
	}
	width := 0
	for _, g := range tables {
		width = max(width, g.width(0))
	}
	for _, name := range []string{ratio, figure} {
		if g := tables[name]; g != nil {
			text.WriteByte('\n')
			g.write(&text, width)
		}
	}
	fmt.Fprintf(&text, "\n%d better, %d worse, %d moved, %d same, %d unknown\n", counts[Improved], counts[Worsened],
		counts[Moved], counts[Same], counts[Unknown])
	fmt.Fprintln(&text, wrap("A difference counts when chance alone makes it less than once in twenty "+
		"(Mann-Whitney U, exact, P < 0.05) and the medians lie further apart than both spreads. Of many "+
		"comparisons a few differ by chance: look for those that stay when both are measured again.", textWidth))
	_, err := io.WriteString(out, text.String())
	return err
}

func (c Change) row() []string {
	change, p := "-", "-"
	if percent := c.Percent(); !math.IsNaN(percent) && !math.IsInf(percent, 0) {
		change = fmt.Sprintf("%+.1f%%", percent)
	}
	if !math.IsNaN(c.P) {
		p = fmt.Sprintf("%.3f", c.P)
	}
	verdict := string(c.Trend)
	if c.Promised {
		verdict += ", promised"
	}
	return []string{
		c.Part + ": " + c.Name, human(c.Old.Median()), human(c.New.Median()), change, p,
		strings.TrimSpace(fmt.Sprintf("%-8s %s", verdict, c.Unit)),
	}
}
