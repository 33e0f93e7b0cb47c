package peak

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flashsale/bench/target"
)

// drainMax is how long the worker may take to persist what was accepted.
const drainMax = time.Minute

// Stage is a private stack with a server and a worker, where a crowd can be played and what it
// was told can be proved.
type Stage struct {
	Stack  *target.Stack
	Server *target.Server
	Worker *target.Worker

	work target.Workspace
}

// StartStage starts a stage with its data in a new folder below dir ("": where temporary files
// are). Without the engine's binary it is built from source ("": found above this module).
func StartStage(ctx context.Context, binary, source, dir string) (_ *Stage, err error) {
	s := &Stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.work, err = target.NewWorkspace(ctx, dir, source, binary); err != nil {
		return nil, err
	}
	if s.Stack, err = target.StartStack(ctx, s.work.Binary, s.work.Dir); err != nil {
		return nil, err
	}
	if s.Server, err = s.Stack.Serve(ctx); err != nil {
		return nil, err
	}
	s.Worker, err = s.Stack.Work(ctx)
	return s, err
}

// Close ends everything, senders before receivers, and removes the data.
func (s *Stage) Close() error {
	var errs []error
	if s.Server != nil {
		errs = append(errs, s.Server.Stop())
	}
	if s.Worker != nil {
		errs = append(errs, s.Worker.Stop())
	}
	if s.Stack != nil {
		errs = append(errs, s.Stack.Stop())
	}
	return errors.Join(append(errs, s.work.Close())...)
}

// Crowd logs in the users of a load and lets the server know them, as it knows shoppers who have
// looked at the sale before it opens.
func (s *Stage) Crowd(ctx context.Context, c Config) error {
	c = c.withDefaults()
	if err := c.validateLoad(); err != nil {
		return err
	}
	fmt.Fprintf(c.Progress, "logging in %s users\n", count(int64(c.Users)))
	if err := s.Stack.CreateSessions(ctx, c.FirstUser, c.Users); err != nil {
		return err
	}
	return s.Server.Warm(ctx, c.FirstUser, c.Users)
}

// Proof is what the engine holds after a run, beside what the crowd was told.
type Proof struct {
	Item     target.Item `json:"-"`
	Audit    string      `json:"audit"`
	Failures []string    `json:"failures,omitempty"` // any: somebody was told what is not true
}

func (p *Proof) failf(format string, args ...any) {
	p.Failures = append(p.Failures, fmt.Sprintf(format, args...))
}

// Prove waits until the worker has persisted everything and compares: the item must have been
// fresh before the run, with so many units and a limit of one a user.
func (s *Stage) Prove(ctx context.Context, item string, stock int64, r *Result) (Proof, error) {
	var p Proof
	err := target.Await(ctx, drainMax, "the worker", func() (_ bool, err error) {
		p.Item, err = s.Stack.Item(ctx, item)
		return p.Item.Waiting == 0, err
	})
	if err != nil && ctx.Err() != nil {
		return p, err
	}
	if err != nil {
		p.failf("%v: redis holds %+v", err, p.Item)
	}
	p.compare(stock, r)
	if p.Audit, err = s.Stack.Run(ctx, "audit"); err != nil {
		if ctx.Err() != nil {
			return p, err
		}
		p.failf("%v", err)
	}
	return p, nil
}

// compare finds where what the crowd was told differs from what Redis holds.
func (p *Proof) compare(stock int64, r *Result) {
	told, doubtful := r.Counts[Accepted], r.Doubtful()
	if sold := p.Item.Sequence; sold < told || sold > told+doubtful {
		p.failf("the crowd was told of %d orders (%d requests were left without an answer), redis accepted %d",
			told, doubtful, sold)
	}
	if p.Item.Stock != stock-p.Item.Sequence || p.Item.Stock < 0 {
		p.failf("of %d units %d were sold, but redis holds %d", stock, p.Item.Sequence, p.Item.Stock)
	}
	if p.Item.Buyers != p.Item.Sequence {
		p.failf("%d orders were accepted of %d users, who may hold one each", p.Item.Sequence, p.Item.Buyers)
	}
	if refused := r.Counts["sold_out"]; refused > 0 && p.Item.Stock > 0 {
		p.failf("%d shoppers were told that it is sold out, but %d units are left", refused, p.Item.Stock)
	}
	if twice := r.Counts["duplicate_order"]; twice > 0 && r.Wrapped == 0 {
		p.failf("%d shoppers who asked once were told that they hold an order already", twice)
	}
}
