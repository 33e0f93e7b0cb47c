package profile_test

import (
	"bytes"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	gprofile "github.com/google/pprof/profile"

	"flashsale/bench/profile"
	"flashsale/bench/report"
)

// A function's own time and that of what it calls must not be mixed up, and one that calls
// itself must not count twice: the tables tell where it is worth to look.
func TestGo(t *testing.T) {
	t.Parallel()
	location := func(id uint64, name string) *gprofile.Location {
		f := &gprofile.Function{ID: id, Name: name}
		return &gprofile.Location{ID: id, Line: []gprofile.Line{{Function: f}}}
	}
	serve, decide, write := location(1, "shop/server.serve"), location(2, "shop.decide"), location(3, "shopping.write")
	recorded := &gprofile.Profile{
		SampleType: []*gprofile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &gprofile.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 1,
		Location: []*gprofile.Location{serve, decide, write},
		Sample: []*gprofile.Sample{
			{Location: []*gprofile.Location{decide, serve}, Value: []int64{1, 30}},
			{Location: []*gprofile.Location{write, decide, decide, serve}, Value: []int64{1, 60}},
			{Location: []*gprofile.Location{serve}, Value: []int64{1, 10}},
		},
	}
	for _, l := range recorded.Location {
		recorded.Function = append(recorded.Function, l.Line[0].Function)
	}
	var text bytes.Buffer
	if err := recorded.Write(&text); err != nil {
		t.Fatal(err)
	}
	tables, err := profile.Go("server", "shop", text.Bytes())
	if err != nil || len(tables) != 2 {
		t.Fatalf("got %+v, %v", tables, err)
	}
	if got := rows(tables[0]); got != "shopping.write 60 60; shop.decide 30 90; shop/server.serve 10 100; " {
		t.Errorf("own time: %s", got)
	}
	if got := rows(tables[1]); got != "shop/server.serve 10 100; shop.decide 30 90; " {
		t.Errorf("with calls: %s", got)
	}
}

// What is no CPU profile, such as the page of an error, must not become an empty table.
func TestGo_Unreadable(t *testing.T) {
	t.Parallel()
	var heap bytes.Buffer
	if err := pprof.WriteHeapProfile(&heap); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"no profile": []byte("404"), "another profile": heap.Bytes()} {
		if tables, err := profile.Go("server", "shop", text); err == nil {
			t.Errorf("%s: got %+v", name, tables)
		}
	}
}

// Redis counts since it was started: only what came between the two answers belongs to us.
func TestRedis(t *testing.T) {
	t.Parallel()
	before := map[string]string{
		"used_cpu_user": "10.0", "used_cpu_sys": "5.0", "cmdstat_get": "calls=7,usec=70,usec_per_call=10.00",
		"cmdstat_xadd": "calls=100,usec=100,usec_per_call=1.00",
	}
	after := map[string]string{
		"used_cpu_user": "11.0", "used_cpu_sys": "6.0", "cmdstat_get": "calls=7,usec=70,usec_per_call=10.00",
		"cmdstat_xadd":    "calls=2100,usec=200100,usec_per_call=95.28",
		"cmdstat_evalsha": "calls=10,usec=1000000,usec_per_call=100000.00,rejected_calls=0,failed_calls=0",
	}
	table, err := profile.Redis("redis", before, after, 4*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(table); got != "redis-server - - 50; evalsha 2.5 100000 25; xadd 500 100 5; " {
		t.Errorf("got %s", got)
	}
	if _, err := profile.Redis("redis", nil, nil, time.Second); err == nil {
		t.Error("a Redis that tells nothing has a table")
	}
}

func rows(table report.Table) string {
	var text strings.Builder
	for _, row := range table.Rows {
		text.WriteString(row.Name)
		for _, cell := range row.Cells {
			if len(cell) == 0 {
				text.WriteString(" -")
			} else {
				fmt.Fprintf(&text, " %g", cell.Median())
			}
		}
		text.WriteString("; ")
	}
	return text.String()
}
