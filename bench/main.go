package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"flashsale/bench/scenario"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	scenario.MaybeChild()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is one of ours.
type command struct {
	name, help string
	run        func(ctx context.Context, args []string, out, progress io.Writer) error
}

func commands() []command {
	return []command{
		{"all", "measure everything and write one report: what make bench runs", runAll},
		{"list", "name the scenarios", runList},
		{"run", "play scenarios with k6, compare the counts, audit", runScenarios},
		{"eject", "write the k6 scripts into a folder, to change them", runEject},
		{"k6", "be k6 itself: bench k6 run script.js", runK6},
		{"peak", "send as many requests as told, when they are due, and prove the counts", runPeak},
		{"ratios", "measure the promised ratios, each beside its floor", runRatios},
		{"compare", "set the engine beside the classical ways to take stock", runCompare},
		{"limits", "measure how near the engine comes to what its stores can do", runLimits},
		{"history", "compare two reports: bench history OLD.json NEW.json", runHistory},
		{"bare", "serve one constant answer: the limit that ratios are measured against", runBare},
		{"baseline", "sell by one of those ways: one node, as compare starts it", runBaseline},
	}
}

// run is main without its globals.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	if len(args) == 0 {
		usage(errs)
		return exitUsage
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		switch err := c.run(ctx, args[1:], out, errs); {
		case errors.Is(err, flag.ErrHelp):
			return exitOK
		case err != nil && ctx.Err() != nil:
			fmt.Fprintln(errs, "bench: interrupted; everything is stopped and removed")
			return exitFailed
		case err != nil:
			fmt.Fprintln(errs, "bench:", err)
			return exitFailed
		}
		return exitOK
	}
	fmt.Fprintf(errs, "bench: there is no command %q\n", args[0])
	usage(errs)
	return exitUsage
}

func usage(out io.Writer) {
	fmt.Fprintln(out, "usage: bench COMMAND [flags]; bench COMMAND -h lists the flags")
	for _, c := range commands() {
		fmt.Fprintf(out, "  %-8s %s\n", c.name, c.help)
	}
}

// self is our own program, to start as a child.
func self() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}
