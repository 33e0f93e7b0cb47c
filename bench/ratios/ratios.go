package ratios

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flashsale/bench/proc"
	"flashsale/bench/report"
	"flashsale/bench/target"
	"flashsale/bench/wrk"
)

const (
	stock = 100_000_000 // never sold out within a window

	// calmShare is how much of the machine others may use while we wait to measure.
	calmShare = 0.08

	// soldOutStock is the stock of the item that is sold out before it is measured.
	soldOutStock = 1000

	// userSets are used in turn, so that a session is older than the minute for which a server
	// trusts it when its turn comes again, and is read afresh before the clock starts: none
	// runs out in the middle.
	userSets = 2

	drainTimeout = 5 * time.Minute
)

// one turns group commit off: one request a script call, pipelined by the client's library.
var one = []string{"BATCH_MAX=1", "IN_FLIGHT=1048576"}

// Run measures. It returns what it found also when a floor is missed; an error means that it could
// not measure, or that what it measured was not true.
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
			return nil, err
		}
	}
	if r.Profiles != "" {
		if err := r.profiles(ctx); err != nil {
			return nil, err
		}
	}
	r.sayf("audit")
	audit, err := r.persisting.Run(ctx, "audit")
	if err != nil {
		return nil, fmt.Errorf("a fast run that breaks an invariant is a failed run: %w", err)
	}
	return r.part(r.wrk.Version(ctx), audit), nil
}

// run is what is running while we measure.
type run struct {
	Config
	began   time.Time
	work    target.Workspace
	wrk     *wrk.Runner
	engine  string // test binary of the engine's benchmarks
	ledger  string // test binary of the ledger's benchmarks
	figures figures

	deciding   *target.Stack // nobody persists: Redis and the server alone
	persisting *target.Stack // a worker persists everything
	bare       *bareServer
	group      *target.Server
	single     *target.Server
	beside     *target.Server // beside the worker
	worker     *target.Worker

	besideWorker bool           // the window that is open is beside the worker
	profiling    string         // name of the profile that a window takes; "" takes none
	tables       []report.Table // of the profiles

	items       []string // of deciding, one each measurement
	besideItems []string
	soldOut     string
}

// sayf tells of a step.
func (r *run) sayf(format string, args ...any) {
	fmt.Fprintf(r.Progress, "%6.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *run) prepare(ctx context.Context) (err error) {
	r.sayf("building the engine and its benchmarks")
	if r.work, err = target.NewWorkspace(ctx, r.Dir, r.Source, r.Binary); err != nil {
		return err
	}
	if r.wrk, err = wrk.New(r.work.Dir); err != nil {
		return err
	}
	if r.wants("reserve") {
		if r.engine, err = target.BuildTest(ctx, r.work.Source, "engine", r.work.Dir); err != nil {
			return err
		}
	}
	if r.wants("persist") {
		if r.ledger, err = target.BuildTest(ctx, r.work.Source, "postgres", r.work.Dir); err != nil {
			return err
		}
	}
	r.sayf("starting two stacks, three servers, a worker and the bare handler")
	return r.start(ctx)
}

func (r *run) start(ctx context.Context) (err error) {
	for _, stack := range []**target.Stack{&r.deciding, &r.persisting} {
		if *stack, err = target.StartStack(ctx, r.work.Binary, r.work.Dir); err != nil {
			return err
		}
		if err := (*stack).Tidy(ctx); err != nil {
			return err
		}
	}
	if r.group, err = r.deciding.Serve(ctx, r.Server...); err != nil {
		return err
	}
	if r.single, err = r.deciding.Serve(ctx, one...); err != nil {
		return err
	}
	if r.beside, err = r.persisting.Serve(ctx, r.Server...); err != nil {
		return err
	}
	if r.worker, err = r.persisting.Work(ctx); err != nil {
		return err
	}
	if r.bare, err = startBare(r.Program); err != nil {
		return err
	}
	if r.items, err = r.group.CreateItems(ctx, 2*(r.Rounds+1), stock); err != nil {
		return err
	}
	if r.besideItems, err = r.beside.CreateItems(ctx, r.Rounds+1, stock); err != nil {
		return err
	}
	r.sayf("writing the sessions of %d users", userSets*r.Users)
	for _, stack := range []*target.Stack{r.deciding, r.persisting} {
		if err := stack.CreateSessions(ctx, 0, userSets*r.Users); err != nil {
			return err
		}
		if err := stack.Tidy(ctx); err != nil {
			return err
		}
	}
	return r.sellOut(ctx)
}

// sellOut sells an item out to users who are not among those who ask for it later.
func (r *run) sellOut(ctx context.Context) error {
	const buyers = 2 * soldOutStock
	first := userSets * r.Users
	if err := r.deciding.CreateSessions(ctx, first, buyers); err != nil {
		return err
	}
	items, err := r.group.CreateItems(ctx, 1, soldOutStock)
	if err != nil {
		return err
	}
	r.soldOut = items[0]
	load := r.load(r.group.URL, r.soldOut)
	load.FirstUser, load.Users, load.Length = first, buyers, time.Second
	result, err := r.wrk.Run(ctx, load)
	if err != nil {
		return err
	}
	if result.Accepted() != soldOutStock {
		return fmt.Errorf("an item of %d units was sold %d times", soldOutStock, result.Accepted())
	}
	return nil
}

// close ends everything, senders before receivers.
func (r *run) close() error {
	var errs []error
	stop := func(name string, stop func() error) {
		if err := stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop the %s: %w", name, err))
		}
	}
	for _, server := range []*target.Server{r.group, r.single, r.beside} {
		if server != nil {
			stop("server", server.Stop)
		}
	}
	if r.worker != nil {
		stop("worker", r.worker.Stop)
	}
	if r.bare != nil {
		stop("bare handler", r.bare.process.Stop)
	}
	for _, stack := range []*target.Stack{r.deciding, r.persisting} {
		if stack != nil {
			errs = append(errs, stack.Stop())
		}
	}
	return errors.Join(append(errs, r.work.Close())...)
}

// cpu is the processor time of each process.
func cpu(pids []int) ([]time.Duration, error) {
	used := make([]time.Duration, len(pids))
	for n, pid := range pids {
		var err error
		if used[n], err = proc.CPU(pid); err != nil {
			return nil, err
		}
	}
	return used, nil
}
