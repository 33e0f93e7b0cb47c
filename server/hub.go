package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/redisurl"
)

const (
	// watchQueue is how many results may wait for one watcher. An order has at most five
	// states, so only who does not read at all fills it.
	watchQueue = 8
	// A subscription that is silent for hubPing is pinged; silent again, it is renewed.
	hubPing       = 5 * time.Second
	hubDial       = 2 * time.Second
	hubWrite      = time.Second
	hubBackoffMin = 100 * time.Millisecond
	hubBackoffMax = 2 * time.Second
)

// hub hears the results of orders from Redis. A channel carries those of so few orders that a node
// which is subscribed while somebody here watches one of them hears next to nothing else: what a
// node hears grows with its own shoppers, not with everybody's.
//
// Pub/sub delivers at most once. A watch is told whenever its channel is (again) surely heard,
// and must then read the state: what was published before is lost.
type hub struct {
	client redis.UniversalClient // nil: nothing is heard
	faults *faultLog
	logger *slog.Logger
	dirty  chan struct{} // capacity 1: changed holds something
	heard  prometheus.Counter

	mu      sync.Mutex // guards what follows; never held across a call to Redis, nor while delivering
	shards  map[string]*shard
	changed map[string]struct{} // channels whose state may not fit their watches
}

// shard is one channel with who watches its orders.
type shard struct {
	state   shardState
	watches map[flashsale.OrderNo][]*watch
}

// shardState follows a channel through its commands, of which only one is under way at a
// time: so a confirmation is always that of the last command.
type shardState uint8

const (
	shardOff shardState = iota + 1
	shardSubscribing
	shardOn
	shardUnsubscribing
)

// watch is one watcher's interest in one order.
type watch struct {
	hub     *hub
	order   flashsale.OrderNo
	channel string
	// events carries the results. One without status says: read the state. It is closed when
	// the watcher was too slow.
	events chan flashsale.Result

	mu     sync.Mutex
	closed bool
}

func newHub(redisURL string, logger *slog.Logger, faults *faultLog) (*hub, error) {
	h := &hub{
		faults: faults, logger: logger, dirty: make(chan struct{}, 1),
		shards: make(map[string]*shard), changed: make(map[string]struct{}),
		heard: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flashsale_results_heard_total",
			Help: "Results that reached this node by pub/sub, whether anybody waits for them here or not.",
		}),
	}
	if redisURL == "" {
		return h, nil
	}
	client, err := newSubscriber(redisURL)
	if err != nil {
		return nil, err
	}
	h.client = client
	return h, nil
}

// newSubscriber returns a client that connects lazily. On a cluster plain pub/sub reaches every
// node of it.
func newSubscriber(redisURL string) (redis.UniversalClient, error) {
	target, err := redisurl.Parse(redisURL)
	if err != nil {
		return nil, fmt.Errorf("server: RedisURL: %w", err)
	}
	return target.Universal(redisurl.Options{
		Name: "flashsale-results", PoolSize: 1, DialTimeout: hubDial, ReadTimeout: hubDial, WriteTimeout: hubWrite,
	})
}

// watch starts to listen for results of an order. The first event comes once its channel is
// surely heard. The caller stops the watch.
func (h *hub) watch(order flashsale.OrderNo) *watch {
	w := &watch{
		hub: h, order: order, channel: engine.ResultsChannel(order),
		events: make(chan flashsale.Result, watchQueue),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.shards[w.channel]
	if s == nil {
		s = &shard{state: shardOff, watches: make(map[flashsale.OrderNo][]*watch)}
		h.shards[w.channel] = s
	}
	s.watches[order] = append(s.watches[order], w)
	if s.state == shardOn {
		w.push(flashsale.Result{OrderNo: order})
	} else {
		h.kick(w.channel)
	}
	return w
}

func (w *watch) stop() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.shards[w.channel]
	if s == nil {
		return
	}
	rest := slices.DeleteFunc(s.watches[w.order], func(other *watch) bool { return other == w })
	if len(rest) > 0 {
		s.watches[w.order] = rest
		return
	}
	delete(s.watches, w.order)
	if len(s.watches) == 0 {
		h.kick(w.channel)
	}
}

// push never waits: a watcher whose queue is full is cut off.
func (w *watch) push(result flashsale.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	select {
	case w.events <- result:
	default:
		if result.Status != "" { // a mere reminder may be left out: there is enough to look at
			w.closed = true
			close(w.events)
		}
	}
}

// kick has a channel looked at. The caller holds mu.
func (h *hub) kick(channel string) {
	h.changed[channel] = struct{}{}
	select {
	case h.dirty <- struct{}{}:
	default:
	}
}

// channels returns how many channels are heard.
func (h *hub) channels() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, s := range h.shards {
		if s.state == shardOn {
			n++
		}
	}
	return n
}

// run keeps the subscription until ctx ends.
func (h *hub) run(ctx context.Context) {
	if h.client == nil {
		<-ctx.Done()
		return
	}
	backoff := hubBackoffMin
	for ctx.Err() == nil {
		began := time.Now()
		err := h.subscribe(ctx)
		h.reset()
		if ctx.Err() != nil {
			break
		}
		h.faults.log("subscription to results lost", "error", err)
		if time.Since(began) > hubPing {
			backoff = hubBackoffMin
		}
		timer := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		backoff = min(2*backoff, hubBackoffMax)
	}
	if err := h.client.Close(); err != nil {
		h.logger.Warn("close subscriber", "error", err)
	}
}

// subscribe holds one subscription until it breaks. It does not lean on the reconnecting of
// go-redis, which would not tell when something may have been missed.
func (h *hub) subscribe(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	pubsub := h.client.Subscribe(ctx)
	stop := context.AfterFunc(ctx, func() { _ = pubsub.Close() }) // ends the read below
	defer func() {
		if stop() {
			_ = pubsub.Close()
		}
	}()
	var commanding sync.WaitGroup
	defer commanding.Wait()
	defer cancel(nil)
	commanding.Go(func() {
		if err := h.command(ctx, pubsub); err != nil {
			cancel(err)
		}
	})
	silent := false
	for {
		message, err := pubsub.ReceiveTimeout(ctx, hubPing)
		var network net.Error
		switch {
		case context.Cause(ctx) != nil:
			return context.Cause(ctx)
		case errors.As(err, &network) && network.Timeout() && !silent:
			silent = true
			if err := pubsub.Ping(ctx); err != nil {
				return fmt.Errorf("ping subscription: %w", err)
			}
			continue
		case err != nil:
			return fmt.Errorf("receive results: %w", err)
		}
		silent = false
		switch message := message.(type) {
		case *redis.Subscription:
			h.confirmed(message.Channel, message.Kind == "subscribe")
		case *redis.Message:
			h.deliver(message.Channel, message.Payload)
		}
	}
}

// command subscribes and unsubscribes as watches come and go. It alone sends commands, so
// Redis gets them in the order in which the states were changed.
func (h *hub) command(ctx context.Context, pubsub *redis.PubSub) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.dirty:
		}
		on, off := h.due()
		if len(on) > 0 {
			if err := pubsub.Subscribe(ctx, on...); err != nil {
				return fmt.Errorf("subscribe to results: %w", err)
			}
		}
		if len(off) > 0 {
			if err := pubsub.Unsubscribe(ctx, off...); err != nil {
				return fmt.Errorf("unsubscribe from results: %w", err)
			}
		}
	}
}

// due lists the channels to subscribe and to unsubscribe, and takes both as under way.
func (h *hub) due() (on, off []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for channel := range h.changed {
		s := h.shards[channel]
		if s == nil {
			continue
		}
		switch wanted := len(s.watches) > 0; {
		case wanted && s.state == shardOff:
			s.state = shardSubscribing
			on = append(on, channel)
		case !wanted && s.state == shardOn:
			s.state = shardUnsubscribing
			off = append(off, channel)
		case !wanted && s.state == shardOff:
			delete(h.shards, channel)
		}
	}
	clear(h.changed)
	return on, off
}

func (h *hub) confirmed(channel string, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.shards[channel]
	if s == nil {
		return
	}
	s.state = shardOff
	if on {
		s.state = shardOn
		s.remind()
	}
	if on != (len(s.watches) > 0) || !on {
		h.kick(channel)
	}
}

// remind tells all watches of a channel to read the state.
func (s *shard) remind() {
	for order, watches := range s.watches {
		for _, w := range watches {
			w.push(flashsale.Result{OrderNo: order})
		}
	}
}

// deliver takes what a worker's publisher has written: order number, user, status and reason.
func (h *hub) deliver(channel, payload string) {
	h.heard.Inc()
	result, err := parseResult(payload)
	if err != nil {
		h.faults.log("result ignored", "channel", channel, "error", err)
		return
	}
	for _, w := range h.watching(channel, result.OrderNo) {
		w.push(result)
	}
}

// watching returns who watches an order.
func (h *hub) watching(channel string, order flashsale.OrderNo) []*watch {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.shards[channel]; s != nil {
		return slices.Clone(s.watches[order])
	}
	return nil
}

func parseResult(payload string) (result flashsale.Result, err error) {
	no, rest, _ := strings.Cut(payload, " ")
	if result.OrderNo, err = flashsale.ParseID[flashsale.OrderNo](no); err != nil {
		return result, err
	}
	var status string
	result.User, rest, _ = strings.Cut(rest, " ")
	status, result.Reason, _ = strings.Cut(rest, " ")
	if status == "" {
		return result, fmt.Errorf("%.200q is no result", payload)
	}
	result.Status = flashsale.Status(status)
	return result, nil
}

// reset takes all channels as unheard: the connection is gone.
func (h *hub) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for channel, s := range h.shards {
		s.state = shardOff
		if len(s.watches) == 0 {
			delete(h.shards, channel)
			continue
		}
		h.kick(channel)
	}
}
