package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/internal/redisurl"
)

// Errors of the engine. Compare with [errors.Is].
var (
	// ErrUnknown: the request may or may not have been carried out. Asking again with the
	// same idempotency key, or as the same user, tells which.
	ErrUnknown = errors.New("outcome unknown")
	// ErrUnavailable: Redis refused; nothing was done.
	ErrUnavailable = errors.New("redis unavailable")
	// ErrNotReady: the item is not loaded, or is being rebuilt; nothing was done.
	ErrNotReady = errors.New("item not loaded in redis")
	// ErrExists: the item is loaded already; nothing was done.
	ErrExists = errors.New("item is loaded already")
	// ErrUnreadable: Redis holds of the item what our scripts never write.
	ErrUnreadable = errors.New("unreadable in redis")
	// ErrInvalid: the request can never be right.
	ErrInvalid = errors.New("invalid request")
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
	decider    *decider
	started    time.Time
	streamMax  string
	batches    sync.Pool

	near    [nearLanes]atomic.Pointer[lane] // of lanes, by the item's last bits: found without a lock
	lanesMu sync.RWMutex                    // guards lanes, and who writes to near
	lanes   map[flashsale.ItemID]*lane

	background context.Context // of the engine's own work, ends with Close
	stop       context.CancelFunc
	running    sync.WaitGroup // what Close waits for
}

// Request asks for units of an item for a user.
type Request struct {
	Item           flashsale.ItemID
	User           string // see [flashsale.ValidUser]
	Quantity       int    // at least 1
	IdempotencyKey string // "" or see [flashsale.ValidIdempotencyKey]
}

// Reply is the decision on a [Request].
type Reply struct {
	Outcome flashsale.Outcome
	OrderNo flashsale.OrderNo // of the order that the user holds: Accepted, Replayed, DuplicateOrder, sometimes LimitReached
	OpensAt time.Time         // NotStarted only
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
	option.Dialer.Timeout = 2 * time.Second
	option.BlockingPoolSize = 16 // only roster and rebuild scans could use it
	option.PipelineMultiplex = 1 // two connections: more would thin the pipelines out
	option.CacheSizeEachConn = 8 << 20
	option.ClientName = "flashsale"
	e := &Engine{
		config:    config,
		lanes:     make(map[flashsale.ItemID]*lane),
		started:   time.Now(),
		streamMax: strconv.FormatInt(config.StreamMax, 10),
	}
	e.batches.New = func() any { return &batch{done: make(chan struct{})} }
	e.sessions = newSessions(config, e.clock)
	option.OnInvalidations = e.sessions.invalidate
	if e.client, err = rueidis.NewClient(option); err != nil {
		return nil, fmt.Errorf("engine: connect to redis: %w", err)
	}
	e.decider = newDecider(option, config.Logger, e.Vouched)
	// Without retries a lost subscription is seen at once, not after rueidis has renewed it.
	option.OnInvalidations, option.DisableCache, option.DisableRetry = nil, true, true
	if e.subscriber, err = rueidis.NewClient(option); err != nil {
		e.client.Close()
		return nil, fmt.Errorf("engine: connect to redis: %w", err)
	}
	if err := e.start(ctx); err != nil {
		e.subscriber.Close()
		e.client.Close()
		return nil, err
	}
	return e, nil
}

func (e *Engine) start(ctx context.Context) (err error) {
	if err = checkRedis(ctx, e.client, e.config.Logger); err != nil {
		return err
	}
	if _, err = e.Vouched(ctx); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	if e.partitions, err = agreePartitions(ctx, e.client, e.config); err != nil {
		return err
	}
	if e.metrics, err = newMetrics(e); err != nil {
		return err
	}
	loops := []func(context.Context){e.listen, e.sweep}
	if !e.config.Passive {
		if e.node, err = leaseNode(ctx, e.config); err != nil {
			e.metrics.unregister()
			return err
		}
		loops = append(loops, e.node.run, e.watchPartitions)
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
	e.subscriber.Close()
	e.decider.close()
	e.client.Close()
	e.metrics.unregister()
}

// Reserve decides the request: takes units for the user, or says why not. It returns when
// decided, at the latest after the script timeout and the calls queued before it.
//
// The strings of req must not be changed afterwards, not even when ctx has ended: they may
// still be on their way to Redis.
func (e *Engine) Reserve(ctx context.Context, req Request) (Reply, error) {
	if req.Quantity < 1 || req.Quantity > flashsale.LimitMax || req.Item < 1 ||
		!flashsale.ValidUser(req.User) ||
		(req.IdempotencyKey != "" && !flashsale.ValidIdempotencyKey(req.IdempotencyKey)) {
		return Reply{}, fmt.Errorf("reserve item %d: %w", req.Item, ErrInvalid)
	}
	l := e.lane(req.Item)
	if l == nil {
		e.metrics.outcomes[flashsale.Overloaded].Inc()
		return Reply{Outcome: flashsale.Overloaded}, nil
	}
	clock := e.clock()
	if reply, ok := l.window.answer(clock); ok {
		// A replay is owed its order even after the close, and only Redis knows it.
		if reply.Outcome != flashsale.Ended || req.IdempotencyKey == "" {
			e.metrics.outcomes[reply.Outcome].Inc()
			return reply, nil
		}
	} else if l.flag.answer(req.User, clock) {
		e.metrics.local.Inc()
		return Reply{Outcome: flashsale.SoldOut}, nil
	}
	return l.reserve(ctx, req)
}

// recycle makes a batch that everybody has read available again.
func (e *Engine) recycle(b *batch) {
	b.reset()
	e.batches.Put(b)
}

// decide runs the script for a batch and notes its decisions.
func (e *Engine) decide(l *lane, b *batch) {
	defer e.metrics.decided(b)
	if !e.number(b) {
		b.fail(Reply{Outcome: flashsale.NotReady}, nil)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.config.ScriptTimeout)
	defer cancel()
	client, err := e.decider.get()
	if err != nil {
		e.failBatch(l, b, err)
		return
	}
	args := b.fill(l.text, e.streamMax)
	began := e.clock()
	reply, err := decodeReserve(reserveScript.Exec(ctx, client, l.keys, args), len(b.requests))
	clock := e.clock()
	took := time.Duration(clock - began)
	e.metrics.ran(len(b.requests), took)
	switch {
	case err != nil:
		e.failBatch(l, b, err)
	case reply.status == statusNotReady:
		l.flag.drop() // what it speaks of is gone
		b.fail(Reply{Outcome: flashsale.NotReady}, nil)
	case reply.status == statusOverloaded:
		b.fail(Reply{Outcome: flashsale.Overloaded}, nil)
	default:
		l.window.learn(reply.nowMS, reply.opensMS, reply.closesMS, clock, took)
		if l.flag.learn(reply.epoch, reply.stock, clock, e.config.FlagTTL) {
			e.running.Go(func() { e.loadRoster(l, reply.epoch) })
		}
		reply.answer(l.item, b)
	}
}

// number gives each request of the batch an order number, unless this node must not.
func (e *Engine) number(b *batch) (ok bool) {
	if e.node == nil || e.displaced.Load() {
		return false
	}
	b.orders, ok = e.node.take(b.orders[:0], len(b.requests))
	return ok
}

// failBatch answers a batch that Redis did not decide, as far as is known.
func (e *Engine) failBatch(l *lane, b *batch, err error) {
	if errors.Is(err, errNotVouched) {
		b.fail(Reply{Outcome: flashsale.NotReady}, nil)
		return
	}
	b.fail(Reply{}, faultError("reserve", l.item, err))
	e.metrics.faults.Inc()
}

// loadRoster reads who holds the item, so that the sold-out flag can be raised.
func (e *Engine) loadRoster(l *lane, epoch int64) {
	began := e.clock()
	r := newRoster(epoch)
	err := e.scanBuyers(e.background, l.item, func(user, _ string) error {
		if len(r.users) >= rosterMax {
			return errRosterFull
		}
		r.add(user)
		return nil
	})
	if err != nil {
		r = nil
		e.config.Logger.Warn("no sold-out flag: roster not loaded", "item", l.item, "error", err)
	}
	l.flag.loaded(r, began, e.clock(), e.config.FlagTTL)
}

// nearLanes is how many items at once have their lanes found without a lock, which a crowd's
// processors would fight over. A power of two.
const nearLanes = 64

func (e *Engine) nearby(item flashsale.ItemID) *atomic.Pointer[lane] {
	return &e.near[item&(nearLanes-1)]
}

// lane returns the item's lane, and nil when there are too many.
func (e *Engine) lane(item flashsale.ItemID) *lane {
	if l := e.nearby(item).Load(); l != nil && l.item == item {
		return l
	}
	e.lanesMu.RLock()
	l := e.lanes[item]
	if l != nil {
		e.nearby(item).Store(l)
	}
	e.lanesMu.RUnlock()
	if l != nil {
		return l
	}
	e.lanesMu.Lock()
	defer e.lanesMu.Unlock()
	if l = e.lanes[item]; l != nil {
		return l
	}
	if len(e.lanes) >= e.config.LanesMax {
		return nil
	}
	p := e.Partition(item)
	l = &lane{
		engine: e, item: item, text: item.String(),
		keys: []string{ItemKey(p, item), BuyersKey(p, item), OrdersKey(p)},
	}
	l.usedAt.Store(e.clock())
	e.lanes[item] = l
	return l
}

// everyLane calls visit for each lane there is.
func (e *Engine) everyLane(visit func(*lane)) {
	e.lanesMu.RLock()
	defer e.lanesMu.RUnlock()
	for _, l := range e.lanes {
		visit(l)
	}
}

// sweep lets the lanes of idle items go.
func (e *Engine) sweep(ctx context.Context) {
	ticker := time.NewTicker(max(e.config.IdleAfter/2, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		since := e.clock() - int64(e.config.IdleAfter)
		e.lanesMu.Lock()
		for item, l := range e.lanes {
			if l.idle(since) {
				delete(e.lanes, item)
				e.nearby(item).CompareAndSwap(l, nil)
			}
		}
		e.lanesMu.Unlock()
	}
}

// resubscribeAfter is the pause between attempts to subscribe; each failed one is logged.
const resubscribeAfter = 500 * time.Millisecond

// listen hears of units that came back, on any node, and drops the flags that they disprove.
// What was said while nobody listened is lost, so a new subscription drops all flags.
func (e *Engine) listen(ctx context.Context) {
	subscribe := e.subscriber.B().Subscribe().Channel(ClearedChannel).Build().Pin()
	hooked := rueidis.WithOnSubscriptionHook(ctx, func(rueidis.PubSubSubscription) { e.dropFlags() })
	for ctx.Err() == nil {
		err := e.subscriber.Receive(hooked, subscribe, func(m rueidis.PubSubMessage) {
			if err := e.hear(m.Message); err != nil {
				e.config.Logger.Warn("message ignored", "channel", ClearedChannel, "error", err)
			}
		})
		e.dropFlags()
		if ctx.Err() != nil {
			return
		}
		e.config.Logger.Warn("subscription lost, flags dropped", "channel", ClearedChannel, "error", err)
		pause(ctx, resubscribeAfter)
	}
}

// hear takes "<item> <epoch>".
func (e *Engine) hear(message string) error {
	itemText, epochText, _ := strings.Cut(message, " ")
	item, err := flashsale.ParseID[flashsale.ItemID](itemText)
	if err != nil {
		return err
	}
	epoch, err := strconv.ParseInt(epochText, 10, 64)
	if err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	e.lanesMu.RLock()
	l := e.lanes[item]
	e.lanesMu.RUnlock()
	if l != nil {
		l.flag.see(epoch)
	}
	return nil
}

func (e *Engine) dropFlags() { e.everyLane(func(l *lane) { l.flag.drop() }) }

// Partition returns where an item lives.
func (e *Engine) Partition(item flashsale.ItemID) int { return Partition(item, e.partitions) }

// Partitions returns how many partitions there are.
func (e *Engine) Partitions() int { return e.partitions }

// Ping reports whether Redis answers.
func (e *Engine) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	if err := e.client.Do(ctx, e.client.B().Ping().Build()).Error(); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	switch {
	case e.displaced.Load():
		return errPartitions
	case e.node != nil && !e.node.held():
		return errors.New("no node id: the lease is over and the registry does not answer")
	}
	return nil
}

// Now returns the time by which the scripts decide.
func (e *Engine) Now(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	parts, err := e.client.Do(ctx, e.client.B().Time().Build()).AsIntSlice()
	if err != nil {
		return time.Time{}, fmt.Errorf("redis time: %w", err)
	}
	if len(parts) != 2 {
		return time.Time{}, fmt.Errorf("redis time: unexpected reply of %d parts", len(parts))
	}
	return time.Unix(parts[0], parts[1]*1000), nil
}

// clock is monotonic nanoseconds since the engine started.
func (e *Engine) clock() int64 { return int64(time.Since(e.started)) }

// unknownError wraps a fault after which the request may have been carried out.
func unknownError(operation string, item flashsale.ItemID, err error) error {
	return fmt.Errorf("%s item %d: %w: %w", operation, item, ErrUnknown, err)
}

// faultError sorts a fault of a script call: an error reply that Redis gives before it runs a
// script, or no connection to send it on, means nothing was done; everything else is unknown.
func faultError(operation string, item flashsale.ItemID, err error) error {
	reply, refused := rueidis.IsRedisErr(err)
	if refused = refused && refusedUpFront(reply.Error()); refused || notConnected(err) {
		return fmt.Errorf("%s item %d: %w: %w", operation, item, ErrUnavailable, err)
	}
	return unknownError(operation, item, err)
}

func notConnected(err error) bool {
	var fault *net.OpError
	return errors.As(err, &fault) && fault.Op == "dial"
}

// upFront are the codes with which Redis refuses a command or a script before it runs.
// (Source: the error table of Redis 7.0, server.c and script.c.)
var upFront = []string{
	"OOM", "MISCONF", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN",
	"MOVED", "ASK", "CROSSSLOT", "NOREPLICAS", "BUSY", "NOAUTH", "NOPERM", "NOSCRIPT", "WRONGTYPE",
}

// refusedUpFront also takes WRONGTYPE: our scripts read every key before they write.
func refusedUpFront(message string) bool {
	code, _, _ := strings.Cut(message, " ")
	return slices.Contains(upFront, code)
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
