package compare

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"flashsale/bench/proc"
	"flashsale/bench/stats"
	"flashsale/bench/target"
	"flashsale/bench/wrk"
)

// plenty is never sold out within a window.
const plenty = 100_000_000

// usage is what was used up to a moment.
type usage struct {
	server, redis, postgres time.Duration
	commands, trips         int64
}

// measure lets one node of a candidate sell a fresh item for a window, and proves the counts.
func (r *run) measure(ctx context.Context, c *candidate, n int) (err error) {
	s, err := c.open(ctx, 1, plenty)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := target.Warm(ctx, s.nodes[0].url, 0, c.users); err != nil {
		return err
	}
	before, err := r.used(ctx, s)
	if err != nil {
		return err
	}
	result, err := r.wrk.Run(ctx, wrk.Load{
		URL: s.nodes[0].url, Path: s.path(), Users: c.users,
		Connections: r.Connections, Threads: r.Threads, Length: r.Window,
	})
	if err != nil {
		return err
	}
	ended := time.Now()
	if err := s.settle(ctx); err != nil {
		return err
	}
	settled := time.Since(ended)
	after, err := r.used(ctx, s)
	if err != nil {
		return err
	}
	c.add(result, before, after)
	if s.worker != nil {
		c.settled = append(c.settled, settled.Seconds())
	}
	r.sayf("round %d/%d  %s: %s accepted/s", n+1, r.Rounds, c.name, stats.Human(result.Rate(result.Accepted())))
	return r.prove(ctx, c, s, result)
}

// prove compares what wrk was told with what the stores hold, once the node is at rest.
func (r *run) prove(ctx context.Context, c *candidate, s *sale, result wrk.Result) error {
	if err := s.stopNodes(); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	v := check(plenty, told{Lost: result.SocketErrors}, state)
	// What was on its way when wrk stopped was decided, but its answer not read.
	unread := int64(len(state.Orders)) - result.Accepted()
	if unread < 0 || unread > int64(r.Connections) {
		v.Untrue += max(unread, -unread)
	}
	if v.wrong() {
		c.notes = append(c.notes, "one node: "+v.String())
	}
	r.judge(c, "one node", v)
	return s.forget(ctx)
}

// add notes a window.
func (c *candidate) add(result wrk.Result, before, after usage) {
	orders := float64(max(1, result.Accepted()))
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / orders }
	c.rate = append(c.rate, result.Rate(result.Accepted()))
	c.p50 = append(c.p50, float64(result.P50US)/1000)
	c.p99 = append(c.p99, float64(result.P99US)/1000)
	c.serverCPU = append(c.serverCPU, each(after.server-before.server))
	c.redisCPU = append(c.redisCPU, each(after.redis-before.redis))
	c.postgresCPU = append(c.postgresCPU, each(after.postgres-before.postgres))
	c.commands = append(c.commands, float64(after.commands-before.commands)/orders)
	c.trips = append(c.trips, float64(after.trips-before.trips)/orders)
	// Users who come again are refused by right.
	c.wrapped = c.wrapped || result.Wrapped > 0
	refused := max(0, result.Refused-result.Wrapped)
	c.refused = append(c.refused, float64(refused)/float64(max(1, result.Requests)))
}

// used reads what the node (with a worker, if there is one) and the stores have used so far.
func (r *run) used(ctx context.Context, s *sale) (u usage, err error) {
	if u.server, err = proc.CPU(s.nodes[0].pid); err != nil {
		return u, err
	}
	if s.worker != nil {
		worker, err := proc.CPU(s.worker.PID())
		if err != nil {
			return u, err
		}
		u.server += worker
	}
	if u.postgres, err = postgresCPU(ctx, r.ours.Database); err != nil {
		return u, err
	}
	info, err := r.stack.RedisInfo(ctx)
	if err != nil {
		return u, err
	}
	redis, err := strconv.Atoi(info["process_id"])
	if err != nil {
		return u, fmt.Errorf("redis process id: %w", err)
	}
	if u.redis, err = proc.CPU(redis); err != nil {
		return u, err
	}
	for name, into := range map[string]*int64{
		"total_commands_processed": &u.commands, "total_reads_processed": &u.trips,
	} {
		if *into, err = strconv.ParseInt(info[name], 10, 64); err != nil {
			return u, fmt.Errorf("redis %s: %w", name, err)
		}
	}
	return u, nil
}
