package compare

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"flashsale/bench/baseline"
)

// Defaults of Config.
const (
	DefaultConnections = 256
	DefaultCrowd       = 1000
	DefaultRounds      = 5
	DefaultThreads     = 2
	DefaultUsers       = 240_000
	DefaultWindow      = 2 * time.Second
)

// A baseline serves fewer users than the engine: these are the parts that it needs.
const (
	redisShare    = 2
	databaseShare = 10
)

// Config says how to compare.
type Config struct {
	// Binary is the engine's; "" builds it from Source.
	Binary string
	// Connections is how many shoppers ask at once while it is measured how fast a candidate
	// is. Default 256.
	Connections int
	// Crowd is how many users ask two nodes while it is looked at what a candidate sells.
	// Default 1,000.
	Crowd int
	// Dir is where the stores keep their data. It should be on the kind of disk that counts.
	// Default: the system's folder for temporary files.
	Dir string
	// Only compares the engine with some baselines, by name. Default: all.
	Only []string
	// Program runs a node of a baseline when it is called as [baseline.Command] expects: our own.
	Program string
	// Progress hears of each step. Default: discarded.
	Progress io.Writer
	// Quick compares once and shortly: to see that everything runs, not how fast.
	Quick bool
	// Rounds is how often everything is measured. Default 5.
	Rounds int
	// Source is the engine's module. Default: found above the working directory.
	Source string
	// Threads is how many of wrk's threads ask. Default 2.
	Threads int
	// Users is how many distinct users there are: more than can be served in one window.
	// Default 240,000.
	Users int
	// Window is how long each candidate is measured in a round, in whole seconds. Default 2 s.
	Window time.Duration
}

func (c Config) withDefaults() Config {
	if c.Quick {
		c.Crowd, c.Rounds = cmp.Or(c.Crowd, 300), cmp.Or(c.Rounds, 1)
		c.Users, c.Window = cmp.Or(c.Users, 12_000), cmp.Or(c.Window, time.Second)
	}
	c.Connections = cmp.Or(c.Connections, DefaultConnections)
	c.Crowd = cmp.Or(c.Crowd, DefaultCrowd)
	c.Rounds = cmp.Or(c.Rounds, DefaultRounds)
	c.Threads = cmp.Or(c.Threads, DefaultThreads)
	c.Users = cmp.Or(c.Users, DefaultUsers)
	c.Window = cmp.Or(c.Window, DefaultWindow)
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Program == "":
		return errors.New("compare: Program is required")
	case c.Rounds < 1:
		return fmt.Errorf("compare: Rounds must be at least 1, not %d", c.Rounds)
	case c.Threads < 1 || c.Connections < c.Threads:
		return fmt.Errorf("compare: Threads must be at least 1 and Connections no fewer, not %d and %d", c.Threads, c.Connections)
	case c.Crowd < 10 || c.Crowd > c.Users:
		return fmt.Errorf("compare: Crowd must be 10 to Users (%d), not %d", c.Users, c.Crowd)
	case c.Users/databaseShare < c.Threads:
		return fmt.Errorf("compare: Users must be at least %d, not %d", databaseShare*c.Threads, c.Users)
	case c.Window < time.Second || c.Window%time.Second != 0:
		return fmt.Errorf("compare: Window must be whole seconds, not %s", c.Window)
	}
	for _, name := range c.Only {
		if !slices.ContainsFunc(baseline.Ways(), func(w baseline.Way) bool { return w.Name == name }) {
			return fmt.Errorf("compare: there is no baseline %q", name)
		}
	}
	return nil
}
