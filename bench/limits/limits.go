package limits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale/bench/baseline"
	"flashsale/bench/gobench"
	"flashsale/bench/report"
	"flashsale/bench/stats"
	"flashsale/bench/target"
)

// stock is never sold out.
const stock = 100_000_000

// perCall are the sizes of a script call: what the engine gathers from 256 shoppers on a small
// machine, and what it gathers when more wait.
var perCall = [...]int{64, 256}

// Run measures. An error means that it could not measure, or that what it measured was not true.
func Run(ctx context.Context, config Config) (_ *report.Part, err error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	r := &run{Config: config, began: time.Now()}
	defer func() { err = errors.Join(err, r.close(ctx)) }()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	for n := range config.Rounds {
		if err := r.round(ctx, n); err != nil {
			return nil, fmt.Errorf("limits: round %d: %w", n+1, err)
		}
	}
	return r.part(), nil
}

// run is what is running while we measure.
type run struct {
	Config
	began time.Time
	work  target.Workspace

	engine gobench.Bench
	ledger gobench.Bench
	stack  *target.Stack
	forms  []form
	items  []string // one each measurement of the script
	copies *pgx.Conn
	copied int64 // rows so far

	reserved, gathered   stats.Sample                  // engine.Reserve: orders each second, requests a call
	decided, cost        [len(perCall)][2]stats.Sample // by size and form
	persisted, copyRates stats.Sample
}

func (r *run) sayf(format string, args ...any) {
	fmt.Fprintf(r.Progress, "%6.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *run) prepare(ctx context.Context) (err error) {
	r.sayf("building the engine's benchmarks")
	if r.work, err = target.NewWorkspace(ctx, r.Dir, r.Source, r.Binary); err != nil {
		return err
	}
	for _, bench := range []struct {
		pkg  string
		into *gobench.Bench
	}{{"engine", &r.engine}, {"postgres", &r.ledger}} {
		binary, err := target.BuildTest(ctx, r.work.Source, bench.pkg, r.work.Dir)
		if err != nil {
			return err
		}
		*bench.into = gobench.Bench{Binary: binary, Dir: r.work.Dir}
	}
	r.sayf("starting redis and postgresql")
	if r.stack, err = target.StartStack(ctx, r.work.Binary, r.work.Dir); err != nil {
		return err
	}
	r.engine.Stack, r.ledger.Stack = r.stack, r.stack
	if err := r.createItems(ctx); err != nil {
		return err
	}
	if err := r.loadScripts(ctx); err != nil {
		return err
	}
	return r.createTable(ctx)
}

// createItems has a server create and preheat the items; it is gone when we measure.
func (r *run) createItems(ctx context.Context) error {
	server, err := r.stack.Serve(ctx)
	if err != nil {
		return err
	}
	r.items, err = server.CreateItems(ctx, len(perCall)*len(r.decided[0])*r.Rounds, stock)
	return errors.Join(err, server.Stop())
}

// loadScripts has Redis compile the engine's own script, read from its sources, and the earlier one.
func (r *run) loadScripts(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(r.work.Source, "lua", "reserve.lua"))
	if err != nil {
		return err
	}
	var names [2]string
	for n, script := range []string{string(text), baseline.EntryAnOrder} {
		names[n], err = r.stack.Redis.Do(ctx, r.stack.Redis.B().ScriptLoad().Script(script).Build()).ToString()
		if err != nil {
			return fmt.Errorf("load a script: %w", err)
		}
	}
	r.forms = forms(names[0], names[1])
	return nil
}

// round measures the engine and the limits one after the other; each round begins with another.
func (r *run) round(ctx context.Context, n int) error {
	steps := []func(context.Context, int) error{r.reserve, r.decide, r.persist, r.copy}
	for i := range steps {
		if err := steps[(i+n)%len(steps)](ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) resultf(n int, format string, args ...any) {
	r.sayf("round %d/%d  %s", n+1, r.Rounds, fmt.Sprintf(format, args...))
}

func (r *run) reserve(ctx context.Context, n int) error {
	result, err := r.engine.Reserve(ctx, "group", r.size(reservation))
	if err != nil {
		return err
	}
	r.reserved, r.gathered = append(r.reserved, result.Rate), append(r.gathered, 1/result.Scripts)
	r.resultf(n, "engine.Reserve: %s orders/s, %.0f a script call", stats.Human(result.Rate), 1/result.Scripts)
	return nil
}

func (r *run) persist(ctx context.Context, n int) error {
	rate, err := r.ledger.Persist(ctx, "Batch1000", r.size(batches))
	if err != nil {
		return err
	}
	r.persisted = append(r.persisted, rate)
	r.resultf(n, "ledger.Persist: %s orders/s", stats.Human(rate))
	return nil
}

// close ends everything. The connection is given up even when ctx has ended.
func (r *run) close(ctx context.Context) error {
	var errs []error
	if r.copies != nil {
		errs = append(errs, r.copies.Close(context.WithoutCancel(ctx)))
	}
	if r.stack != nil {
		errs = append(errs, r.stack.Stop())
	}
	return errors.Join(append(errs, r.work.Close())...)
}

func (r *run) part() *report.Part {
	const limit = "of the limit"
	share := func(name string, sample stats.Sample) report.Figure {
		return report.Figure{Name: name, Unit: limit, Better: report.Higher, Ratio: true, Sample: sample}
	}
	var shares, figures []report.Figure
	figures = append(figures,
		report.Figure{Name: "engine.Reserve", Unit: "orders/s", Better: report.Higher, Sample: r.reserved},
		report.Figure{Name: "engine.Reserve: requests a script call", Sample: r.gathered})
	for i, size := range perCall {
		for f, name := range []string{entryARun, entryAnOrder} {
			name = fmt.Sprintf("%s, %d requests a call", name, size)
			if f == 0 {
				shares = append(shares, share("engine.Reserve / "+name, r.reserved.Over(r.decided[i][f])))
			}
			figures = append(figures,
				report.Figure{Name: name, Unit: "decisions/s", Sample: r.decided[i][f]},
				report.Figure{Name: name + ": CPU of Redis", Unit: "µs/decision", Better: report.Lower, Sample: r.cost[i][f]})
		}
		figures = append(figures, report.Figure{
			Name:   fmt.Sprintf("CPU of Redis, %s / %s, %d requests a call", entryARun, entryAnOrder, size),
			Better: report.Lower, Sample: r.cost[i][0].Over(r.cost[i][1]),
		})
	}
	shares = append(shares, share("ledger.Persist / bare COPY, 1,000 rows a transaction", r.persisted.Over(r.copyRates)))
	figures = append(figures,
		report.Figure{Name: "ledger.Persist", Unit: "orders/s", Better: report.Higher, Sample: r.persisted},
		report.Figure{Name: "bare COPY", Unit: "rows/s", Sample: r.copyRates})
	return &report.Part{
		Name: "limits", Title: "How near to the limits", Rounds: r.Rounds,
		About: "What the engine reaches, as a share of what its stores can do at most here. In Redis that is the " +
			"engine's own reserve.lua, called by a client that only sends what it wrote beforehand; in PostgreSQL " +
			"COPY of the same rows into a table like orders, with its constraints and indexes, which neither takes " +
			"stock nor looks at the item. The share of a bare HTTP handler stands among the ratios.",
		Settings: fmt.Sprintf("%d decisions on %d connections, %d batches of %d rows",
			r.size(decisions), connections, r.size(batches), gobench.PersistBatch),
		Figures: append(shares, figures...),
	}
}
