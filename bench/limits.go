package main

import (
	"context"
	"flag"
	"io"
	"time"

	"flashsale/bench/limits"
)

// runLimits measures how near the engine comes to what its stores can do at most.
func runLimits(ctx context.Context, args []string, out, progress io.Writer) error {
	var (
		config  = limits.Config{Progress: progress}
		flags   = flag.NewFlagSet("bench limits", flag.ContinueOnError)
		outputs = addOutputs(flags)
	)
	flags.SetOutput(progress)
	addRounds(flags, &config.Quick, &config.Rounds, limits.DefaultRounds)
	addPlaces(flags, &config.Dir, &config.Source)
	if err := flags.Parse(args); err != nil {
		return err
	}
	began := time.Now()
	part, err := limits.Run(ctx, config)
	if err != nil {
		return err
	}
	return outputs.write(out, newReport(ctx, config.Source, config.Dir, config.Quick, began, part))
}
