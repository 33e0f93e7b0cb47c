// Package gobench runs the Go benchmarks that the engine brings along, against a stack of ours:
// what its parts do at most when nobody is in their way, without HTTP. They are compiled from the
// engine's sources, and known by their names and units only.
package gobench

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"flashsale/bench/target"
)

// Bench is a test binary of one of the engine's packages, see [target.BuildTest].
type Bench struct {
	Binary string
	Dir    string // where it runs
	Stack  *target.Stack
}

// Reserve is what the benchmark of engine.Reserve reports.
type Reserve struct {
	Rate    float64 // orders each second
	CPU     float64 // of the client process, microseconds an order
	Scripts float64 // script runs an order
}

// Reserve has distinct users buy so many units of one item, 256 goroutines at once: in groups
// ("group") or with one request a script call ("single"). The orders are forgotten afterwards.
func (b Bench) Reserve(ctx context.Context, way string, orders int) (Reserve, error) {
	figures, err := b.run(ctx, "BenchmarkReserve_OneItem/"+way, orders, "FLASHSALE_BENCH_REDIS="+b.redis())
	if err != nil {
		return Reserve{}, err
	}
	return Reserve{
		Rate: figures["orders/s"], CPU: figures["cpu-µs/order"], Scripts: figures["scripts/order"],
	}, b.flush(ctx)
}

// PersistBatch is how many orders an iteration of the ledger's benchmarks persists.
const PersistBatch = 1000

// Persist is how many orders each second the ledger persists: in batches ("Batch1000") or with a
// transaction each ("OneByOne"), so many times 1,000 of them.
func (b Bench) Persist(ctx context.Context, way string, times int) (float64, error) {
	figures, err := b.run(ctx, "BenchmarkPersist_"+way, times)
	if err != nil {
		return 0, err
	}
	return 1e6 / figures["µs/order"], nil
}

// run runs one benchmark a number of times and returns its figures by unit.
func (b Bench) run(ctx context.Context, name string, times int, env ...string) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, b.Binary, "-test.run", "^$", "-test.count", "1",
		"-test.bench", "^"+strings.ReplaceAll(name, "/", "$/^")+"$",
		"-test.benchtime", strconv.Itoa(times)+"x")
	cmd.Dir, cmd.Env = b.Dir, b.Stack.Environment(env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return parse(name, string(out))
}

// parse reads the line of one benchmark: its name with the number of processors, the number of
// runs, then pairs of figure and unit.
func parse(name, out string) (map[string]float64, error) {
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], name) {
			continue
		}
		figures := make(map[string]float64)
		for n := 2; n+1 < len(fields); n += 2 {
			value, err := strconv.ParseFloat(fields[n], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: unexpected figure in %q: %w", name, line, err)
			}
			figures[fields[n+1]] = value
		}
		return figures, nil
	}
	return nil, fmt.Errorf("%s: no result in\n%s", name, out)
}

// redis is a logical database of the stack's Redis for the benchmark alone.
func (b Bench) redis() string { return strings.TrimSuffix(b.Stack.RedisURL, "/0") + "/1" }

// flush empties it, so that memory and file do not grow from round to round.
func (b Bench) flush(ctx context.Context) error {
	option, err := rueidis.ParseURL(b.redis())
	if err != nil {
		return err
	}
	option.DisableCache, option.ForceSingleClient = true, true
	client, err := rueidis.NewClient(option)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Do(ctx, client.B().Flushdb().Async().Build()).Error(); err != nil {
		return fmt.Errorf("flush the benchmark's database: %w", err)
	}
	return b.Stack.Tidy(ctx)
}
