package peak

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"flashsale/bench/target"
)

// Defaults of RushConfig.
const (
	DefaultRushBefore = 100
	DefaultRushLength = 4 * time.Second
	DefaultRushRate   = 15_000
	DefaultRushStock  = 5_000
	DefaultRushRounds = 3
)

const (
	rushReady  = time.Second // to create the item and to connect
	rushQuiet  = time.Second // before the opening
	watchEvery = 50 * time.Millisecond
)

// RushConfig says what opening to play.
type RushConfig struct {
	// Before is how many requests are due each second in the second before the opening: those
	// who come early and are told when it opens. Default 100.
	Before int
	// Binary is the engine's; "" builds it. Ignored with a Stage.
	Binary string
	// Connections of the generator. Default 256.
	Connections int
	// Dir is where the stores keep their data. Ignored with a Stage.
	Dir string
	// Length is how long the crowd comes. Default 4 s.
	Length time.Duration
	// Progress hears of each step. Default: discarded.
	Progress io.Writer
	// Rate is how many requests are due each second once it has opened, each of another user.
	// Default 15,000.
	Rate int
	// Rounds is how often it is played, each time with a fresh item. Default 3.
	Rounds int
	// Source is the engine's module. Ignored with a Stage or a Binary.
	Source string
	// Stage is where to play, with Stack and Server set, and a worker that runs. Default: one of
	// its own.
	Stage *Stage
	// Stock is how many units there are. Default 5,000.
	Stock int64
}

func (c RushConfig) withDefaults() RushConfig {
	c.Before = cmp.Or(c.Before, DefaultRushBefore)
	c.Connections = cmp.Or(c.Connections, DefaultConnections)
	c.Length = cmp.Or(c.Length, DefaultRushLength)
	c.Rate = cmp.Or(c.Rate, DefaultRushRate)
	c.Rounds = cmp.Or(c.Rounds, DefaultRushRounds)
	c.Stock = cmp.Or(c.Stock, DefaultRushStock)
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

func (c RushConfig) validate() error {
	if c.Rounds < 1 || c.Stock < 1 {
		return fmt.Errorf("peak: Rounds and Stock must be at least 1, not %d and %d", c.Rounds, c.Stock)
	}
	if c.Before < 1 {
		return fmt.Errorf("peak: Before must be at least 1, not %d", c.Before)
	}
	if err := c.load().Validate(); err != nil {
		return err
	}
	if total := newSchedule(c.load().Phases).total; total <= c.Stock {
		return fmt.Errorf("peak: Stock must be below the %d requests of the rush, not %d", total, c.Stock)
	}
	return nil
}

// load is what the generator sends, wherever it is.
func (c RushConfig) load() Config {
	return Config{
		Connections: c.Connections, Progress: c.Progress,
		Phases: []Phase{{Rate: c.Before, Duration: rushQuiet}, {Rate: c.Rate, Duration: c.Length}},
	}
}

// round is one opening that was played.
type round struct {
	opens  time.Time
	result *Result
	proof  Proof
	seen   []sight
}

// sight is what Redis held at a moment.
type sight struct {
	at   time.Time
	item target.Item
}

// persisted is how many orders are in PostgreSQL: the worker takes an entry out of the stream
// after its commit. The two figures are read one after the other, hence the bound.
func (s sight) persisted() int64 { return max(0, s.item.Sequence-s.item.Waiting) }

// playRounds plays all openings on one stage.
func playRounds(ctx context.Context, c RushConfig) (_ []round, err error) {
	stage := c.Stage
	if stage == nil {
		fmt.Fprintln(c.Progress, "starting redis, postgresql, a server and a worker")
		if stage, err = StartStage(ctx, c.Binary, c.Source, c.Dir); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, stage.Close()) }()
	}
	if err := stage.Crowd(ctx, c.load()); err != nil {
		return nil, err
	}
	var rounds []round
	for n := range c.Rounds {
		fmt.Fprintf(c.Progress, "opening %d of %d\n", n+1, c.Rounds)
		r, err := stage.rush(ctx, c)
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, r)
	}
	return rounds, nil
}

// rush plays one opening and watches Redis meanwhile.
func (s *Stage) rush(ctx context.Context, c RushConfig) (r round, err error) {
	r.opens = time.Now().Add(rushReady + rushQuiet)
	items, err := s.Server.SellAt(ctx, r.opens, target.Offer{Stock: c.Stock, PriceFen: 100, PayTimeout: target.Day})
	if err != nil {
		return r, err
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	over, seen := make(chan struct{}), make(chan watched, 1)
	go func() { seen <- s.watch(watching, items[0], over) }()
	load := c.load()
	load.URLs, load.Item, load.Start = []string{s.Server.URL}, items[0], r.opens.Add(-rushQuiet)
	if r.result, err = Run(ctx, load); err != nil {
		cancel()
	}
	close(over)
	w := <-seen
	if err = cmp.Or(err, w.err); err != nil {
		return r, err
	}
	r.seen = w.sights
	r.proof, err = s.Prove(ctx, items[0], c.Stock, r.result)
	return r, err
}

// watched is what a watch ends with.
type watched struct {
	sights []sight
	err    error
}

// watch looks at an item until the run is over and the stream is drained, or drainMax later.
func (s *Stage) watch(ctx context.Context, item string, over <-chan struct{}) (w watched) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	var limit <-chan time.Time
	for ended := false; ; {
		at := time.Now()
		held, err := s.Stack.Item(ctx, item)
		if err != nil {
			w.err = err
			return w
		}
		w.sights = append(w.sights, sight{at: at, item: held})
		if ended && held.Waiting == 0 {
			return w
		}
		select {
		case <-ticker.C:
		case <-over:
			ended, over, limit = true, nil, time.After(drainMax)
		case <-limit:
			return w // the proof says what it is about
		case <-ctx.Done():
			w.err = ctx.Err()
			return w
		}
	}
}
