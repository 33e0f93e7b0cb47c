package ratios

import (
	"testing"

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

// The figures of a Go benchmark come in any order and number; a benchmark that did not run
// must not read as zero.
func TestParseBenchmark(t *testing.T) {
	t.Parallel()
	const out = "goos: linux\n" +
		"BenchmarkReserve_OneItem/group-2  600000  3177 ns/op  2.86 cpu-µs/order  314795 orders/s  0.0148 scripts/order  120 B/op\nPASS\n"
	figures, err := parseBenchmark("BenchmarkReserve_OneItem/group", out)
	if err != nil || figures["orders/s"] != 314795 || figures["cpu-µs/order"] != 2.86 || figures["scripts/order"] != 0.0148 {
		t.Errorf("got %v, %v", figures, err)
	}
	if _, err := parseBenchmark("BenchmarkReserve_OneItem/single", out); err == nil {
		t.Error("a benchmark that did not run has figures")
	}
}

// Half of the promises are floors and half are ceilings: each must be missed on its own side.
func TestRatio_Met(t *testing.T) {
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
		r := Ratio{Bound: 0.55, AtMost: test.atMost, Sample: []float64{test.median}}
		if r.Met() != test.met {
			t.Errorf("%v at most %v: met is %v", test.median, test.atMost, r.Met())
		}
	}
	quick := Report{Quick: true, Ratios: []Ratio{{Bound: 1, Sample: []float64{0}}}}
	if len(quick.Missed()) != 0 {
		t.Error("a quick run judges")
	}
}
