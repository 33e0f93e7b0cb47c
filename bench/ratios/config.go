package ratios

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"
)

// Defaults of Config.
const (
	DefaultConnections = 256
	DefaultPatience    = time.Minute
	DefaultRounds      = 5
	DefaultThreads     = 2
	DefaultUsers       = 300_000
	DefaultWindow      = 4 * time.Second
)

// Config says how to measure.
type Config struct {
	// Before is the commit of the engine that is set beside that of today. Default: the last one
	// in which an order was a stream entry of its own, where the repository's history has it.
	Before string
	// Binary is the engine's; "" builds it from Source.
	Binary string
	// Connections is how many shoppers ask at once. Default 256.
	Connections int
	// Dir is where the stores keep their data while we measure. It should be on the kind of
	// disk that counts. Default: the system's folder for temporary files.
	Dir string
	// Only measures some candidates, by name: reserve, accepted, persist, sold-out, single, beside,
	// before, many, idle, results. Default: all.
	Only []string
	// Patience is how long the whole run waits, all waits together, for other programs to
	// leave the machine alone. Default 1 min; negative: not at all.
	Patience time.Duration
	// Profiled are the candidates to take profiles of. Default: those over HTTP.
	Profiled []string
	// Profiles is a folder for CPU profiles of the servers, taken in a round that does not
	// count. "" takes none.
	Profiles string
	// Program starts our own `bare` command, which answers on the address it prints.
	Program string
	// Progress hears of each step. Default: discarded.
	Progress io.Writer
	// Quick measures once and shortly: to see that everything runs, not how fast.
	Quick bool
	// Rounds is how often everything is measured. Default 5.
	Rounds int
	// Server is further environment of the servers with group commit, such as IN_FLIGHT=3: to
	// try what a setting is worth.
	Server []string
	// Source is the engine's module. Default: found above the working directory.
	Source string
	// Threads is how many of wrk's threads ask. Default 2.
	Threads int
	// Users is how many distinct users there are: more than can be served in one window.
	// Default 300,000.
	Users int
	// Window is how long each candidate is measured in a round, in whole seconds. Default 4 s.
	Window time.Duration
}

func (c Config) withDefaults() Config {
	if c.Quick {
		c.Rounds, c.Users, c.Window, c.Patience = cmp.Or(c.Rounds, 1), cmp.Or(c.Users, 60_000), cmp.Or(c.Window, time.Second), -1
	}
	c.Connections = cmp.Or(c.Connections, DefaultConnections)
	c.Patience = cmp.Or(c.Patience, DefaultPatience)
	c.Rounds = cmp.Or(c.Rounds, DefaultRounds)
	c.Threads = cmp.Or(c.Threads, DefaultThreads)
	c.Users = cmp.Or(c.Users, DefaultUsers)
	c.Window = cmp.Or(c.Window, DefaultWindow)
	if len(c.Profiled) == 0 {
		c.Profiled = []string{"accepted", "sold-out", "single", "beside"}
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Program == "":
		return errors.New("ratios: Program is required")
	case c.Rounds < 1:
		return fmt.Errorf("ratios: Rounds must be at least 1, not %d", c.Rounds)
	case c.Threads < 1 || c.Connections < c.Threads:
		return fmt.Errorf("ratios: Threads must be at least 1 and Connections no fewer, not %d and %d", c.Threads, c.Connections)
	case c.Users < 2*soldOutStock:
		return fmt.Errorf("ratios: Users must be at least %d, not %d", 2*soldOutStock, c.Users)
	case c.Window < time.Second || c.Window%time.Second != 0:
		return fmt.Errorf("ratios: Window must be whole seconds, not %s", c.Window)
	}
	return nil
}
