package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"flashsale/bench/scenario"
)

// TestMain lets the test binary play our own program, which starts itself as a child.
func TestMain(m *testing.M) {
	scenario.MaybeChild()
	if len(os.Args) > 1 && slices.Contains([]string{"bare", "baseline"}, os.Args[1]) {
		main()
	}
	os.Exit(m.Run())
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
		{[]string{"limits", "--rounds", "-1"}, exitFailed, "Rounds must be at least 1"},
		{[]string{"all", "--only", "ratios,fly"}, exitFailed, `no part "fly"`},
		{[]string{"all", "--plant", "fly"}, exitFailed, `no bug "fly"`},
		{[]string{"all", "--plant", "limit", "--only", "ratios"}, exitFailed, "must not leave them out"},
		{[]string{"all", "ratios"}, exitFailed, "flags only"},
		{[]string{"history", "old.json"}, exitFailed, "two reports"},
		{[]string{"history", "/nowhere/old.json", "new.json"}, exitFailed, "/nowhere/old.json"},
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
