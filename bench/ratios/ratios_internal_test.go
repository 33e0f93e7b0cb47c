package ratios

import (
	"slices"
	"strings"
	"testing"

	"flashsale/bench/report"
	"flashsale/bench/target"
	"flashsale/bench/wrk"
)

// A fast run that is not true must fail, whichever of the three witnesses disagrees: an
// answer given for a unit that was never taken, a unit taken twice, a user who holds none.
func TestProve(t *testing.T) {
	t.Parallel()
	sound := measured{window: window{Result: wrk.Result{Requests: 1000}}, answered: 1100}
	held := target.Item{Sequence: 1100, Stock: stock - 1100, Buyers: 1100}
	for name, test := range map[string]struct {
		change func(m *measured, held *target.Item)
		ok     bool
	}{
		"sound": {func(*measured, *target.Item) {}, true},
		"requests of users who had bought are refused": {func(m *measured, _ *target.Item) {
			m.Requests, m.Refused, m.Wrapped = 1010, 10, 10
		}, true},
		"lost requests":                     {func(m *measured, _ *target.Item) { m.SocketErrors = 1 }, false},
		"refused without cause":             {func(m *measured, _ *target.Item) { m.Refused = 1 }, false},
		"a user who was sold two":           {func(_ *measured, held *target.Item) { held.Buyers-- }, false},
		"a unit that nobody holds":          {func(_ *measured, held *target.Item) { held.Stock-- }, false},
		"a unit sold twice":                 {func(_ *measured, held *target.Item) { held.Stock++ }, false},
		"accepted by the server, not Redis": {func(m *measured, _ *target.Item) { m.answered++ }, false},
		"accepted by wrk, not Redis": {func(m *measured, held *target.Item) {
			held.Sequence, held.Buyers, held.Stock, m.answered = 999, 999, stock-999, 999
		}, false},
		"more on their way than connections": {func(m *measured, held *target.Item) {
			held.Sequence, held.Buyers, held.Stock, m.answered = 1257, 1257, stock-1257, 1257
		}, false},
	} {
		m, held := sound, held
		test.change(&m, &held)
		if err := prove(m, held, 256); (err == nil) != test.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A promise that is entered as a floor where it is a ceiling would be kept by the worst engine.
// More orders a script run, and less of everything that costs, is what is promised.
func TestPromises_Sides(t *testing.T) {
	t.Parallel()
	for _, figure := range (&run{}).promises() {
		costs := slices.ContainsFunc([]string{"script runs", "CPU", "Redis CPU", "stream", "accepted to unpaid", "nodes that hear"},
			func(prefix string) bool { return strings.HasPrefix(figure.Name, prefix) })
		if figure.Bound.AtMost != costs || (figure.Better == report.Lower) != costs || figure.Ratio != (figure.Unit == "") {
			t.Errorf("%s: %s, %s is better", figure.Name, figure.Bound, figure.Better)
		}
	}
}

// Two reports are compared by the names of their figures: a name that is given twice would
// compare one figure with another.
func TestFigures_NamesAreUnique(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, figure := range append((&run{}).promises(), (&run{}).absolute()...) {
		if seen[figure.Name] {
			t.Errorf("there are two figures %q", figure.Name)
		}
		seen[figure.Name] = true
	}
}
