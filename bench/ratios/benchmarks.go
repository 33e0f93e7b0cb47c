package ratios

import (
	"context"

	"flashsale/bench/gobench"
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
	bench := gobench.Bench{Binary: r.engine, Dir: r.work.Dir, Stack: r.deciding}
	for _, way := range []struct {
		name   string
		orders int
		into   *reserve
	}{
		{"group", groupOrders, &r.figures.reserveGroup},
		{"single", singleOrders, &r.figures.reserveSingle},
	} {
		result, err := bench.Reserve(ctx, way.name, r.times(way.orders))
		if err != nil {
			return err
		}
		way.into.rate = append(way.into.rate, result.Rate)
		way.into.cpu = append(way.into.cpu, result.CPU)
		way.into.scripts = append(way.into.scripts, result.Scripts)
		r.resultf(n, "engine.Reserve, %s: %s orders/s", way.name, stats.Human(result.Rate))
	}
	return nil
}

// persistRound runs the ledger's benchmark both ways on the durable PostgreSQL.
func (r *run) persistRound(ctx context.Context, n int) error {
	bench := gobench.Bench{Binary: r.ledger, Dir: r.work.Dir, Stack: r.deciding}
	for _, way := range []struct {
		name  string
		times int
		into  *stats.Sample
	}{
		{"Batch1000", persistBatches, &r.figures.persistBatch},
		{"OneByOne", persistSingles, &r.figures.persistOne},
	} {
		rate, err := bench.Persist(ctx, way.name, r.times(way.times))
		if err != nil {
			return err
		}
		*way.into = append(*way.into, rate)
		r.resultf(n, "ledger.Persist, %s: %s orders/s", way.name, stats.Human(rate))
	}
	return nil
}

// times is how often a benchmark repeats its work in this run.
func (r *run) times(size int) int {
	if r.Quick {
		return max(1, size/quickly)
	}
	return size
}
