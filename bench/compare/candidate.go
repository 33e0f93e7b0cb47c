package compare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"time"

	"flashsale/bench/baseline"
	"flashsale/bench/stats"
	"flashsale/bench/target"
)

// candidate is one of those that are compared, with what was found.
type candidate struct {
	name, about string

	engine bool // ours: must never be wrong
	users  int  // more than it serves in a window
	open   func(ctx context.Context, nodes int, stock int64) (*sale, error)

	rate, p50, p99                   stats.Sample
	serverCPU, redisCPU, postgresCPU stats.Sample // microseconds an order
	commands, trips                  stats.Sample // of Redis, an order
	refused                          stats.Sample // share of the answers
	settled                          stats.Sample // seconds after the window
	wrapped                          bool         // a window ran out of users: it is faster than it looks
	notes                            []string
	wrong                            bool
}

// sale is a fresh item that nodes of one candidate sell.
type sale struct {
	item   string
	nodes  []*node
	worker *target.Worker // nil: nobody persists

	settle func(ctx context.Context) error // until everything accepted is where it belongs
	state  func(ctx context.Context) (baseline.State, error)
	forget func(ctx context.Context) error
}

// node is a running process that sells.
type node struct {
	url    string
	pid    int
	stop   func() error
	killed bool
}

// kill ends a node as a crash does.
func (n *node) kill() error {
	n.killed = true
	return syscall.Kill(n.pid, syscall.SIGKILL)
}

// path is the call that buys.
func (s *sale) path() string { return "/v1/items/" + s.item + "/orders" }

// stopNodes lets the nodes answer what they have accepted, and ends them.
func (s *sale) stopNodes() error {
	var errs []error
	for _, n := range s.nodes {
		if err := n.stop(); err != nil && !n.killed {
			errs = append(errs, fmt.Errorf("stop a node: %w", err))
		}
	}
	s.nodes = nil
	return errors.Join(errs...)
}

// close ends what still runs. It is safe to call twice.
func (s *sale) close() error {
	err := s.stopNodes()
	if s.worker != nil {
		err = errors.Join(err, s.worker.Stop())
		s.worker = nil
	}
	return err
}

// all are the candidates, the engine first.
func (r *run) all() []*candidate {
	candidates := []*candidate{
		{
			name: "engine", about: "group commit in Redis; the orders wait in its stream",
			engine: true, users: r.Users,
			open: func(ctx context.Context, nodes int, stock int64) (*sale, error) {
				return r.openEngine(ctx, nodes, stock, false)
			},
		},
		{
			name: "engine + worker", about: "the same while a worker persists to PostgreSQL",
			engine: true, users: r.Users,
			open: func(ctx context.Context, nodes int, stock int64) (*sale, error) {
				return r.openEngine(ctx, nodes, stock, true)
			},
		},
	}
	for _, way := range baseline.Ways() {
		if len(r.Only) > 0 && !slices.Contains(r.Only, way.Name) {
			continue
		}
		c := &candidate{name: way.Name, about: way.About, users: r.Users / databaseShare}
		if way.InRedis {
			c.users = r.Users / redisShare
		}
		c.open = func(ctx context.Context, nodes int, stock int64) (*sale, error) {
			return r.openBaseline(ctx, way.Name, nodes, stock)
		}
		candidates = append(candidates, c)
	}
	return candidates
}

// openBaseline puts a fresh item on sale by a strategy.
func (r *run) openBaseline(ctx context.Context, name string, nodes int, stock int64) (_ *sale, err error) {
	r.lastItem++
	stores := r.ours
	stores.Item = r.lastItem
	strategy, err := baseline.New(name, stores)
	if err != nil {
		return nil, err
	}
	if err := strategy.Prepare(ctx, stock); err != nil {
		return nil, err
	}
	s := &sale{
		item: strconv.FormatInt(r.lastItem, 10), state: strategy.State, forget: strategy.Forget,
		settle: func(context.Context) error { return nil },
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	for n := range nodes {
		started, err := baseline.Start(ctx, r.Program, r.node(name, r.lastItem, int64(n)))
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, &node{url: started.URL, pid: started.PID(), stop: started.Stop})
	}
	return s, nil
}

// node is what a node of a strategy is told.
func (r *run) node(name string, item, number int64) baseline.Config {
	return baseline.Config{
		Strategy: name, RedisURL: r.stack.RedisURL, DatabaseURL: r.stack.DatabaseURL,
		Item: item, Node: number,
	}
}

const settleTimeout = 2 * time.Minute

// openEngine puts a fresh item on sale by the engine itself.
func (r *run) openEngine(ctx context.Context, nodes int, stock int64, persist bool) (_ *sale, err error) {
	s := &sale{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	var first *target.Server
	for range nodes {
		server, err := r.stack.Serve(ctx)
		if err != nil {
			return nil, err
		}
		first = server
		s.nodes = append(s.nodes, &node{url: server.URL, pid: server.PID(), stop: server.Stop})
	}
	items, err := first.CreateItems(ctx, 1, stock)
	if err != nil {
		return nil, err
	}
	s.item = items[0]
	s.settle = func(context.Context) error { return nil }
	s.state = func(ctx context.Context) (baseline.State, error) { return r.promised(ctx, s.item) }
	// The accounts stay, as the ledger expects them to; the stream must be empty when a worker
	// comes.
	s.forget = func(ctx context.Context) error { return r.stack.Forget(ctx) }
	if persist {
		s.settle = func(ctx context.Context) error { return r.drain(ctx, s.item) }
		s.state = func(ctx context.Context) (baseline.State, error) { return r.ledger(ctx, s.item) }
		s.worker, err = r.stack.Work(ctx)
	}
	return s, err
}

// drain waits until the worker has persisted everything: it deletes after the commit.
func (r *run) drain(ctx context.Context, item string) error {
	return target.Await(ctx, settleTimeout, "the worker", func() (bool, error) {
		held, err := r.stack.Item(ctx, item)
		return held.Waiting == 0, err
	})
}

// promised is an item's state in Redis: its units left, and its orders that wait in the stream.
func (r *run) promised(ctx context.Context, item string) (baseline.State, error) {
	held, err := r.stack.Item(ctx, item)
	if err != nil {
		return baseline.State{}, err
	}
	state := baseline.State{Left: held.Stock}
	err = r.stack.Orders(ctx, item, func(user string, number int64) {
		state.Orders = append(state.Orders, baseline.Order{Number: number, User: user})
	})
	return state, err
}

// ledger is an item's state with the orders that PostgreSQL has, beside those still in the stream.
func (r *run) ledger(ctx context.Context, item string) (baseline.State, error) {
	state, err := r.promised(ctx, item)
	if err != nil {
		return baseline.State{}, err
	}
	rows, err := r.ours.Database.Query(ctx, `SELECT order_no, user_id FROM orders
		WHERE item_id = $1::bigint AND status = 'unpaid'`, item)
	if err != nil {
		return baseline.State{}, fmt.Errorf("read the ledger: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var order baseline.Order
		if err := rows.Scan(&order.Number, &order.User); err != nil {
			return baseline.State{}, fmt.Errorf("read the ledger: %w", err)
		}
		state.Orders = append(state.Orders, order)
	}
	return state, rows.Err()
}
