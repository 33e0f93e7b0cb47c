package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flashsale/bench/report"
	"flashsale/bench/scenario"
	"flashsale/bench/target"
)

// The whole chain must hold: an engine built, scenes that share a stack, k6 as our child with the
// user's own arguments, thresholds, orders that are paid, refunded, cancelled and run out, counts,
// money, audit, and the report.
func TestScenarios_Sound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, samples := filepath.Join(dir, "report.json"), filepath.Join(dir, "samples.json")
	var out, progress bytes.Buffer
	code := run(t.Context(), []string{
		"run", "--rate", "200", "--seconds", "1", "--stock", "60", "--json", file, "smoke", "spike", "lifecycle",
		"--", "--out", "json=" + samples,
	}, &out, &progress)
	if code != exitOK {
		t.Fatalf("exit code %d\n%s\n%s", code, out.String(), progress.String())
	}
	if starts := strings.Count(progress.String(), "starting redis"); starts != 1 {
		t.Errorf("%d stacks were started for one run", starts)
	}
	for _, want := range []string{"no item is oversold", "lifecycle: 72 orders accepted in redis, 60 units given back, 12 in live orders"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, out.String())
		}
	}
	if text, err := os.ReadFile(samples); err != nil || !bytes.Contains(text, []byte("flash_refunded")) {
		t.Errorf("k6's own output: %v", err)
	}
	r, err := report.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	part := r.Parts[0]
	table := part.Tables[0]
	for n, want := range []float64{20, 60, 72} {
		if got := table.Rows[n].Cells[1].Median(); got != want {
			t.Errorf("%s: %g accepted, want %g", table.Rows[n].Name, got, want)
		}
	}
	chart := slices.IndexFunc(part.Charts, func(c report.Chart) bool { return strings.HasPrefix(c.Title, "spike: what") })
	if chart < 0 {
		t.Fatalf("no chart of the spike: %+v", part.Charts)
	}
	for _, line := range part.Charts[chart].Lines {
		var area float64
		for _, point := range line.Points {
			area += point[1] * 0.25
		}
		if line.Name == "accepted" && area != 60 {
			t.Errorf("the chart shows %g accepted answers, there were 60", area)
		}
	}
}

// A suite that passes an engine with a bug would prove nothing.
func TestScenarios_FindPlantedBugs(t *testing.T) {
	t.Parallel()
	for bug, config := range map[string]scenario.Config{
		"limit":    {Scenes: []string{"duplicate"}, Rate: 20},
		"oversell": {Scenes: []string{"spike"}, Rate: 100, Stock: 5},
	} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			config.Plant, config.Seconds = bug, 1
			results := play(t, config)
			if results[0].OK() {
				t.Errorf("an engine with the bug %s has passed: %+v", bug, results[0])
			}
			if accepted := results[0].Counts["accepted"]; bug == "oversell" && accepted <= 5 {
				t.Errorf("the bug was not there: %d of 5 units were sold", accepted)
			}
			if violations := results[0].Counts["violations"]; bug == "limit" && violations == 0 {
				t.Error("the bug was not there: nobody got two orders")
			}
		})
	}
}

func play(t *testing.T, config scenario.Config) []*scenario.Result {
	t.Helper()
	var progress bytes.Buffer
	config.Program, config.Progress = os.Args[0], &progress
	results, err := scenario.Play(t.Context(), config)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	return results
}

// Whoever runs a server of his own gets the same proof, with his own tokens, as far as he opens
// the operators' address, and hears at once when there are too few tokens.
func TestScenarios_Target(t *testing.T) {
	t.Parallel()
	server := startTarget(t)
	tokens := filepath.Join(t.TempDir(), "tokens")
	var lines strings.Builder
	for n := range targetUsers {
		lines.WriteString(target.Token(targetFirst+n) + "\n")
	}
	if err := os.WriteFile(tokens, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"run", "--target", server.URL, "--tokens", tokens, "--ops", server.OpsURL, "--admin-token", server.AdminToken(),
		"--seconds", "1",
	}
	var out, progress bytes.Buffer
	if code := run(t.Context(), append(args, "--rate", "50", "soldout", "lifecycle"), &out, &progress); code != exitOK {
		t.Fatalf("exit code %d\n%s\n%s", code, out.String(), progress.String())
	}
	for _, want := range []string{"soldout: 50 orders accepted", "lifecycle: 48 orders accepted in redis, 36 units given back"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, out.String())
		}
	}
	progress.Reset()
	if code := run(t.Context(), append(args, "--rate", "500", "steady"), &out, &progress); code != exitFailed ||
		!strings.Contains(progress.String(), "2000 users are needed") {
		t.Errorf("too few tokens: exit code %d\n%s", code, progress.String())
	}
}

// Users of the target, of whom no generated token knows.
const (
	targetFirst = 100_000
	targetUsers = 300
)

// startTarget is a server as somebody else runs it.
func startTarget(t *testing.T) *target.Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "flashsale-target-") //nolint:usetesting // PostgreSQL's user cannot pass those
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	source, err := target.Source()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := target.Build(t.Context(), source, dir)
	if err != nil {
		t.Fatal(err)
	}
	stack, err := target.StartStack(t.Context(), binary, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stack.Stop() })
	server, err := stack.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	worker, err := stack.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = worker.Stop() })
	if err := stack.CreateSessions(t.Context(), targetFirst, targetUsers); err != nil {
		t.Fatal(err)
	}
	return server
}

// A mistyped scenario, bug or target must say what there is and what is missing.
func TestScenarios_Usage(t *testing.T) {
	t.Parallel()
	const url = "http://127.0.0.1:1"
	for _, test := range []struct {
		says string
		args []string
	}{
		{`no scenario "fly"`, []string{"fly"}},
		{`no bug "fly" to plant: limit, oversell`, []string{"--plant", "fly"}},
		{`no client "fly"`, []string{"--client", "fly"}},
		{"must be positive", []string{"--rate", "-1"}},
		{"shows one scenario", []string{"--dashboard", "d.html"}},
		{"needs --tokens", []string{"--target", url, "smoke"}},
		{"needs --item", []string{"--target", url, "--tokens", "t", "smoke"}},
		{"sold by one scenario", []string{"--target", url, "--tokens", "t", "--item", "1"}},
		{"is not a URL", []string{"--target", "localhost:8080", "--tokens", "t", "--item", "1", "smoke"}},
		{"nothing can be planted", []string{"--target", url, "--tokens", "t", "--item", "1", "--plant", "limit", "smoke"}},
		{"which is not named", []string{"--tokens", "t", "smoke"}},
		{"no such file", []string{"--target", url, "--tokens", "/nowhere/tokens", "--item", "1", "smoke"}},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"run"}, test.args...), &out, &errs); code != exitFailed {
			t.Errorf("%q: exit code %d", test.args, code)
		}
		if !strings.Contains(errs.String(), test.says) {
			t.Errorf("%q: does not say %q but\n%s", test.args, test.says, errs.String())
		}
	}
}

// Whoever ejects the scripts gets each scenario and what they share.
func TestEject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"eject", dir}, &out, &errs); code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	names := []string{"lib"}
	for _, scene := range scenario.Scenes() {
		names = append(names, scene.Name)
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name+".js")); err != nil {
			t.Error(err)
		}
	}
}
