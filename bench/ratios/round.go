package ratios

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"flashsale/bench/proc"
	"flashsale/bench/stats"
	"flashsale/bench/target"
	"flashsale/bench/wrk"
)

// figures is what was measured, one value a round.
type figures struct {
	bare, single, soldOut, many overHTTP // of single and many, no bare handler's rate is taken
	reserveGroup, reserveSingle reserve
	persistBatch, persistOne    stats.Sample // orders each second
	confirmed, confirmedSlow    stats.Sample // milliseconds from accepted to unpaid, idle: p50 and p99
	heard                       stats.Sample // nodes that heard a result, of resultNodes
	others                      stats.Sample // percent of the machine that other programs used, each window
}

// overHTTP is what was measured over HTTP.
type overHTTP struct {
	rate    stats.Sample // answers of the kind asked for, each second
	cpu     stats.Sample // server and Redis, microseconds an answer
	server  stats.Sample // the server's part of it
	redis   stats.Sample // that of Redis
	bareCPU stats.Sample // of the bare handler, microseconds an answer, just before and after
	client  stats.Sample // wrk, microseconds an answer
	busy    stats.Sample // percent of the machine that all these used together
	bare    stats.Sample // answers of the bare handler each second, just before and after
	scripts stats.Sample // script runs an answer
	stream  stats.Sample // bytes of Redis' memory an order in the stream
	p50     stats.Sample // milliseconds, closed loop
	p99     stats.Sample
}

// step is one candidate.
type step struct {
	name string
	run  func(ctx context.Context, round int) error
}

// steps are the candidates, by the names that Config.Only takes.
func (r *run) steps() []step {
	return []step{
		{"reserve", r.reserveRound},
		{"accepted", func(ctx context.Context, n int) error {
			return r.acceptedRound(ctx, n, &r.side, r.items[2*n], "group commit")
		}},
		{"before", r.beforeRound},
		{"many", r.manyRound},
		{"persist", r.persistRound},
		{"sold-out", r.soldOutRound},
		{"single", func(ctx context.Context, n int) error {
			return r.accepted(ctx, n, r.deciding, r.single, "batches of 1", &r.figures.single, r.items[2*n+1])
		}},
		{"beside", func(ctx context.Context, n int) error { return r.besideRound(ctx, n, &r.side, "") }},
		{"idle", r.idleRound},
		{"results", r.resultsRound},
	}
}

// round measures every candidate once; each round begins with another one.
func (r *run) round(ctx context.Context, n int) error {
	steps := r.steps()
	for i := range steps {
		step := steps[(i+n)%len(steps)]
		if !r.wants(step.name) {
			continue
		}
		if err := step.run(ctx, n); err != nil {
			return fmt.Errorf("round %d: %s: %w", n+1, step.name, err)
		}
	}
	return nil
}

// wants tells whether a candidate is measured.
func (r *run) wants(name string) bool { return len(r.Only) == 0 || slices.Contains(r.Only, name) }

// resultf tells what a round has found.
func (r *run) resultf(n int, format string, args ...any) {
	r.sayf("round %d/%d  %s", n+1, r.Rounds, fmt.Sprintf(format, args...))
}

// load is what every server is sent.
func (r *run) load(url, item string) wrk.Load {
	return wrk.Load{
		URL: url, Path: "/v1/items/" + item + "/orders", Users: r.Users,
		Connections: r.Connections, Threads: r.Threads, Length: r.Window,
	}
}

// besideBare measures a candidate between two shorter measurements of the bare handler, so
// that their ratio is not about what the machine did in between. All are sent the same.
func (r *run) besideBare(ctx context.Context, load wrk.Load, into *overHTTP, candidate func() error) error {
	load.URL, load.Length = r.bare.url, max(time.Second, (load.Length/2).Truncate(time.Second))
	if r.profiling != "" { // nothing is compared
		return candidate()
	}
	var before, after float64
	for _, step := range []func() error{
		func() (err error) { before, err = r.bareRate(ctx, load); return err },
		candidate,
		func() (err error) { after, err = r.bareRate(ctx, load); return err },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	into.bare = append(into.bare, (before+after)/2)
	cpu := r.figures.bare.cpu
	into.bareCPU = append(into.bareCPU, (cpu[len(cpu)-2]+cpu[len(cpu)-1])/2)
	return nil
}

// bareRate sends a load to a handler that decides nothing.
func (r *run) bareRate(ctx context.Context, load wrk.Load) (float64, error) {
	w, err := r.window(ctx, load, r.bare.process.PID())
	if err != nil {
		return 0, err
	}
	r.figures.bare.add(measured{window: w, serverCPU: w.used[0]}, w.Accepted())
	return w.Rate(w.Accepted()), nil
}

// window is what wrk counted, and what was used of the processors meanwhile.
type window struct {
	wrk.Result
	began []time.Duration // used before it, by each process that was asked for
	used  []time.Duration // by each process that was asked for
	took  time.Duration
}

// busy is the percentage of the machine that the processes and wrk used.
func (w window) busy() float64 {
	used := w.CPU
	for _, each := range w.used {
		used += each
	}
	return percent(used, w.took)
}

// percent is a share of the machine's processor time.
func percent(used, took time.Duration) float64 {
	return 100 * used.Seconds() / took.Seconds() / float64(runtime.NumCPU())
}

// window sends a load. It waits for a calm moment and notes what other programs used
// nevertheless.
func (r *run) window(ctx context.Context, load wrk.Load, pids ...int) (w window, err error) {
	if err := r.calm(ctx); err != nil {
		return w, err
	}
	machine, err := proc.Machine()
	if err != nil {
		return w, err
	}
	if w.began, err = cpu(pids); err != nil {
		return w, err
	}
	began := time.Now()
	if w.Result, err = r.wrk.Run(ctx, load); err != nil {
		return w, err
	}
	w.took = time.Since(began)
	if w.used, err = cpu(pids); err != nil {
		return w, err
	}
	machineAfter, err := proc.Machine()
	if err != nil {
		return w, err
	}
	others := machineAfter - machine - w.CPU
	for n := range w.used {
		w.used[n] -= w.began[n]
		others -= w.used[n]
	}
	if !r.besideWorker { // there the worker and PostgreSQL are not among the processes
		r.figures.others = append(r.figures.others, percent(max(0, others), w.took))
	}
	return w, nil
}

// calm waits until other programs leave the machine alone, as long as the patience lasts.
func (r *run) calm(ctx context.Context) error {
	const look = 250 * time.Millisecond
	for r.Patience > 0 {
		before, err := proc.Machine()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(look):
		}
		after, err := proc.Machine()
		if err != nil {
			return err
		}
		if (after - before).Seconds() < calmShare*look.Seconds()*float64(runtime.NumCPU()) {
			return nil
		}
		r.Patience -= look
	}
	return nil
}

// acceptedRound measures accepted purchases of one item by one of the sides, and what the stream
// that they leave takes.
func (r *run) acceptedRound(ctx context.Context, n int, s *side, item, name string) error {
	return r.accepted(ctx, n, s.deciding, s.group, name, &s.figures.group, item)
}

// beforeRound measures the engine as it was, in the same round.
func (r *run) beforeRound(ctx context.Context, n int) error {
	if r.before == nil {
		return nil
	}
	if err := r.acceptedRound(ctx, n, r.before, r.before.items[n], "an entry an order"); err != nil {
		return err
	}
	return r.besideRound(ctx, n, r.before, "an entry an order, ")
}

// manyRound measures accepted purchases of many items, by a crowd that is spread over them evenly.
func (r *run) manyRound(ctx context.Context, n int) error {
	stop := min(len(r.manyItems), r.Users) // each at least once
	return r.accepted(ctx, n, r.deciding, r.group, fmt.Sprintf("%d items", stop), &r.figures.many, r.manyItems[:stop]...)
}

// accepted measures accepted purchases and proves their count.
func (r *run) accepted(ctx context.Context, n int, stack *target.Stack, server *target.Server, name string, into *overHTTP, items ...string) error {
	before, err := stack.Items(ctx, items)
	if err != nil {
		return err
	}
	result, err := r.buy(ctx, n, stack, server, into, items...)
	if err != nil {
		return err
	}
	r.resultf(n, "%s: %s accepted/s, Redis %.2f µs each", name, stats.Human(result.Rate(result.Accepted())), into.redis[len(into.redis)-1])
	if into.stream, err = appendStream(ctx, into.stream, stack, before.Sequence, items); err != nil {
		return err
	}
	if len(items) == 1 { // of many, the next round sells on
		if err := stack.Forget(ctx, items...); err != nil {
			return err
		}
	} else if err := stack.Forget(ctx); err != nil {
		return err
	}
	return stack.Tidy(ctx)
}

// appendStream notes how much memory an order takes in the stream.
func appendStream(ctx context.Context, to stats.Sample, stack *target.Stack, before int64, items []string) (stats.Sample, error) {
	held, err := stack.Items(ctx, items)
	if err != nil {
		return to, err
	}
	used, err := stack.StreamBytes(ctx)
	if err != nil {
		return to, err
	}
	return append(to, float64(used)/float64(held.Sequence-before)), nil
}

// buy warms the sessions, lets every user buy and compares the counts of three witnesses.
func (r *run) buy(ctx context.Context, n int, stack *target.Stack, server *target.Server, into *overHTTP, items ...string) (m measured, err error) {
	load := r.load(server.URL, items[0])
	if len(items) > 1 {
		load = r.load(server.URL, "{"+items[0]+"-"+items[len(items)-1]+"}")
	}
	load.FirstUser = n % userSets * r.Users
	if n >= userSets && len(items) > 1 { // who has bought does not buy again
		load.FirstUser = n * r.Users
		if err := stack.CreateSessions(ctx, load.FirstUser, load.Users); err != nil {
			return m, err
		}
	}
	before, err := stack.Items(ctx, items)
	if err != nil {
		return m, err
	}
	if err := server.Warm(ctx, load.FirstUser, load.Users); err != nil {
		return m, err
	}
	measure := func() (err error) {
		m, err = r.measure(ctx, stack, server, load)
		return err
	}
	if into == &r.figures.single || into == &r.figures.many { // compared with group commit only
		err = measure()
	} else {
		err = r.besideBare(ctx, load, into, measure)
	}
	if err != nil {
		return m, err
	}
	into.add(m, m.Accepted())
	held, err := stack.Items(ctx, items)
	if err != nil {
		return m, err
	}
	held.Sequence, held.Buyers = held.Sequence-before.Sequence, held.Buyers-before.Buyers
	held.Stock += stock - before.Stock // as if one item had been full
	if err := prove(m, held, r.Connections); err != nil {
		return m, fmt.Errorf("item %s: %w\n%s", items[0], err, server.Log())
	}
	if m.Wrapped > 0 {
		r.resultf(n, "%d requests were of users who had bought before and do not count: raise --users", m.Wrapped)
	}
	return m, nil
}

// measured is a window with what it cost and what the server says of it.
type measured struct {
	window
	serverCPU time.Duration
	redisCPU  time.Duration
	scripts   int64 // script runs
	answered  int64 // 202 by the server's own count
	soldOut   int64 // 409 likewise
}

func (r *run) measure(ctx context.Context, stack *target.Stack, server *target.Server, load wrk.Load) (m measured, err error) {
	redis, err := stack.RedisPID(ctx)
	if err != nil {
		return m, err
	}
	before, err := server.Metrics(ctx)
	if err != nil {
		return m, err
	}
	profiling := r.profile(ctx, stack, server)
	m.window, err = r.window(ctx, load, server.PID(), redis)
	profiled := <-profiling // it reads of both what we read next, and must not outlive us
	if err := errors.Join(err, profiled.err); err != nil {
		return m, err
	}
	r.tables = append(r.tables, profiled.tables...)
	m.serverCPU, m.redisCPU = m.used[0], m.used[1]
	// The requests that wrk left behind are still being answered.
	err = target.Await(ctx, time.Minute, "the last answers", func() (bool, error) {
		now, err := server.Metrics(ctx)
		if err != nil {
			return false, err
		}
		answered, soldOut := count(now, before, answers(202)), count(now, before, answers(409))
		still := answered == m.answered && soldOut == m.soldOut && answered+soldOut >= m.Requests
		m.answered, m.soldOut = answered, soldOut
		m.scripts = count(now, before, "flashsale_reserve_batch_size_count")
		return still, nil
	})
	return m, err
}

// prove compares what three witnesses counted: wrk, the server and Redis. Requests on their
// way when wrk stopped were decided, but their answers not read.
func prove(m measured, held target.Item, connections int) error {
	unread := held.Sequence - m.Accepted()
	switch {
	case m.SocketErrors > 0:
		return fmt.Errorf("%d of %d requests were lost", m.SocketErrors, m.Requests)
	case m.Refused > m.Wrapped:
		return fmt.Errorf("%d of %d requests were refused: all should be accepted", m.Refused, m.Requests)
	case held.Buyers != held.Sequence || stock-held.Stock != held.Sequence:
		return fmt.Errorf("oversold or stranded: Redis holds %d buyers, but counts %d orders and %d units",
			held.Buyers, held.Sequence, stock-held.Stock)
	case unread < 0 || unread > int64(connections):
		return fmt.Errorf("wrk read %d accepted answers, but Redis accepted %d", m.Accepted(), held.Sequence)
	case m.answered != held.Sequence:
		return fmt.Errorf("the server answered 202 to %d requests, but Redis accepted %d", m.answered, held.Sequence)
	}
	return nil
}

func answers(status int) string {
	return fmt.Sprintf(`flashsale_http_responses_total{route="POST /v1/items/{item}/orders",status="%d"}`, status)
}

func count(after, before map[string]float64, series string) int64 {
	return int64(after[series] - before[series])
}

// soldOutRound measures the commonest answer of a flash sale.
func (r *run) soldOutRound(ctx context.Context, n int) error {
	load := r.load(r.group.URL, r.soldOut)
	load.FirstUser = n % userSets * r.Users
	load.Users = min(load.Users, 50_000) // who has lost asks again
	if err := r.group.Warm(ctx, load.FirstUser, load.Users); err != nil {
		return err
	}
	var m measured
	err := r.besideBare(ctx, load, &r.figures.soldOut, func() (err error) {
		m, err = r.measure(ctx, r.deciding, r.group, load)
		return err
	})
	if err != nil {
		return err
	}
	if m.Accepted() > 0 || m.SocketErrors > 0 || m.soldOut < m.Requests {
		return fmt.Errorf("of %d requests for a sold-out item %d were accepted, %d lost and %d answered 409",
			m.Requests, m.Accepted(), m.SocketErrors, m.soldOut)
	}
	r.figures.soldOut.add(m, m.Requests)
	r.resultf(n, "sold out: %s answers/s", stats.Human(m.Rate(m.Requests)))
	return nil
}

// besideRound measures accepted purchases while a worker persists them, and waits for it.
func (r *run) besideRound(ctx context.Context, n int, s *side, name string) error {
	redis, err := s.persisting.RedisPID(ctx)
	if err != nil {
		return err
	}
	r.besideWorker = true
	result, err := r.buy(ctx, n, s.persisting, s.beside, &s.figures.beside, s.besideItems[n])
	r.besideWorker = false
	if err != nil {
		return err
	}
	began := time.Now()
	item, err := s.persisting.Item(ctx, s.besideItems[n])
	if err != nil {
		return err
	}
	// The stream holds what is not in PostgreSQL yet: the worker deletes after the commit.
	persisted := item.Sequence - item.Waiting
	f := &s.figures
	f.persisted = append(f.persisted, float64(persisted)/float64(item.Sequence))
	f.persistRate = append(f.persistRate, result.Rate(persisted))
	err = target.Await(ctx, drainTimeout, "the worker", func() (bool, error) {
		item, err := s.persisting.Item(ctx, s.besideItems[n])
		return item.Waiting == 0, err
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, s.worker.Log())
	}
	drained := time.Since(began)
	f.drained = append(f.drained, drained.Seconds())
	after, err := proc.CPU(redis)
	if err != nil {
		return err
	}
	f.persistRedis = append(f.persistRedis, float64((after-result.began[1]).Microseconds())/float64(item.Sequence))
	r.resultf(n, "%sbeside the worker: %s accepted/s, %s persisted/s, the rest %.1f s later", name,
		stats.Human(result.Rate(result.Accepted())), stats.Human(result.Rate(persisted)), drained.Seconds())
	return s.persisting.Tidy(ctx)
}

// add notes a window in which so many answers were of the kind asked for.
func (h *overHTTP) add(m measured, answers int64) {
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(answers) }
	h.rate = append(h.rate, m.Rate(answers))
	h.cpu = append(h.cpu, each(m.serverCPU+m.redisCPU))
	h.server = append(h.server, each(m.serverCPU))
	h.redis = append(h.redis, each(m.redisCPU))
	h.client = append(h.client, each(m.CPU))
	h.busy = append(h.busy, m.busy())
	h.scripts = append(h.scripts, float64(m.scripts)/float64(answers))
	h.p50 = append(h.p50, float64(m.P50US)/1000)
	h.p99 = append(h.p99, float64(m.P99US)/1000)
}

// above is what a purchase cost the server beyond a handler that decides nothing.
func (h *overHTTP) above() stats.Sample {
	above := make(stats.Sample, min(len(h.server), len(h.bareCPU)))
	for n := range above {
		above[n] = h.server[n] - h.bareCPU[n]
	}
	return above
}
