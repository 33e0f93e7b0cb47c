package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"flashsale/bench/baseline"
	"flashsale/bench/compare"
)

// runCompare sets the engine beside the classical ways to take stock.
func runCompare(ctx context.Context, args []string, out, progress io.Writer) error {
	var (
		config  = compare.Config{Program: self(), Progress: progress}
		flags   = flag.NewFlagSet("bench compare", flag.ContinueOnError)
		outputs = addOutputs(flags)
	)
	flags.SetOutput(progress)
	flags.BoolVar(&config.Quick, "quick", false, "once and shortly: shows that everything runs, judges nothing")
	flags.IntVar(&config.Rounds, "rounds", 0, fmt.Sprintf("interleaved rounds (default %d)", compare.DefaultRounds))
	flags.DurationVar(&config.Window, "window", 0, fmt.Sprintf("how long each candidate is measured in a round, whole seconds (default %s)", compare.DefaultWindow))
	flags.IntVar(&config.Connections, "connections", 0, fmt.Sprintf("shoppers who ask at once (default %d)", compare.DefaultConnections))
	flags.IntVar(&config.Threads, "threads", 0, fmt.Sprintf("threads of wrk (default %d)", compare.DefaultThreads))
	flags.IntVar(&config.Users, "users", 0, fmt.Sprintf("distinct users, more than a window can serve (default %d)", compare.DefaultUsers))
	flags.IntVar(&config.Crowd, "crowd", 0, fmt.Sprintf("users who ask two nodes at once, to see what is sold (default %d)", compare.DefaultCrowd))
	flags.Func("only", "compare with these `baselines` only, comma-separated: mutex, lock, optimistic, conditional, separate, script",
		func(names string) error {
			config.Only = strings.Split(names, ",")
			return nil
		})
	flags.StringVar(&config.Dir, "dir", "", "`folder` for the stores' data, on the kind of disk that counts (default: for temporary files)")
	flags.StringVar(&config.Source, "source", "", "`folder` of the engine's module (default: found above this one)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	began := time.Now()
	part, err := compare.Run(ctx, config)
	if err != nil {
		return err
	}
	return outputs.write(out, newReport(ctx, config.Source, config.Dir, config.Quick, began, part))
}

// runBaseline is one node of a classical strategy; compare starts it.
func runBaseline(ctx context.Context, args []string, out, progress io.Writer) error {
	return baseline.Command(ctx, args, out, progress)
}
