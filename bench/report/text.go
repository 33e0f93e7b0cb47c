package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"flashsale/bench/stats"
)

// textWidth is where prose breaks on a terminal.
const textWidth = 100

// WriteText writes the whole run for a terminal: where it ran, each part, and the verdict last,
// because that is where the cursor is.
func (r *Report) WriteText(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "\n%s\ntook      %s\n", r.Host, r.Took.Round(time.Second))
	for _, part := range r.Parts {
		part.write(&text, r.Quick)
	}
	verdict := r.Verdict()
	fmt.Fprintf(&text, "\n%s  %s\n", strings.ToUpper(verdict.Word), verdict.Why)
	for _, line := range append(slices.Clone(verdict.Failures), verdict.Missed...) {
		fmt.Fprintf(&text, "  %s\n", indent(line, "    "))
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// WriteText writes a part on its own for a terminal.
func (p *Part) WriteText(out io.Writer) error {
	var text strings.Builder
	p.write(&text, false)
	_, err := io.WriteString(out, text.String())
	return err
}

func (p *Part) write(text *strings.Builder, quick bool) {
	fmt.Fprintf(text, "\n── %s %s\n", p.Title, strings.Repeat("─", max(0, textWidth-4-utf8.RuneCountInString(p.Title))))
	if p.About != "" {
		fmt.Fprintln(text, wrap(p.About, textWidth))
	}
	if p.Settings != "" {
		fmt.Fprintf(text, "settings  %s\n", indent(wrap(p.Settings, textWidth-10), "          "))
	}
	if p.Rounds > 0 {
		fmt.Fprintf(text, "rounds    %d\n", p.Rounds)
	}
	p.writeFigures(text, quick)
	for _, table := range p.Tables {
		table.write(text)
	}
	for _, chart := range p.Charts {
		chart.write(text)
	}
	for _, note := range p.Notes {
		fmt.Fprintf(text, "\n%s\n", strings.TrimSpace(note))
	}
	for _, failure := range p.Failures {
		fmt.Fprintf(text, "\nFAILED  %s\n", indent(failure, "        "))
	}
}

// writeFigures writes what travels to other machines, or is promised, before what does not.
func (p *Part) writeFigures(text *strings.Builder, quick bool) {
	promised := grid{{"RATIO", "MEDIAN", "SPREAD", "MIN", "MAX", ""}}
	others := grid{{"FIGURE, of this machine only", "MEDIAN", "SPREAD", "MIN", "MAX", ""}}
	for _, f := range p.Figures {
		if len(f.Sample) == 0 { // not among the candidates
			continue
		}
		row := []string{
			f.Name, human(f.Sample.Median()), spread(f.Sample),
			human(f.Sample.Min()), human(f.Sample.Max()),
		}
		if f.Ratio || f.Bound != nil {
			if f.Bound != nil {
				promised[0][len(row)] = "PROMISED"
			}
			promised = append(promised, append(row, f.promise(quick)))
		} else {
			others = append(others, append(row, f.Unit))
		}
	}
	name := max(promised.width(0), others.width(0)) // both tables in the same columns
	for _, g := range []grid{promised, others} {
		if len(g) > 1 {
			text.WriteByte('\n')
			g.write(text, name)
		}
	}
}

// promise tells the bound of a figure and whether it is kept.
func (f Figure) promise(quick bool) string {
	if f.Bound == nil {
		return f.Unit
	}
	return strings.TrimSpace(fmt.Sprintf("%-9s %s", f.Bound, f.verdict(quick)))
}

// verdict is whether the promise is kept: in capitals where it is not.
func (f Figure) verdict(quick bool) string {
	switch {
	case f.Bound == nil:
		return ""
	case quick:
		return "not judged"
	case f.Met():
		return "met"
	}
	return "MISSED"
}

// String is the bound as mathematics writes it.
func (b Bound) String() string {
	if b.AtMost {
		return "≤ " + human(b.Value)
	}
	return "≥ " + human(b.Value)
}

// human writes a figure for people: a count without decimals, a measurement with three digits.
func human(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1000 {
		return strconv.FormatFloat(v+0, 'f', 0, 64) // no zero with a sign
	}
	return stats.Human(v)
}

// spread tells that half of the rounds lie within the median and so many percent of it. One
// value has none.
func spread(s stats.Sample) string {
	if len(s) < 2 {
		return "-"
	}
	return fmt.Sprintf("±%.1f%%", 100*s.Spread())
}

func (t Table) write(text *strings.Builder) {
	head := []string{t.Title}
	for _, column := range t.Columns {
		head = append(head, column.heading())
	}
	g := grid{append(head, "")}
	for _, row := range t.Rows {
		cells := []string{row.Name}
		for n := range t.Columns {
			cells = append(cells, row.cell(n))
		}
		note := row.Note
		if row.Bad {
			note = "FAULT: " + note
		}
		g = append(g, append(cells, note))
	}
	text.WriteByte('\n')
	g.write(text, 0)
}

func (c Column) heading() string {
	switch {
	case c.Unit == "":
		return c.Name
	case strings.HasPrefix(c.Unit, "/"):
		return c.Name + c.Unit
	}
	return c.Name + ", " + c.Unit
}

// cell is what a row has in a column: the median, and how far the rounds stray.
func (r Row) cell(column int) string {
	if column >= len(r.Cells) || len(r.Cells[column]) == 0 {
		return ""
	}
	s := r.Cells[column]
	if len(s) < 2 {
		return human(s.Median())
	}
	return fmt.Sprintf("%s ±%.0f%%", human(s.Median()), 100*s.Spread())
}

// write draws each line of a chart in one row of text.
func (c Chart) write(text *strings.Builder) {
	g := grid{{c.Title + ", " + c.Unit, "FROM", "TO", "SECONDS", ""}}
	for _, line := range c.Lines {
		low, high := line.bounds(1)
		first, last := line.bounds(0)
		if low > high { // no points
			continue
		}
		g = append(g, []string{
			line.Name, human(low), human(high),
			human(first) + "–" + human(last), line.spark(40),
		})
	}
	text.WriteByte('\n')
	g.write(text, 0)
}

// spark is the line as so many blocks at most, from zero to its peak. Where several points fall on one block the
// highest is drawn: a peak is what one looks for.
func (l Line) spark(width int) string {
	const blocks = "▁▂▃▄▅▆▇█"
	steps := []rune(blocks)
	first, last := l.bounds(0)
	_, high := l.bounds(1)
	points := l.measured()
	width = min(width, len(points))
	peaks := make([]float64, width)
	for n := range peaks {
		peaks[n] = math.NaN()
	}
	for _, point := range points {
		at := 0
		if last > first {
			at = int((point[0] - first) / (last - first) * float64(width-1))
		}
		if math.IsNaN(peaks[at]) || peaks[at] < point[1] {
			peaks[at] = point[1]
		}
	}
	drawn := make([]rune, 0, width)
	for _, peak := range peaks {
		switch {
		case math.IsNaN(peak):
			drawn = append(drawn, ' ')
		case high <= 0:
			drawn = append(drawn, steps[0])
		default:
			drawn = append(drawn, steps[int(max(0, peak)/high*float64(len(steps)-1)+0.5)])
		}
	}
	return strings.TrimRight(string(drawn), " ")
}

// grid is rows of cells. The first column and the last hold words and begin at the left, those
// between hold figures and end at the right.
type grid [][]string

// width is that of a column.
func (g grid) width(column int) int {
	width := 0
	for _, row := range g {
		width = max(width, utf8.RuneCountInString(row[column]))
	}
	return width
}

// write sets the first column at least so wide.
func (g grid) write(text *strings.Builder, first int) {
	widths := make([]int, len(g[0]))
	for column := range widths {
		widths[column] = g.width(column)
	}
	widths[0] = max(widths[0], first)
	for _, row := range g {
		var line strings.Builder
		for column, cell := range row {
			pad := strings.Repeat(" ", max(0, widths[column]-utf8.RuneCountInString(cell)))
			switch column {
			case 0:
				line.WriteString(cell + pad)
			case len(row) - 1:
				line.WriteString("  " + cell)
			default:
				line.WriteString("  " + pad + cell)
			}
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// indent sets what follows the first line below it.
func indent(s, by string) string {
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n"+by)
}

// wrap breaks prose at blanks.
func wrap(prose string, width int) string {
	var text strings.Builder
	column := 0
	for _, word := range strings.Fields(prose) {
		length := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+length > width:
			text.WriteByte('\n')
			column = 0
		default:
			text.WriteByte(' ')
			column++
		}
		text.WriteString(word)
		column += length
	}
	return text.String()
}
