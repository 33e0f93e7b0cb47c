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
	addRounds(flags, &config.Quick, &config.Rounds, compare.DefaultRounds)
	l := addLoad(flags, load{compare.DefaultWindow, compare.DefaultConnections, compare.DefaultThreads, compare.DefaultUsers})
	flags.IntVar(&config.Crowd, "crowd", 0, fmt.Sprintf("users who ask two nodes at once, to see what is sold (default %d)", compare.DefaultCrowd))
	flags.Func("only", "compare with these `baselines` only, comma-separated: mutex, lock, optimistic, conditional, separate, script",
		func(names string) error {
			config.Only = strings.Split(names, ",")
			return nil
		})
	addPlaces(flags, &config.Dir, &config.Source)
	if err := flags.Parse(args); err != nil {
		return err
	}
	config.Window, config.Connections, config.Threads, config.Users = l.window, l.connections, l.threads, l.users
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
