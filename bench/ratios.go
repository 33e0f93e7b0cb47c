package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"flashsale/bench/ratios"
)

func runRatios(ctx context.Context, args []string, out, progress io.Writer) error {
	var (
		config  = ratios.Config{Program: self(), Progress: progress}
		flags   = flag.NewFlagSet("bench ratios", flag.ContinueOnError)
		outputs = addOutputs(flags)
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
	began := time.Now()
	part, err := ratios.Run(ctx, config)
	if err != nil {
		return err
	}
	return outputs.write(out, newReport(ctx, config.Source, config.Dir, config.Quick, began, part))
}

func runBare(ctx context.Context, _ []string, out, _ io.Writer) error {
	return ratios.ServeBare(ctx, out)
}
