// Package profile says where the time went: of a Go server by its CPU profile, of Redis by what
// it counts itself.
package profile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"flashsale/bench/report"
	"flashsale/bench/stats"
)

// top is how many rows a table has at most.
const top = 15

// spent is the time of a function: its own, and with all that it calls.
type spent struct{ own, with int64 }

// Go makes two tables of a CPU profile: the functions that take most time themselves, and those
// of one module that take most with what they call.
func Go(title, module string, pprof []byte) ([]report.Table, error) {
	parsed, err := profile.Parse(bytes.NewReader(pprof))
	if err != nil {
		return nil, fmt.Errorf("read the CPU profile of %s: %w", title, err)
	}
	cpu := slices.IndexFunc(parsed.SampleType, func(t *profile.ValueType) bool { return t.Type == "cpu" })
	if cpu < 0 {
		return nil, fmt.Errorf("read the CPU profile of %s: it holds no CPU time", title)
	}
	functions := make(map[string]spent)
	var total int64
	for _, sample := range parsed.Sample {
		value := sample.Value[cpu]
		total += value
		seen := make(map[string]bool) // a function that calls itself is counted once
		for depth, name := range stack(sample) {
			f := functions[name]
			if depth == 0 {
				f.own += value
			}
			if !seen[name] {
				f.with += value
			}
			seen[name] = true
			functions[name] = f
		}
	}
	if total == 0 {
		return nil, fmt.Errorf("the CPU profile of %s is empty", title)
	}
	ours := maps.Clone(functions)
	maps.DeleteFunc(ours, func(name string, _ spent) bool {
		return !strings.HasPrefix(name, module+"/") && !strings.HasPrefix(name, module+".")
	})
	return []report.Table{
		goTable(title+": own time", functions, total, func(f spent) int64 { return f.own }),
		goTable(title+": functions of "+module+", with what they call", ours, total, func(f spent) int64 { return f.with }),
	}, nil
}

// stack names the functions of a sample, the innermost first.
func stack(sample *profile.Sample) []string {
	var names []string
	for _, location := range sample.Location {
		for _, line := range location.Line {
			if line.Function != nil {
				names = append(names, line.Function.Name)
			}
		}
	}
	return names
}

func goTable(title string, functions map[string]spent, total int64, by func(spent) int64) report.Table {
	table := report.Table{Title: title, Columns: []report.Column{
		{Name: "own", Unit: "% of CPU"}, {Name: "with calls", Unit: "% of CPU"},
	}}
	names := slices.SortedFunc(maps.Keys(functions), func(a, b string) int {
		return cmp.Or(-cmp.Compare(by(functions[a]), by(functions[b])), cmp.Compare(a, b))
	})
	for _, name := range names[:min(top, len(names))] {
		f := functions[name]
		table.Rows = append(table.Rows, report.Row{Name: name, Cells: []stats.Sample{
			{100 * float64(f.own) / float64(total)}, {100 * float64(f.with) / float64(total)},
		}})
	}
	return table
}

// command is what Redis has counted of a command.
type command struct{ calls, micros float64 }

// Redis makes a table of the commands that ran between two answers to INFO, by the wall time that
// Redis spent in each. That of evalsha holds the commands that its scripts call, which are counted
// on their own, too. On a busy machine wall time holds waits for a processor.
func Redis(title string, before, after map[string]string, took time.Duration) (report.Table, error) {
	cpu := processorTime(after) - processorTime(before)
	if cpu <= 0 || took <= 0 {
		return report.Table{}, errors.New("redis has not counted its processor time")
	}
	ran := make(map[string]command)
	for name, text := range after {
		short, ok := strings.CutPrefix(name, "cmdstat_")
		if !ok {
			continue
		}
		now, was := parseCommand(text), parseCommand(before[name])
		if now.calls > was.calls {
			ran[short] = command{calls: now.calls - was.calls, micros: now.micros - was.micros}
		}
	}
	names := slices.SortedFunc(maps.Keys(ran), func(a, b string) int {
		return cmp.Or(-cmp.Compare(ran[a].micros, ran[b].micros), cmp.Compare(a, b))
	})
	table := report.Table{Title: title, Columns: []report.Column{
		{Name: "calls", Unit: "/s"}, {Name: "each", Unit: "µs"}, {Name: "all", Unit: "% of the time"},
	}, Rows: []report.Row{{
		Name: "redis-server", About: "the process, by its processor time", Cells: []stats.Sample{{}, {}, {100 * cpu / took.Seconds()}},
	}}}
	for _, name := range names[:min(top, len(names))] {
		c := ran[name]
		row := report.Row{Name: name, Cells: []stats.Sample{
			{c.calls / took.Seconds()}, {c.micros / c.calls}, {100 * c.micros / 1e6 / took.Seconds()},
		}}
		if name == "evalsha" {
			row.About = "scripts, with the commands that they call"
		}
		table.Rows = append(table.Rows, row)
	}
	return table, nil
}

// processorTime is what Redis has used, in seconds.
func processorTime(info map[string]string) float64 {
	user, _ := strconv.ParseFloat(info["used_cpu_user"], 64)
	system, _ := strconv.ParseFloat(info["used_cpu_sys"], 64)
	return user + system
}

// parseCommand reads "calls=21,usec=175,usec_per_call=8.33,…"; of nothing it is zero.
func parseCommand(text string) command {
	var c command
	for field := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(field, "=")
		number, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "calls":
			c.calls = number
		case "usec":
			c.micros = number
		}
	}
	return c
}
