package ratios

import (
	"context"
	"fmt"

	"flashsale/bench/stats"
	"flashsale/bench/target"
)

// entryAnOrder is the last commit in which each accepted order was a stream entry of its own and a
// script run decided one item: what the engine of today is set beside.
const entryAnOrder = "b95c17fe15a6968a080116840eb3939ba8567a47"

// side is an engine that is measured: that of today, or an earlier one beside it.
type side struct {
	binary string

	deciding   *target.Stack // nobody persists: Redis and the server alone
	persisting *target.Stack // a worker persists everything
	group      *target.Server
	beside     *target.Server // beside the worker
	worker     *target.Worker

	items       []string // of deciding, one each measurement
	besideItems []string

	figures struct {
		group, beside overHTTP
		persisted     stats.Sample // share of the accepted that the worker had persisted at the end of the window
		persistRate   stats.Sample // orders persisted each second of the window
		persistRedis  stats.Sample // Redis, microseconds an order accepted and persisted
		drained       stats.Sample // seconds until it had persisted the rest
	}
}

// start starts the stores, the servers and the worker, with items and sessions for all rounds.
func (s *side) start(ctx context.Context, config Config, dir string, itemsARound int) (err error) {
	for _, stack := range []**target.Stack{&s.deciding, &s.persisting} {
		if *stack, err = target.StartStack(ctx, s.binary, dir); err != nil {
			return err
		}
		if err := (*stack).Tidy(ctx); err != nil {
			return err
		}
	}
	if s.group, err = s.deciding.Serve(ctx, config.Server...); err != nil {
		return err
	}
	if s.beside, err = s.persisting.Serve(ctx, config.Server...); err != nil {
		return err
	}
	if s.worker, err = s.persisting.Work(ctx); err != nil {
		return err
	}
	if s.items, err = s.group.CreateItems(ctx, itemsARound*(config.Rounds+1), stock); err != nil {
		return err
	}
	if s.besideItems, err = s.beside.CreateItems(ctx, config.Rounds+1, stock); err != nil {
		return err
	}
	for _, stack := range []*target.Stack{s.deciding, s.persisting} {
		if err := stack.CreateSessions(ctx, 0, userSets*config.Users); err != nil {
			return err
		}
		if err := stack.Tidy(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close ends everything, senders before receivers.
func (s *side) close() (errs []error) {
	stop := func(name string, stop func() error) {
		if err := stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop the %s: %w", name, err))
		}
	}
	for _, server := range []*target.Server{s.group, s.beside} {
		if server != nil {
			stop("server", server.Stop)
		}
	}
	if s.worker != nil {
		stop("worker", s.worker.Stop)
	}
	for _, stack := range []*target.Stack{s.deciding, s.persisting} {
		if stack != nil {
			errs = append(errs, stack.Stop())
		}
	}
	return errs
}
