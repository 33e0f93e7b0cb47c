package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/internal/redisurl"
)

// Engine decides requests for units on Redis. All methods may be called concurrently.
type Engine struct {
	config     Config
	client     rueidis.Client
	subscriber rueidis.Client // apart, so that pub/sub never waits behind scripts
	metrics    *metrics
	node       *node // nil: passive
	partitions int
	displaced  atomic.Bool // the installation has another number of partitions by now
	sessions   *sessions
	decider    rueidis.Client // for reserve.lua alone, so that decisions never wait behind reads
	started    time.Time
	streamMax  string
	groups     sync.Pool
	runs       sync.Pool
	lanes      []*lane // one a partition
	queues     itemQueues
	known      knownItems

	background context.Context // of the engine's own work, ends with Close
	stop       context.CancelFunc
	running    sync.WaitGroup // what Close waits for
}

// New connects to Redis, checks that it can be trusted with stock, and leases a node id from the
// registry, unless it is to be passive.
// The engine runs until [Engine.Close]; ctx bounds only the start.
func New(ctx context.Context, config Config) (*Engine, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	target, err := redisurl.Parse(config.RedisURL)
	if err != nil {
		return nil, fmt.Errorf("engine: RedisURL: %w", err)
	}
	option := target.Rueidis()
	option.ConnWriteTimeout = time.Second
	option.Dialer.KeepAlive = keepAlive
	option.Dialer.Timeout = 2 * time.Second
	option.BlockingPoolSize = 16 // only roster and rebuild scans could use it
	option.PipelineMultiplex = 1 // two connections: more would thin the pipelines out
	option.CacheSizeEachConn = 8 << 20
	option.ClientName = "flashsale"
	e := &Engine{config: config, started: time.Now(), streamMax: strconv.FormatInt(config.StreamMax, 10)}
	e.known.load = config.Items
	e.queues.all = make(map[flashsale.ItemID]*itemQueue)
	e.groups.New = func() any { return &group{done: make(chan struct{})} }
	e.runs.New = func() any { return new(run) }
	e.sessions = newSessions(config, e.clock)
	option.OnInvalidations = e.sessions.invalidate
	e.client, err = newRedialed(option, config.Logger)
	if isTrackingDenied(err) {
		config.Logger.Warn("redis forbids CLIENT TRACKING: the end of a session counts on other servers only "+
			"after a while; grant +client|tracking", "after_s", SessionTTLUntracked.Seconds())
		option.DisableCache = true
		e.sessions.ttl = min(e.sessions.ttl, SessionTTLUntracked)
		e.client, err = newRedialed(option, config.Logger)
	}
	if err != nil {
		return nil, fmt.Errorf("engine: connect to redis: %w", err)
	}
	option.OnInvalidations, option.DisableCache = nil, true
	if e.decider, err = newRedialed(option, config.Logger); err != nil {
		e.disconnect()
		return nil, fmt.Errorf("engine: connect to redis: %w", err)
	}
	// Without retries a lost subscription is seen at once, not after rueidis has renewed it.
	option.DisableRetry = true
	if e.subscriber, err = newRedialed(option, config.Logger); err != nil {
		e.disconnect()
		return nil, fmt.Errorf("engine: connect to redis: %w", err)
	}
	if err := e.start(ctx); err != nil {
		e.disconnect()
		return nil, err
	}
	return e, nil
}

// disconnect closes the connections that there are.
func (e *Engine) disconnect() {
	for _, client := range []rueidis.Client{e.subscriber, e.decider, e.client} {
		if client != nil {
			client.Close()
		}
	}
}

func (e *Engine) start(ctx context.Context) (err error) {
	cluster, err := checkRedis(ctx, e.client, e.config.Logger)
	if err != nil {
		return err
	}
	if e.partitions, err = agreePartitions(ctx, cluster, e.config); err != nil {
		return err
	}
	if e.metrics, err = newMetrics(e); err != nil {
		return err
	}
	for p := range e.partitions {
		e.lanes = append(e.lanes, &lane{engine: e, partition: p, keys: []string{OrdersKey(p), WaitingKey(p)}})
	}
	loops := []func(context.Context){e.listen, e.sweep}
	if !e.config.Passive {
		if e.node, err = leaseNode(ctx, e.config); err != nil {
			e.metrics.unregister()
			return err
		}
		loops = append(loops, e.node.run, e.watchPartitions, e.tellFlags)
	}
	e.background, e.stop = context.WithCancel(context.Background())
	for _, loop := range loops {
		e.running.Go(func() { loop(e.background) })
	}
	return nil
}

// Close ends the background work, gives the node id back and closes the connections. The
// calls must have returned before, though requests whose callers left may still be under way:
// Close waits for them. It is safe to close twice.
func (e *Engine) Close() {
	e.stop()
	e.running.Wait()
	e.disconnect()
	e.metrics.unregister()
}

// Partition returns where an item lives.
func (e *Engine) Partition(item flashsale.ItemID) int { return Partition(item, e.partitions) }

// Partitions returns how many partitions there are.
func (e *Engine) Partitions() int { return e.partitions }

// keepAlive is how often an idle connection says that it is not dead: more often than the shortest
// timeout of Redis, so that none is closed just when the first purchase comes.
const keepAlive = 400 * time.Millisecond

// Ping reports whether Redis answers: at least one of its partitions. Those that do not are logged,
// since their items cannot be sold, but the others' can.
func (e *Engine) Ping(ctx context.Context) error {
	errs := make([]error, e.partitions)
	var asking sync.WaitGroup
	for p := range errs {
		asking.Go(func() { _, _, errs[p] = e.tell(ctx, p) })
	}
	asking.Wait()
	failed := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	switch {
	case failed < 0:
	case !slices.Contains(errs, nil):
		return fmt.Errorf("ping redis: %w", errs[failed])
	default:
		e.config.Logger.Warn("a partition of redis does not answer", "partition", failed, "error", errs[failed])
	}
	switch {
	case e.displaced.Load():
		return errPartitions
	case e.node != nil && !e.node.held():
		return errors.New("no node id: the lease is over and the registry does not answer")
	}
	return nil
}

// clock is monotonic nanoseconds since the engine started.
func (e *Engine) clock() int64 { return int64(time.Since(e.started)) }

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
