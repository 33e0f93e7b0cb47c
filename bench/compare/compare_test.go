package compare_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"flashsale/bench/baseline"
	"flashsale/bench/compare"
)

// TestMain lets the test binary play our own program, which starts itself as a node.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "baseline" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err := baseline.Command(ctx, os.Args[2:], os.Stdout, os.Stderr)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The whole comparison must run on this machine: the engine and what is right by design must
// come out exact, on one node, on two, and with one of two killed.
func TestRun_Quick(t *testing.T) {
	t.Parallel()
	var progress bytes.Buffer
	part, err := compare.Run(t.Context(), compare.Config{
		Program: os.Args[0], Progress: &progress, Quick: true, Only: []string{"conditional", "script"},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	if part.Name != "compare" || len(part.Failures) > 0 || len(part.Tables) != 1 {
		t.Fatalf("part %q, %d tables, failures %q\n%s", part.Name, len(part.Tables), part.Failures, progress.String())
	}
	var names []string
	for _, row := range part.Tables[0].Rows {
		names = append(names, row.Name)
		if row.Bad || !strings.Contains(row.Note, "two nodes: exact; one of two killed: exact") {
			t.Errorf("%s: %s\n%s", row.Name, row.Note, progress.String())
		}
		if len(row.Cells) != len(part.Tables[0].Columns) {
			t.Fatalf("%s: %d cells in %d columns", row.Name, len(row.Cells), len(part.Tables[0].Columns))
		}
		for n, cell := range row.Cells {
			if len(cell) != 1 {
				t.Errorf("%s, %s: %v, want a value of one round", row.Name, part.Tables[0].Columns[n].Name, cell)
			}
		}
		if rate := row.Cells[0].Median(); !(rate > 0) {
			t.Errorf("%s: %v accepted/s", row.Name, rate)
		}
	}
	if got := strings.Join(names, ", "); got != "engine, engine + worker, conditional, script" {
		t.Errorf("rows: %s", got)
	}
	const postgres, commands = 6, 7
	row := func(n, column int) float64 { return part.Tables[0].Rows[n].Cells[column].Median() }
	if row(2, postgres) <= row(0, postgres) {
		t.Errorf("PostgreSQL's processor time: %v µs an order in it, %v in Redis alone", row(2, postgres), row(0, postgres))
	}
	if row(3, commands) <= row(0, commands) {
		t.Errorf("commands of Redis: %v an order by single scripts, %v in groups", row(3, commands), row(0, commands))
	}
	if len(part.Figures) != 2 || part.Figures[0].Name != "accepted/s, engine / conditional" || len(part.Figures[0].Sample) != 1 {
		t.Errorf("figures: %+v", part.Figures)
	}
}

// A setting that cannot be measured must be refused before anything is started.
func TestRun_Config(t *testing.T) {
	t.Parallel()
	for says, config := range map[string]compare.Config{
		"Program is required":      {},
		"Rounds must be at least":  {Program: "x", Rounds: -1},
		"Window must be whole":     {Program: "x", Window: 1500 * time.Millisecond},
		"Threads must be at least": {Program: "x", Threads: 8, Connections: 4},
		"Crowd must be":            {Program: "x", Crowd: 1000, Users: 500},
		`no baseline "magic"`:      {Program: "x", Only: []string{"magic"}},
	} {
		if _, err := compare.Run(t.Context(), config); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}
