package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

type versionCommand struct{}

// Run needs no store.
func (versionCommand) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, version())
	return err
}

// version tells which build this is, as the Go tool has noted it in the program.
func version() string {
	number, commit, at := "(devel)", "unknown", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			number = info.Main.Version
		}
		modified := ""
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				commit = setting.Value
			case "vcs.time":
				at = " of " + setting.Value
			case "vcs.modified":
				if setting.Value == "true" {
					modified = ", with changes"
				}
			}
		}
		at += modified
	}
	return fmt.Sprintf("flashsale %s, commit %s%s, %s %s/%s", number, commit, at, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
