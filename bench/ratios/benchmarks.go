package ratios

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"flashsale/bench/stats"
)

// reserve is what the engine's own benchmark reports, without HTTP.
type reserve struct {
	rate    stats.Sample // orders each second
	cpu     stats.Sample // of the client process, microseconds an order
	scripts stats.Sample // script runs an order
}

// Sizes of the Go benchmarks: about two seconds each on a small machine. They are fixed so
// that every round does the same work.
const (
	groupOrders    = 600_000
	singleOrders   = 200_000
	persistBatches = 60 // of 1,000 orders each
	persistSingles = 2  // times 1,000 orders
	quickly        = 10 // divides them
)

// reserveRound runs the engine's benchmark both ways: 256 goroutines, distinct users, one item.
func (r *run) reserveRound(ctx context.Context, n int) error {
	for _, way := range []struct {
		name   string
		orders int
		into   *reserve
	}{
		{"group", groupOrders, &r.figures.reserveGroup},
		{"single", singleOrders, &r.figures.reserveSingle},
	} {
		figures, err := r.benchmark(ctx, r.engine, "BenchmarkReserve_OneItem/"+way.name, way.orders,
			"FLASHSALE_BENCH_REDIS="+r.benchmarkRedis())
		if err != nil {
			return err
		}
		way.into.rate = append(way.into.rate, figures["orders/s"])
		way.into.cpu = append(way.into.cpu, figures["cpu-µs/order"])
		way.into.scripts = append(way.into.scripts, figures["scripts/order"])
		r.resultf(n, "engine.Reserve, %s: %s orders/s", way.name, stats.Human(figures["orders/s"]))
		if err := r.flushBenchmark(ctx); err != nil {
			return err
		}
	}
	return nil
}

// persistRound runs the ledger's benchmark both ways on the durable PostgreSQL.
func (r *run) persistRound(ctx context.Context, n int) error {
	for _, way := range []struct {
		name  string
		times int
		into  *stats.Sample
	}{
		{"Batch1000", persistBatches, &r.figures.persistBatch},
		{"OneByOne", persistSingles, &r.figures.persistOne},
	} {
		figures, err := r.benchmark(ctx, r.ledger, "BenchmarkPersist_"+way.name, way.times)
		if err != nil {
			return err
		}
		rate := 1e6 / figures["µs/order"]
		*way.into = append(*way.into, rate)
		r.resultf(n, "ledger.Persist, %s: %s orders/s", way.name, stats.Human(rate))
	}
	return nil
}

// benchmark runs one Go benchmark and returns its figures by unit.
func (r *run) benchmark(ctx context.Context, binary, name string, times int, env ...string) (map[string]float64, error) {
	if r.Quick {
		times = max(1, times/quickly)
	}
	cmd := exec.CommandContext(ctx, binary, "-test.run", "^$", "-test.count", "1",
		"-test.bench", "^"+strings.ReplaceAll(name, "/", "$/^")+"$",
		"-test.benchtime", strconv.Itoa(times)+"x")
	cmd.Dir, cmd.Env = r.dir, r.deciding.Environment(env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return parseBenchmark(name, string(out))
}

// parseBenchmark reads the line of one benchmark: its name with the number of processors,
// the number of runs, then pairs of figure and unit.
func parseBenchmark(name, out string) (map[string]float64, error) {
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

// benchmarkRedis is a logical database of the stack's Redis for the benchmark alone.
func (r *run) benchmarkRedis() string { return strings.TrimSuffix(r.deciding.RedisURL, "/0") + "/1" }

// flushBenchmark empties it, so that memory and file do not grow from round to round.
func (r *run) flushBenchmark(ctx context.Context) error {
	option, err := rueidis.ParseURL(r.benchmarkRedis())
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
	return r.deciding.Tidy(ctx)
}
