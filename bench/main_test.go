package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"flashsale/bench/scenario"
)

// TestMain lets the test binary play our own program, which starts itself as a child.
func TestMain(m *testing.M) {
	scenario.MaybeChild()
	if len(os.Args) > 1 && os.Args[1] == "bare" {
		main()
	}
	os.Exit(m.Run())
}

// The whole measurement must run on this machine and find its counts true, so that nobody
// learns on the day of a comparison that it does not.
func TestRatios_Quick(t *testing.T) {
	t.Parallel()
	var out, progress bytes.Buffer
	report := t.TempDir() + "/report.json"
	if code := run(t.Context(), []string{"ratios", "--quick", "--json", report}, &out, &progress); code != exitOK {
		t.Fatalf("exit code %d\n%s", code, progress.String())
	}
	for _, want := range []string{"RATIO", "not judged", "HTTP accepted / bare handler", "no item is oversold"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "NaN") || strings.Contains(out.String(), " - ") {
		t.Errorf("a figure is missing:\n%s", out.String())
	}
	if text, err := os.ReadFile(report); err != nil || !bytes.Contains(text, []byte(`"ratios"`)) {
		t.Errorf("the JSON report: %v\n%s", err, text)
	}
}

// A mistyped command or flag must say what there is.
func TestRun_Usage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{nil, exitUsage, "ratios"},
		{[]string{"run", "fly"}, exitFailed, `no scenario "fly"`},
		{[]string{"run", "--plant", "fly"}, exitFailed, `no bug "fly"`},
		{[]string{"run", "--target", "http://127.0.0.1:1", "smoke"}, exitFailed, "--item and --tokens"},
		{[]string{"fly"}, exitUsage, `no command "fly"`},
		{[]string{"ratios", "-h"}, exitOK, "-rounds"},
		{[]string{"ratios", "--rounds", "-1"}, exitFailed, "Rounds must be at least 1"},
		{[]string{"ratios", "--window", "1500ms"}, exitFailed, "whole seconds"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), test.args, &out, &errs); code != test.code {
			t.Errorf("%q: exit code %d, want %d", test.args, code, test.code)
		}
		if !strings.Contains(errs.String(), test.says) {
			t.Errorf("%q: does not say %q but\n%s", test.args, test.says, errs.String())
		}
	}
}

// The whole chain must hold: an engine built, k6 as our child, thresholds, counts and audit.
func TestScenario_Smoke(t *testing.T) {
	t.Parallel()
	result := playScene(t, scenario.Config{Scene: "smoke"})
	if !result.OK() {
		t.Errorf("failures: %q", result.Failures)
	}
	if result.Counts["accepted"] == 0 || result.Counts["accepted"] != result.Counts["duplicate"] {
		t.Errorf("counts: %v", result.Counts)
	}
	if !strings.Contains(result.Audit, "no item is oversold") {
		t.Errorf("audit: %s", result.Audit)
	}
}

// A suite that passes an engine without its limit check would prove nothing.
func TestScenario_FindsThePlantedBug(t *testing.T) {
	t.Parallel()
	result := playScene(t, scenario.Config{Scene: "duplicate", Planted: true, Rate: 20, Seconds: 1})
	if result.OK() || result.Counts["violations"] == 0 {
		t.Errorf("an engine that sells to a user as often as he asks has passed: %+v", result)
	}
}

func playScene(t *testing.T, config scenario.Config) *scenario.Result {
	t.Helper()
	var progress bytes.Buffer
	config.Program, config.Output = os.Args[0], &progress
	result, err := scenario.Play(t.Context(), config)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	return result
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
		if _, err := os.Stat(dir + "/" + name + ".js"); err != nil {
			t.Error(err)
		}
	}
}
