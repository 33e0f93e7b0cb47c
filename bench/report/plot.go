package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Everything horizontal is drawn in percent of what width there is, so that a picture fits a
// phone as well as a page and its text is never scaled.

// percent is a place or a length on the horizontal axis.
type percent float64

// String is the percentage as SVG takes it.
func (p percent) String() string { return strconv.FormatFloat(float64(p), 'f', 2, 64) + "%" }

// axis maps values to the horizontal axis.
type axis struct {
	low, high float64
	log       bool
}

// at is where a value stands, never outside of the picture.
func (a axis) at(v float64) percent {
	low, high := a.low, a.high
	if a.log {
		low, high, v = math.Log10(low), math.Log10(high), math.Log10(max(v, low))
	}
	share := (v - low) / (high - low)
	if math.IsNaN(share) {
		return 0
	}
	return percent(100 * min(1, max(0, share)))
}

// logFrom is the range from which on bars are drawn on a logarithmic axis: the shorter ones
// would not be seen on another.
const logFrom = 100

// barAxis is an axis for bars of these lengths. Bars begin at zero, or where values differ by
// orders of magnitude a bit below the least.
func barAxis(values []float64) axis {
	low, high := math.Inf(1), 0.0
	for _, v := range values {
		if v > 0 && !math.IsInf(v, 0) {
			low, high = min(low, v), max(high, v)
		}
	}
	switch {
	case high == 0:
		return axis{high: 1}
	case high/low > logFrom:
		return axis{low: low / 2, high: high, log: true}
	}
	return axis{high: high}
}

// tick is a line of the background with its label.
type tick struct {
	X     percent
	Y     string // likewise, from the top
	Label string
}

// ticks divides a range by round numbers into at most so many steps, and returns the numbers
// and their distance.
func ticks(low, high float64, atMost int) (values []float64, step float64) {
	if high <= low {
		return []float64{low}, 1
	}
	step = math.Pow(10, math.Floor(math.Log10((high-low)/float64(atMost))))
	for _, factor := range []float64{1, 2, 5, 10} {
		if (high-low)/(step*factor) <= float64(atMost) {
			step *= factor
			break
		}
	}
	for n := math.Ceil(low/step - 1e-9); n*step <= high*(1+1e-9); n++ {
		values = append(values, n*step+0) // no zero with a sign
	}
	return values, step
}

// tickLabel writes a tick with as many decimals as its distance to the next one needs.
func tickLabel(v, step float64) string {
	if step >= 1 {
		if math.Abs(v) < 1000 {
			return strconv.FormatFloat(v, 'f', 0, 64)
		}
		return human(v)
	}
	return strconv.FormatFloat(v, 'f', int(math.Ceil(-math.Log10(step)-1e-9)), 64)
}

// plot is a chart ready to be drawn.
type plot struct {
	Title  string
	Unit   string
	Desc   string // for who cannot see it
	XTicks []tick
	YTicks []tick
	Lines  []plotLine
}

// plotLine is a line in a square of 1,000 by 1,000 that is stretched to the picture.
type plotLine struct {
	Name  string
	Style int    // 1 to lineStyles
	Path  string // its points
	Peak  string
}

// lineStyles is how many lines can be told apart, by colour and by dashes.
const lineStyles = 6

// plot lays a chart out. Its vertical axis begins at zero: a shortened one exaggerates.
func (c Chart) plot() plot {
	x, y := axis{low: math.Inf(1), high: math.Inf(-1)}, axis{}
	for _, line := range c.Lines {
		first, last := line.bounds(0)
		_, peak := line.bounds(1)
		x.low, x.high, y.high = min(x.low, first), max(x.high, last), max(y.high, peak)
	}
	switch {
	case x.low > x.high: // of no points at all
		x = axis{high: 1}
	case x.low == x.high: // of one
		x.high++
	}
	_, step := ticks(0, y.high, 5)
	y.high = step * max(1, math.Ceil(y.high/step-1e-9))
	p := plot{Title: c.Title, Unit: c.Unit}
	values, step := ticks(x.low, x.high, 8)
	for _, v := range values {
		p.XTicks = append(p.XTicks, tick{X: x.at(v), Label: tickLabel(v, step)})
	}
	values, step = ticks(0, y.high, 5)
	for _, v := range values {
		p.YTicks = append(p.YTicks, tick{Y: (100 - y.at(v)).String(), Label: tickLabel(v, step)})
	}
	var said []string
	for n, line := range c.Lines {
		drawn := plotLine{Name: line.Name, Style: n%lineStyles + 1, Path: line.path(x, y)}
		if drawn.Path == "" {
			continue
		}
		_, high := line.bounds(1)
		drawn.Peak = human(high)
		p.Lines = append(p.Lines, drawn)
		said = append(said, fmt.Sprintf("%s peaks at %s %s", line.Name, drawn.Peak, c.Unit))
	}
	p.Desc = fmt.Sprintf("Over %s seconds: %s.", human(x.high-x.low), strings.Join(said, "; "))
	return p
}

// path is the points of a line as SVG takes them.
func (l Line) path(x, y axis) string {
	var places []string
	for _, point := range l.measured() {
		places = append(places, fmt.Sprintf("%.1f,%.1f", 10*float64(x.at(point[0])), 1000-10*float64(y.at(point[1]))))
	}
	return strings.Join(places, " ")
}

// measured are the points that are somewhere: a rate of no time is nowhere.
func (l Line) measured() [][2]float64 {
	return slices.DeleteFunc(slices.Clone(l.Points), func(point [2]float64) bool {
		sum := point[0] + point[1]
		return math.IsNaN(sum) || math.IsInf(sum, 0)
	})
}

// bounds are the least and the greatest of one coordinate, and not in order where there is none.
func (l Line) bounds(coordinate int) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, point := range l.measured() {
		low, high = min(low, point[coordinate]), max(high, point[coordinate])
	}
	return low, high
}
