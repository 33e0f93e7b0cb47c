package limits

import (
	"cmp"
	"fmt"
	"io"
)

// DefaultRounds is how often everything is measured.
const DefaultRounds = 5

// Sizes of one measurement: one to two seconds each on a small machine, the same work in every
// round.
const (
	decisions   = 400_000
	reservation = 400_000 // of the engine's benchmark
	batches     = 100     // of 1,000 rows each
	quickly     = 10      // divides them
)

// Config says how to measure.
type Config struct {
	// Binary is the engine's; "" builds it from Source.
	Binary string
	// Dir is where the stores keep their data. It should be on the kind of disk that counts.
	// Default: the system's folder for temporary files.
	Dir string
	// Progress hears of each step. Default: discarded.
	Progress io.Writer
	// Quick measures once and shortly: to see that everything runs, not how fast.
	Quick bool
	// Rounds is how often everything is measured. Default 5.
	Rounds int
	// Source is the engine's module. Default: found above the working directory.
	Source string
}

func (c Config) withDefaults() Config {
	if c.Quick {
		c.Rounds = cmp.Or(c.Rounds, 1)
	}
	c.Rounds = cmp.Or(c.Rounds, DefaultRounds)
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

func (c Config) validate() error {
	if c.Rounds < 1 {
		return fmt.Errorf("limits: Rounds must be at least 1, not %d", c.Rounds)
	}
	return nil
}

// size is how much work a measurement is in this run.
func (c Config) size(of int) int {
	if c.Quick {
		return of / quickly
	}
	return of
}
