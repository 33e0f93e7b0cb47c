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

// Protects shoppers' pages from what an operator may get wrong: each of the texts, and an address
// that the page's policy would not load, or that leads elsewhere than it says.
func TestSale_Details(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 11, 12, 0, 0, 0, time.UTC)
	long := strings.Repeat("长", 2000)
	many := map[string]string{}
	for n := range 17 {
		many["a"+string(rune('a'+n))] = "x"
	}
	for name, c := range map[string]struct {
		sale    map[string]string
		details flashsale.Details
		want    string
	}{
		"all": {map[string]string{"zh": "双十一", "pt-BR": "Onze"}, flashsale.Details{
			Description: long, ImageURL: "https://cdn.example/a.png?b=1", ListPriceFen: 100,
			Names: map[string]string{"zh-Hans-CN": "壶"}, Descriptions: map[string]string{"en": "Two\nlines."},
		}, ""},
		"path":                    {nil, flashsale.Details{ImageURL: "/a/0/demo/phone.svg"}, ""},
		"sale name":               {map[string]string{"zh": ""}, flashsale.Details{}, "names must"},
		"language":                {map[string]string{"Chinese": "x"}, flashsale.Details{}, "names must"},
		"many languages":          {many, flashsale.Details{}, "names must"},
		"name of two lines":       {nil, flashsale.Details{Names: map[string]string{"zh": "a\nb"}}, "items[0].names must"},
		"name with NUL":           {nil, flashsale.Details{Names: map[string]string{"zh": "a\x00"}}, "items[0].names must"},
		"language with NUL":       {nil, flashsale.Details{Names: map[string]string{"z\x00": "a"}}, "items[0].names must"},
		"long description":        {nil, flashsale.Details{Description: long + "x"}, "items[0].description must"},
		"broken description":      {nil, flashsale.Details{Description: "\xff"}, "items[0].description must"},
		"empty in one language":   {nil, flashsale.Details{Descriptions: map[string]string{"en": ""}}, "items[0].descriptions must"},
		"cheaper elsewhere":       {nil, flashsale.Details{ListPriceFen: 99}, "items[0].list_price_fen must"},
		"negative price":          {nil, flashsale.Details{ListPriceFen: -1}, "items[0].list_price_fen must"},
		"immense price":           {nil, flashsale.Details{ListPriceFen: flashsale.PriceFenMax + 1}, "items[0].list_price_fen must"},
		"plain http":              {nil, flashsale.Details{ImageURL: "http://cdn.example/a.png"}, "items[0].image_url must"},
		"script":                  {nil, flashsale.Details{ImageURL: "javascript:alert(1)"}, "items[0].image_url must"},
		"data":                    {nil, flashsale.Details{ImageURL: "data:image/png;base64,AA"}, "items[0].image_url must"},
		"another host by slashes": {nil, flashsale.Details{ImageURL: "//evil.example/a.png"}, "items[0].image_url must"},
		"backslash":               {nil, flashsale.Details{ImageURL: `/\evil.example/a.png`}, "items[0].image_url must"},
		"relative":                {nil, flashsale.Details{ImageURL: "a.png"}, "items[0].image_url must"},
		"password":                {nil, flashsale.Details{ImageURL: "https://a:b@cdn.example/"}, "items[0].image_url must"},
		"no host":                 {nil, flashsale.Details{ImageURL: "https:///a.png"}, "items[0].image_url must"},
		"line break":              {nil, flashsale.Details{ImageURL: "https://cdn.example/a\n.png"}, "items[0].image_url must"},
		"long address":            {nil, flashsale.Details{ImageURL: "https://cdn.example/" + long}, "items[0].image_url must"},
	} {
		err := flashsale.Sale{
			Name: "n", Names: c.sale, OpensAt: now, ClosesAt: now.Add(time.Hour), Items: []flashsale.Item{{
				Product: "p", PriceFen: 100, Total: 1, Limit: 1, PayTimeout: time.Minute, Details: &c.details,
			}},
		}.Validate()
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// Protects the percentage from telling "nothing" while there is something.
func TestItem_LeftPercent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ total, stock, want int64 }{
		{1000, 1000, 100},
		{1000, 999, 100},
		{1000, 990, 99},
		{1000, 1, 1},
		{1000, 0, 0},
		{3, 1, 34},
		{10, 11, 100},
		{10, -1, 0},
		{flashsale.StockMax, 1, 1},
		{0, 0, 0},
	} {
		if got := (flashsale.Item{Total: c.total}).LeftPercent(c.stock); got != c.want {
			t.Errorf("%d of %d: %d, want %d", c.stock, c.total, got, c.want)
		}
	}
}
