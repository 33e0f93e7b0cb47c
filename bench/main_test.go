package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestMain lets the test binary play our own program, which starts itself as a child.
func TestMain(m *testing.M) {
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
