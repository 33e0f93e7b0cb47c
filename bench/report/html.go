package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"
)

var (
	//go:embed page.html
	pageText string
	//go:embed page.css
	pageStyle string

	page = template.Must(template.New("page").Parse(pageText))
)

// WriteHTML writes the report as one file, which fetches nothing: no script, no font, no image.
func (r *Report) WriteHTML(out io.Writer) error {
	verdict := r.Verdict()
	view := pageView{
		Report: r, Verdict: verdict, Style: template.CSS(pageStyle), //nolint:gosec // embedded
		Why: strings.ToUpper(verdict.Why[:1]) + verdict.Why[1:],
		Facts: [][2]string{
			{"Machine", fmt.Sprintf("%s, %d cores, %.0f GiB", r.Host.CPU, r.Host.Cores, r.Host.MemoryGiB)},
			{"System", fmt.Sprintf("Linux %s, data on %s", r.Host.Kernel, r.Host.Filesystem)},
			{"Versions", strings.Join([]string{r.Host.Go, r.Host.Redis, r.Host.Postgres}, ", ")},
			{"Commit", r.Host.Commit},
			{"Command", r.Host.Command},
			{"Time", fmt.Sprintf("%s, took %s", r.Host.Time.Format("2006-01-02 15:04 MST"), r.Took.Round(time.Second))},
			{"Conditions", fmt.Sprintf("priority %s, load %s before it began", r.Host.Priority, r.Host.Load)},
		},
	}
	for _, part := range r.Parts {
		view.Parts = append(view.Parts, part.view(r.Quick))
	}
	if err := page.Execute(out, view); err != nil {
		return fmt.Errorf("write the report as HTML: %w", err)
	}
	return nil
}

// pageView is what page.html shows. It computes nothing itself.
type pageView struct {
	*Report
	Verdict Verdict
	Why     string
	Style   template.CSS
	Facts   [][2]string
	Parts   []partView
}

type partView struct {
	*Part
	Bars    []bar       // figures that travel, or are promised
	Figures []figureRow // the others
	Tables  []tableView
	Plots   []plot
}

func (p *Part) view(quick bool) partView {
	view := partView{Part: p}
	for _, f := range p.Figures {
		switch {
		case len(f.Sample) == 0: // not among the candidates
		case f.Ratio || f.Bound != nil:
			view.Bars = append(view.Bars, f.bar(p.scale(f), quick))
		default:
			view.Figures = append(view.Figures, f.row())
		}
	}
	for _, table := range p.Tables {
		view.Tables = append(view.Tables, table.view())
	}
	for _, chart := range p.Charts {
		view.Plots = append(view.Plots, chart.plot())
	}
	return view
}

// figureRow is a figure in words.
type figureRow struct {
	Name, Unit                string
	Median, Spread, Low, High string
}

func (f Figure) row() figureRow {
	return figureRow{
		Name: f.Name, Unit: f.Unit, Median: human(f.Sample.Median()), Spread: spread(f.Sample),
		Low: human(f.Sample.Min()), High: human(f.Sample.Max()),
	}
}

// bar is a figure as a bar to its median, with its rounds as dots on a whisker.
type bar struct {
	figureRow
	Promise string
	Verdict string
	Missed  bool
	Judged  bool

	Width    percent
	From, To percent
	Dots     []percent
	BoundAt  *percent
	OneAt    *percent // where both sides of a ratio are alike
}

// scale is the axis of a figure's bar. What is promised has its own; shares of one kind that
// promise nothing have one together, so that their bars compare.
func (p *Part) scale(f Figure) axis {
	if f.Bound != nil {
		reach := max(f.Sample.Max(), f.Bound.Value)
		if f.Ratio && reach > 0.3 { // a share of something: show the whole
			reach = max(reach, 1)
		}
		return barAxis([]float64{headroom * reach})
	}
	values := []float64{headroom} // of the whole
	for _, other := range p.Figures {
		if other.Ratio && other.Bound == nil && other.Unit == f.Unit && len(other.Sample) > 0 {
			values = append(values, headroom*other.Sample.Median(), headroom*other.Sample.Max())
		}
	}
	return barAxis(values)
}

// headroom is what an axis reaches beyond the longest bar.
const headroom = 1.04

func (f Figure) bar(scale axis, quick bool) bar {
	b := bar{
		figureRow: f.row(), Verdict: f.verdict(quick), Missed: !quick && !f.Met(), Judged: f.Bound != nil && !quick,
		Width: scale.at(f.Sample.Median()), From: scale.at(f.Sample.Min()), To: scale.at(f.Sample.Max()),
	}
	if len(f.Sample) > 1 {
		for _, v := range f.Sample {
			b.Dots = append(b.Dots, scale.at(v))
		}
	}
	if f.Bound != nil {
		at := scale.at(f.Bound.Value)
		b.Promise, b.BoundAt = f.Bound.String(), &at
	}
	if f.Ratio && scale.low < 1 && scale.high >= 1 {
		at := scale.at(1)
		b.OneAt = &at
	}
	return b
}

// wideFrom is how many columns stand below the text without a break.
const wideFrom = 6

// tableView is a table with a bar in each cell.
type tableView struct {
	Title   string
	Columns []columnView
	Rows    []rowView
	Log     bool // of some column
	Wide    bool
	Span    int // of a remark: all columns
}

type columnView struct {
	Column
	Log bool
}

type rowView struct {
	Row
	Cells []cellView
}

type cellView struct {
	Heading string // of its column, for a phone, where cells stand below each other
	Text    string
	Spread  string
	Width   percent
	Best    bool
	Empty   bool
}

func (t Table) view() tableView {
	view := tableView{Title: t.Title, Rows: make([]rowView, len(t.Rows)), Wide: len(t.Columns) > wideFrom, Span: len(t.Columns) + 1}
	for n, row := range t.Rows {
		view.Rows[n].Row = row
	}
	for n, column := range t.Columns {
		var medians []float64
		for _, row := range t.Rows {
			if n < len(row.Cells) && len(row.Cells[n]) > 0 {
				medians = append(medians, row.Cells[n].Median())
			}
		}
		scale := barAxis(medians)
		view.Columns = append(view.Columns, columnView{Column: column, Log: scale.log})
		view.Log = view.Log || scale.log
		for i, row := range t.Rows {
			cell := cellView{Heading: column.heading(), Empty: true}
			if n < len(row.Cells) && len(row.Cells[n]) > 0 {
				s := row.Cells[n]
				cell = cellView{
					Heading: column.heading(), Text: human(s.Median()),
					Width: scale.at(s.Median()), Best: column.best(s.Median(), medians) && !row.Bad,
				}
				if len(s) > 1 {
					cell.Spread = spread(s)
				}
			}
			view.Rows[i].Cells = append(view.Rows[i].Cells, cell)
		}
	}
	return view
}

// best reports whether a value is the best of several.
func (c Column) best(v float64, of []float64) bool {
	switch {
	case len(of) < 2:
		return false
	case c.Better == Higher:
		return v == slices.Max(of)
	case c.Better == Lower:
		return v == slices.Min(of)
	}
	return false
}
