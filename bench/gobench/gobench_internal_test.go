package gobench

import "testing"

// The figures of a Go benchmark come in any order and number; a benchmark that did not run
// must not read as zero.
func TestParse(t *testing.T) {
	t.Parallel()
	const out = "goos: linux\n" +
		"BenchmarkReserve_OneItem/group-2  600000  3177 ns/op  2.86 cpu-µs/order  314795 orders/s  0.0148 scripts/order  120 B/op\nPASS\n"
	figures, err := parse("BenchmarkReserve_OneItem/group", out)
	if err != nil || figures["orders/s"] != 314795 || figures["cpu-µs/order"] != 2.86 || figures["scripts/order"] != 0.0148 {
		t.Errorf("got %v, %v", figures, err)
	}
	if _, err := parse("BenchmarkReserve_OneItem/single", out); err == nil {
		t.Error("a benchmark that did not run has figures")
	}
}
