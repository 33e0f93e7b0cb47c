package main

import (
	"flag"
	"fmt"
	"time"
)

// What the commands that measure have in common, said once.

func addRounds(flags *flag.FlagSet, quick *bool, rounds *int, usual int) {
	flags.BoolVar(quick, "quick", false, "once and shortly: shows that everything runs, judges nothing")
	flags.IntVar(rounds, "rounds", 0, fmt.Sprintf("interleaved rounds (default %d)", usual))
}

func addPlaces(flags *flag.FlagSet, dir, source *string) {
	flags.StringVar(dir, "dir", "", "`folder` for the stores' data, on the kind of disk that counts (default: for temporary files)")
	flags.StringVar(source, "source", "", "`folder` of the engine's module (default: found above this one)")
}

// load is what wrk is told.
type load struct {
	window                      time.Duration
	connections, threads, users int
}

func addLoad(flags *flag.FlagSet, usual load) *load {
	var l load
	flags.DurationVar(&l.window, "window", 0, fmt.Sprintf("how long each candidate is measured in a round, whole seconds (default %s)", usual.window))
	flags.IntVar(&l.connections, "connections", 0, fmt.Sprintf("shoppers who ask at once (default %d)", usual.connections))
	flags.IntVar(&l.threads, "threads", 0, fmt.Sprintf("threads of wrk (default %d)", usual.threads))
	flags.IntVar(&l.users, "users", 0, fmt.Sprintf("distinct users, more than a window can serve (default %d)", usual.users))
	return &l
}
