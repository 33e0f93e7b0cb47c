package main

import (
	"context"
	"flag"
	"fmt"
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
	flags.BoolVar(&config.Quick, "quick", false, "once and shortly: shows that everything runs, judges nothing")
	flags.IntVar(&config.Rounds, "rounds", 0, fmt.Sprintf("interleaved rounds (default %d)", limits.DefaultRounds))
	flags.StringVar(&config.Dir, "dir", "", "`folder` for the stores' data, on the kind of disk that counts (default: for temporary files)")
	flags.StringVar(&config.Source, "source", "", "`folder` of the engine's module (default: found above this one)")
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
