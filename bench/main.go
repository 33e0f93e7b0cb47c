package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"flashsale/bench/ratios"
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
		{"list", "name the scenarios", runList},
		{"run", "play scenarios with k6, compare the counts, audit", runScenarios},
		{"eject", "write the k6 scripts into a folder, to change them", runEject},
		{"k6", "be k6 itself: bench k6 run script.js", runK6},
		{"ratios", "measure the promised ratios, each beside its floor", runRatios},
		{"bare", "serve one constant answer: the limit that ratios are measured against", runBare},
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

func runRatios(ctx context.Context, args []string, out, progress io.Writer) error {
	var (
		config = ratios.Config{Program: self(), Progress: progress}
		flags  = flag.NewFlagSet("bench ratios", flag.ContinueOnError)
		path   = flags.String("json", "", "write the report to this `file` too")
		strict = flags.Bool("strict", false, "exit 1 when a floor is missed")
	)
	flags.SetOutput(progress)
	flags.BoolVar(&config.Quick, "quick", false, "once and shortly: shows that everything runs, judges nothing")
	flags.IntVar(&config.Rounds, "rounds", 0, fmt.Sprintf("interleaved rounds (default %d)", ratios.DefaultRounds))
	flags.DurationVar(&config.Window, "window", 0, fmt.Sprintf("how long each candidate is measured in a round, whole seconds (default %s)", ratios.DefaultWindow))
	flags.IntVar(&config.Connections, "connections", 0, fmt.Sprintf("shoppers who ask at once (default %d)", ratios.DefaultConnections))
	flags.IntVar(&config.Threads, "threads", 0, fmt.Sprintf("threads of wrk (default %d)", ratios.DefaultThreads))
	flags.IntVar(&config.Users, "users", 0, fmt.Sprintf("distinct users, more than a window can serve (default %d)", ratios.DefaultUsers))
	flags.DurationVar(&config.Patience, "patience", 0, fmt.Sprintf("how long to wait, altogether, for other programs to leave the machine alone; negative: not at all (default %s)", ratios.DefaultPatience))
	flags.StringVar(&config.Profiles, "profiles", "", "write CPU profiles of the servers into this `folder`")
	flags.Func("only", "measure only these `candidates`, comma-separated: reserve, accepted, persist, sold-out, single, beside",
		func(names string) error {
			config.Only = strings.Split(names, ",")
			return nil
		})
	flags.Func("set", "`NAME=VALUE` in the environment of the servers with group commit, such as IN_FLIGHT=3; may be repeated",
		func(pair string) error {
			config.Server = append(config.Server, pair)
			return nil
		})
	flags.StringVar(&config.Dir, "dir", "", "`folder` for the stores' data, on the kind of disk that counts (default: for temporary files)")
	flags.StringVar(&config.Source, "source", "", "`folder` of the engine's module (default: found above this one)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	report, err := ratios.Run(ctx, config)
	if err != nil {
		return err
	}
	if err := report.WriteText(out); err != nil {
		return err
	}
	if *path != "" {
		text, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(*path, append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	if missed := report.Missed(); *strict && len(missed) > 0 {
		return fmt.Errorf("%d of %d floors are missed", len(missed), len(report.Ratios))
	}
	return nil
}

func runBare(ctx context.Context, _ []string, out, _ io.Writer) error {
	return ratios.ServeBare(ctx, out)
}

// self is our own program, to start as a child.
func self() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}
