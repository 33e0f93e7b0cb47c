package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"flashsale/bench/target"
)

// DefaultSeconds is how long a scene with a rate goes on.
const DefaultSeconds = 5

// Clients are k6's own one, and the faster one of package xflash.
const (
	ClientHTTP  = "http"
	ClientFlash = "flash"
)

// Config says what to play. The zero value of a field takes the scene's own.
type Config struct {
	// Args are further arguments of k6.
	Args []string
	// Binary is the engine's; "" builds it from Source.
	Binary string
	// Client buys: http or flash. Default: flash where k6's own would be the limit.
	Client string
	// Connections is how many requests may be under way at once. Default: half of the rate.
	Connections int
	// Dashboard is a file for k6's own dashboard, of one scene. "" writes none.
	Dashboard string
	// Plant builds the engine with one of [target.Bugs]: the run must fail.
	Plant string
	// Program is our own, which plays k6.
	Program string
	// Progress hears of each step. Default: discarded.
	Progress io.Writer
	// Rate is how many iterations begin each second.
	Rate int
	// Scenes are played in this order. Default: all.
	Scenes []string
	// Seconds is how long at that rate. Default 5.
	Seconds int
	// Source is the engine's module. Default: found above the working directory.
	Source string
	// Stock is how many units the item has.
	Stock int64
	// Target is a server of the caller's; without a URL a private stack is started.
	Target Target
}

// Target is a server that runs already.
type Target struct {
	URL    string // for shoppers
	Tokens string // file, a token a line, each of another user
	Item   string // fresh, with Config.Stock units; "" creates one a scene by way of Ops
	Ops    string // URL of the operators' listener, for items, counts and audit; "" audits nothing
	Admin  string // token for it
}

func (c Config) withDefaults() Config {
	c.Seconds = cmp.Or(c.Seconds, DefaultSeconds)
	c.Target.URL, c.Target.Ops = strings.TrimSuffix(c.Target.URL, "/"), strings.TrimSuffix(c.Target.Ops, "/")
	if len(c.Scenes) == 0 {
		for _, scene := range Scenes() {
			c.Scenes = append(c.Scenes, scene.Name)
		}
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

func (c Config) validate() error {
	for _, name := range c.Scenes {
		if _, ok := find(name); !ok {
			return fmt.Errorf("there is no scenario %q: `bench list` names them", name)
		}
	}
	switch {
	case c.Program == "":
		return errors.New("scenario: Program is required")
	case c.Rate < 0 || c.Seconds < 1 || c.Stock < 0 || c.Connections < 0:
		return fmt.Errorf("rate, seconds, stock and connections must be positive, not %d, %d, %d and %d",
			c.Rate, c.Seconds, c.Stock, c.Connections)
	case c.Client != "" && c.Client != ClientHTTP && c.Client != ClientFlash:
		return fmt.Errorf("there is no client %q: http, flash", c.Client)
	case c.Dashboard != "" && len(c.Scenes) > 1:
		return errors.New("k6's dashboard shows one scenario: name it")
	case c.Plant != "" && c.Binary != "":
		return errors.New("a bug is planted in an engine that is built here, not in a binary")
	case c.Plant != "" && !slices.Contains(plants(), c.Plant):
		return fmt.Errorf("there is no bug %q to plant: %s", c.Plant, strings.Join(plants(), ", "))
	}
	return c.validateTarget()
}

func (c Config) validateTarget() error {
	t := c.Target
	if t.URL == "" {
		if t != (Target{Admin: t.Admin}) { // the token may come from the environment
			return errors.New("--item, --tokens and --ops describe a --target, which is not named")
		}
		return nil
	}
	for _, address := range []string{t.URL, t.Ops} {
		if u, err := url.Parse(address); address != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("%q is not a URL such as http://127.0.0.1:8080", address)
		}
	}
	switch {
	case c.Plant != "":
		return errors.New("nothing can be planted in a target")
	case t.Tokens == "":
		return errors.New("a target needs --tokens: a file with a token a line, each of another user")
	case t.Item == "" && (t.Ops == "" || t.Admin == ""):
		return errors.New("a target needs --item, a fresh one, or --ops and --admin-token to create one")
	case t.Item != "" && len(c.Scenes) > 1:
		return errors.New("--item is sold by one scenario: name it, or let each create its own by --ops and --admin-token")
	}
	return nil
}

// plants are the names of the bugs that can be planted.
func plants() (names []string) {
	for _, plant := range target.Bugs() {
		names = append(names, plant.Name)
	}
	return names
}
