package ratios

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"flashsale/bench/proc"
	"flashsale/bench/report"
	"flashsale/bench/target"
	"flashsale/bench/wrk"
)

const (
	stock = 100_000_000 // never sold out within a window

	manyItems = 1000 // of the candidate that sells many at once

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

	side         // the engine of today
	before *side // the engine of entryAnOrder; nil: not measured
	bare   *bareServer
	single *target.Server

	besideWorker bool           // the window that is open is beside the worker
	profiling    string         // name of the profile that a window takes; "" takes none
	tables       []report.Table // of the profiles
	notes        []string

	spares    int      // thousands of users that were taken
	manyItems []string // ascending, without a gap
	soldOut   string
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
	if r.wants("before") {
		if err := r.buildBefore(ctx); err != nil {
			return err
		}
	}
	r.sayf("starting stores, servers, workers and the bare handler, and writing the sessions of %d users", userSets*r.Users)
	r.binary = r.work.Binary
	return r.start(ctx)
}

// buildBefore builds the engine as it was. Without the repository's history there is none to build.
func (r *run) buildBefore(ctx context.Context) error {
	binary, err := target.BuildAt(ctx, r.work.Source, cmp.Or(r.Before, entryAnOrder), r.work.Dir)
	if err != nil && r.Before != "" {
		return err
	}
	if err != nil {
		r.notes = append(r.notes, "The engine as it was is not measured: "+err.Error())
		r.sayf("without the engine as it was: %v", err)
		return nil
	}
	r.before = &side{binary: binary}
	return nil
}

func (r *run) start(ctx context.Context) (err error) {
	if err := r.side.start(ctx, r.Config, r.work.Dir, 2); err != nil {
		return err
	}
	if r.before != nil {
		if err := r.before.start(ctx, r.Config, r.work.Dir, 1); err != nil {
			return fmt.Errorf("the engine as it was: %w", err)
		}
	}
	if r.single, err = r.deciding.Serve(ctx, one...); err != nil {
		return err
	}
	if r.manyItems, err = r.group.CreateItems(ctx, manyItems, stock); err != nil {
		return err
	}
	if err := consecutive(r.manyItems); err != nil {
		return err
	}
	if r.bare, err = startBare(r.Program); err != nil {
		return err
	}
	return r.sellOut(ctx)
}

// consecutive makes sure of what wrk is told of many items.
func consecutive(ids []string) error {
	for n := range ids[1:] {
		before, _ := strconv.ParseInt(ids[n], 10, 64)
		if next, err := strconv.ParseInt(ids[n+1], 10, 64); err != nil || next != before+1 {
			return fmt.Errorf("items %s and %s are neighbours in a sale, but not in number", ids[n], ids[n+1])
		}
	}
	return nil
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
	if r.single != nil {
		errs = append(errs, r.single.Stop())
	}
	if r.bare != nil {
		errs = append(errs, r.bare.process.Stop())
	}
	errs = append(errs, r.side.close()...)
	if r.before != nil {
		errs = append(errs, r.before.close()...)
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
