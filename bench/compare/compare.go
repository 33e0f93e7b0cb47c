package compare

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flashsale/bench/baseline"
	"flashsale/bench/report"
	"flashsale/bench/target"
	"flashsale/bench/wrk"
)

// Run compares. An error means that it could not; what was measured and was not true is among
// the part's failures if it is the engine's, and in the row's note otherwise.
func Run(ctx context.Context, config Config) (_ *report.Part, err error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	r := &run{Config: config, began: time.Now()}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	for n := range config.Rounds {
		if err := r.round(ctx, n); err != nil {
			return nil, fmt.Errorf("round %d: %w", n+1, err)
		}
	}
	for _, c := range r.candidates {
		for _, trial := range r.trials() {
			if err := r.try(ctx, c, trial); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", c.name, trial.name, err)
			}
		}
	}
	return r.report(), nil
}

// run is what is running while we compare.
type run struct {
	Config

	began time.Time
	work  target.Workspace
	wrk   *wrk.Runner
	stack *target.Stack
	ours  baseline.Stores // to prepare items and to read what became of them

	candidates []*candidate
	lastItem   int64    // of the baselines, which number their items themselves
	failures   []string // what the engine did wrong
}

// sayf tells of a step.
func (r *run) sayf(format string, args ...any) {
	fmt.Fprintf(r.Progress, "%6.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *run) prepare(ctx context.Context) (err error) {
	r.sayf("building the engine, unless it was given")
	if r.work, err = target.NewWorkspace(ctx, r.Dir, r.Source, r.Binary); err != nil {
		return err
	}
	if r.wrk, err = wrk.New(r.work.Dir); err != nil {
		return err
	}
	r.sayf("starting a stack")
	if r.stack, err = target.StartStack(ctx, r.work.Binary, r.work.Dir); err != nil {
		return err
	}
	if r.ours, err = baseline.Open(ctx, r.node("", 0, 0)); err != nil {
		return err
	}
	if err := baseline.Setup(ctx, r.ours.Database); err != nil {
		return err
	}
	r.candidates = r.all()
	r.sayf("writing the sessions of %d users", r.Users)
	if err := r.stack.CreateSessions(ctx, 0, r.Users); err != nil {
		return err
	}
	return r.stack.Tidy(ctx)
}

// round measures every candidate once; each round begins with another one.
func (r *run) round(ctx context.Context, n int) error {
	for i := range r.candidates {
		c := r.candidates[(i+n)%len(r.candidates)]
		if err := r.measure(ctx, c, n); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return r.stack.Tidy(ctx)
}

// judge notes what a candidate did wrong, if it did.
func (r *run) judge(c *candidate, where string, v verdict) {
	if !v.wrong() {
		return
	}
	if c.engine {
		r.failures = append(r.failures, fmt.Sprintf("%s, %s: %s", c.name, where, v))
	}
	c.wrong = true
}

// close ends everything, senders before receivers. Nodes belong to their sale.
func (r *run) close() error {
	r.ours.Close()
	var errs []error
	if r.stack != nil {
		errs = append(errs, r.stack.Stop())
	}
	return errors.Join(append(errs, r.work.Close())...)
}
