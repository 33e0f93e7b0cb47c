package flashsale_test

import (
	"strings"
	"testing"
	"time"

	"flashsale"
)

// Protects operators from a sale that nobody can buy from: a window that is over, or was given in
// seconds, is refused, and read back as the time that it means. And it protects long names in
// scripts that take three bytes a character: lengths are characters.
func TestSale_ValidateNew(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 11, 12, 0, 0, 0, time.UTC)
	item := flashsale.Item{Product: strings.Repeat("壶", 200), PriceFen: 1, Total: 1, Limit: 1, PayTimeout: time.Minute}
	good := flashsale.Sale{
		Name: strings.Repeat("秒", 200), OpensAt: now.Add(-time.Hour), ClosesAt: now.Add(time.Hour), Items: []flashsale.Item{item},
	}
	for name, c := range map[string]struct {
		change func(*flashsale.Sale)
		want   string
	}{
		"open already": {func(*flashsale.Sale) {}, ""},
		"not yet":      {func(s *flashsale.Sale) { s.OpensAt = now.Add(time.Minute) }, ""},
		"over":         {func(s *flashsale.Sale) { s.ClosesAt = now.Add(-time.Second) }, "closes_at_ms 1794398399000 is 2026-11-11T11:59:59Z, which is over: it is 2026-11-11T12:00:00Z now"},
		"just over":    {func(s *flashsale.Sale) { s.ClosesAt = now }, "closes_at_ms 1794398400000 is"},
		"both in seconds": {func(s *flashsale.Sale) {
			s.OpensAt, s.ClosesAt = time.UnixMilli(1794398400), time.UnixMilli(1794402000)
		}, "opens_at_ms 1794398400 would be 1970-01-21T18:26:38Z: give milliseconds, not seconds"},
		"opens in seconds": {func(s *flashsale.Sale) { s.OpensAt = time.UnixMilli(1794398400) }, "opens_at_ms 1794398400 would be"},
		"ends in seconds":  {func(s *flashsale.Sale) { s.ClosesAt = time.UnixMilli(1794402000) }, "closes_at_ms (1970-01-21T18:26:42Z) must be after"},
		"ends first":       {func(s *flashsale.Sale) { s.OpensAt, s.ClosesAt = s.ClosesAt, s.OpensAt }, "closes_at_ms (2026-11-11T11:00:00Z) must be after opens_at_ms (2026-11-11T13:00:00Z)"},
		"no opening":       {func(s *flashsale.Sale) { s.OpensAt = time.UnixMilli(0) }, "opens_at_ms must be positive"},
		"201 characters":   {func(s *flashsale.Sale) { s.Name += "x" }, "name must be 1 to 200"},
		"two lines":        {func(s *flashsale.Sale) { s.Name = "a\nb" }, "name must be 1 to 200"},
	} {
		sale := good
		c.change(&sale)
		got := ""
		if err := sale.ValidateNew(now); err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
