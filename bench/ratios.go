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
	addRounds(flags, &config.Quick, &config.Rounds, ratios.DefaultRounds)
	l := addLoad(flags, load{ratios.DefaultWindow, ratios.DefaultConnections, ratios.DefaultThreads, ratios.DefaultUsers})
	flags.DurationVar(&config.Patience, "patience", 0, fmt.Sprintf("how long to wait, altogether, for other programs to leave the machine alone; negative: not at all (default %s)", ratios.DefaultPatience))
	flags.StringVar(&config.Profiles, "profiles", "", "write CPU profiles of the servers into this `folder`")
	flags.Func("only", "measure only these `candidates`, comma-separated: reserve, accepted, persist, sold-out, single, beside, before, many, idle, results",
		func(names string) error {
			config.Only = strings.Split(names, ",")
			return nil
		})
	flags.Func("set", "`NAME=VALUE` in the environment of the servers with group commit, such as IN_FLIGHT=3; may be repeated",
		func(pair string) error {
			config.Server = append(config.Server, pair)
			return nil
		})
	flags.StringVar(&config.Before, "before", "", "`commit` of the engine that is set beside that of today (default: the last in which an order was a stream entry of its own)")
	addPlaces(flags, &config.Dir, &config.Source)
	if err := flags.Parse(args); err != nil {
		return err
	}
	config.Window, config.Connections, config.Threads, config.Users = l.window, l.connections, l.threads, l.users
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
