package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
	"flashsale/lua"
)

const (
	reasonLenMax = 1000 // bytes that lua/dead_letter.lua takes

	// readMax is how many entries one read takes at most. An entry holds up to a run's worth of
	// orders, so a batch may be larger than one transaction; this bounds by how much.
	readMax = 256
	// A batch of a busyShare of BatchSize says that orders come fast: the next one gathers.
	busyShare = 4
)

var (
	ackScript        = redis.NewScript(lua.Ack)
	deadLetterScript = redis.NewScript(lua.DeadLetter)
)

// consumer persists the orders of one partition. One goroutine persists, acknowledges and claims
// in turn; while it does, another one reads the next batch. Whatever it claims is in nobody's
// hands here, because it claims only when nothing is.
type consumer struct {
	config    Config
	reader    redis.UniversalClient // blocks in reads
	client    redis.UniversalClient
	log       *slog.Logger
	metrics   *metrics
	relayWake wake
	stand     *stand

	ordersKey, waitingKey, deadKey string

	batch   *batch     // in hand
	next    *batch     // being read, or free
	reading chan error // the result of the read under way; nil: none is
	perRead int        // entries that are likely to hold BatchSize orders
	busy    bool       // the last batch was large
	resume  bool       // entries may be pending that no reply has delivered to us
	claimAt time.Time
}

func newConsumer(config Config, partition int, reader, client redis.UniversalClient,
	metrics *metrics, relayWake wake, stand *stand,
) *consumer {
	return &consumer{
		config: config, reader: reader, client: client, metrics: metrics, relayWake: relayWake, stand: stand,
		log:        config.Logger.With("partition", partition, "consumer", config.Consumer),
		ordersKey:  engine.OrdersKey(partition),
		waitingKey: engine.WaitingKey(partition),
		deadKey:    engine.DeadKey(partition),
		batch:      &batch{}, next: &batch{}, perRead: min(config.BatchSize, readMax),
	}
}

// run persists until ctx ends, and then what is in hand, for as long as work lasts.
func (c *consumer) run(ctx, work context.Context) {
	var faults backoff
	c.resume = true
	c.claimAt = time.Now().Add(c.config.ClaimEvery)
	for ctx.Err() == nil {
		err := c.turn(ctx, work)
		if err == nil {
			faults.reset()
			c.stand.end()
			continue
		}
		c.forget()
		if ctx.Err() != nil {
			return
		}
		if isNoGroup(err) {
			if err = c.createGroup(work); err == nil {
				continue
			}
		}
		wait := faults.next()
		c.metrics.faults.WithLabelValues("stream").Inc()
		if errors.Is(err, ErrOldStream) {
			c.stand.begin(err)
		}
		c.log.Log(ctx, standLevel(err), "read of the stream failed, trying again", "wait", wait, "error", err)
		pause(ctx, wait)
	}
	if c.reading != nil { // what it delivers is in hand
		err := c.take()
		if err == nil {
			err = c.settle(ctx, work)
		}
		if err != nil {
			c.log.Warn("what the last read delivered stays pending", "error", err)
		}
	}
}

// forget lets go of what is in hand after a fault: it is pending in our name, and the next turn
// reads it anew. The reply that failed may have delivered entries too.
func (c *consumer) forget() {
	if c.reading != nil {
		<-c.reading
		c.reading = nil
	}
	c.resume = true
}

// turn settles a batch: what is pending to us after a start or a fault, what others had for too
// long when it is time to look, else what is new. Of new entries the next batch is read meanwhile.
func (c *consumer) turn(ctx, work context.Context) error {
	if c.reading != nil {
		if err := c.take(); err != nil {
			return err
		}
		if err := c.fill(ctx, work); err != nil {
			return err
		}
	} else {
		c.batch.reset()
	}
	switch now := time.Now(); {
	case !c.batch.empty():
		if c.resume || !now.Before(c.claimAt) {
			break // let everything be settled first
		}
		c.startReading(work)
	case c.resume:
		if err := c.fetch(work, c.batch, "0", c.perRead, 0, 0); err != nil {
			return err
		}
		c.resume = !c.batch.empty()
	case !now.Before(c.claimAt):
		c.claimAt = now.Add(c.config.ClaimEvery)
		return c.claim(ctx, work)
	default:
		c.startReading(work)
	}
	return c.settle(ctx, work)
}

// startReading reads new entries into the next batch, with the work context: a reply must not be
// dropped for a stop.
func (c *consumer) startReading(work context.Context) {
	reading := make(chan error, 1)
	c.reading = reading
	next, count := c.next, c.perRead
	go func() {
		next.reset()
		reading <- c.fetch(work, next, ">", count, c.config.Block, 1)
	}()
}

// take waits for the read under way and takes its batch in hand.
func (c *consumer) take() error {
	err := <-c.reading
	c.reading = nil
	c.batch, c.next = c.next, c.batch
	return err
}

// fill lets a batch gather when orders come fast: what has come since it was read is added. A
// batch that came in while the one before was persisted has waited long enough.
func (c *consumer) fill(ctx, work context.Context) error {
	defer func() { c.busy = busyShare*len(c.batch.orders) >= c.config.BatchSize }()
	if n := len(c.batch.list); n > 0 {
		c.perRead = min(max(1, c.config.BatchSize*n/max(n, len(c.batch.orders))), readMax)
	}
	if c.batch.empty() || !c.busy || c.config.Linger < 0 {
		return nil
	}
	if wait := c.config.Linger - time.Since(c.batch.at); wait > 0 && len(c.batch.orders) < c.config.BatchSize {
		pause(ctx, wait)
	}
	for run := 2; len(c.batch.orders) < c.config.BatchSize; run++ {
		before := len(c.batch.list)
		if err := c.fetch(work, c.batch, ">", c.perRead, 0, run); err != nil {
			return err
		}
		if len(c.batch.list)-before < c.perRead {
			break
		}
	}
	return nil
}

// fetch adds up to count entries to a batch, waiting up to block for the first.
func (c *consumer) fetch(ctx context.Context, into *batch, after string, count int, block time.Duration, run int) error {
	args := []any{"xreadgroup", "group", engine.Group, c.config.Consumer, "count", count}
	if block > 0 {
		args = append(args, "block", block.Milliseconds())
	}
	r, err := do(ctx, c.reader, append(args, "streams", c.ordersKey, after)...)
	if err == nil {
		err = into.readStreams(r, run)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", c.ordersKey, err)
	}
	into.at = time.Now()
	return nil
}

// checkForm returns [ErrOldStream] when the stream holds entries of an earlier version.
func (c *consumer) checkForm(ctx context.Context) error {
	r, err := do(ctx, c.client, "xrange", c.ordersKey, "-", "+", "count", 1)
	if err == nil {
		err = new(batch).readEntries(&r, 0)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.ordersKey, err)
	}
	return nil
}

// createGroup makes the group deliver from the beginning of the stream: after a loss of the
// group everything that is still there is unacknowledged.
func (c *consumer) createGroup(ctx context.Context) error {
	err := c.client.XGroupCreateMkStream(ctx, c.ordersKey, engine.Group, "0").Err()
	if err != nil && !isBusyGroup(err) {
		return fmt.Errorf("create group of %s: %w", c.ordersKey, err)
	}
	c.log.Info("consumer group created", "stream", c.ordersKey, "group", engine.Group)
	return nil
}

// settle persists the batch in hand and takes it off the stream, a transaction's worth at a time.
// It tries for as long as the work context lasts; what is left then stays pending in Redis.
func (c *consumer) settle(ctx, work context.Context) error {
	if c.batch.empty() {
		return nil
	}
	if err := c.settleLost(work); err != nil {
		return err
	}
	for from := 0; ; {
		results, err := c.persist(ctx, work, from)
		if err != nil {
			return err
		}
		for i := range results {
			c.batch.settled(from + i)
		}
		if err := c.finish(work, results); err != nil {
			return err
		}
		if from += len(results); from == len(c.batch.orders) {
			return nil
		}
	}
}

// persist brings a transaction's worth of the orders, from the given one on, into the ledger and
// returns their results. What can never be stored is set aside; whatever else the ledger has
// against the orders, they wait.
func (c *consumer) persist(ctx, work context.Context, from int) ([]flashsale.Result, error) {
	var faults backoff
	for from < len(c.batch.orders) {
		orders := c.batch.orders[from:min(from+c.config.BatchSize, len(c.batch.orders))]
		results, err := c.transact(work, orders)
		if err == nil {
			c.stand.end()
			return results, nil
		}
		if bad, ok := errors.AsType[*flashsale.UnstorableError](err); ok {
			for _, order := range slices.Backward(bad.Orders) {
				c.batch.setAside(from+order.Index, order.Reason)
			}
			continue
		}
		if work.Err() != nil {
			c.log.Warn("stopped before the ledger took the batch; it stays pending",
				"orders", len(orders), "error", err)
			return nil, fmt.Errorf("persist %d orders: %w", len(orders), err)
		}
		wait := faults.next()
		c.metrics.faults.WithLabelValues("ledger").Inc()
		c.stand.begin(err)
		c.log.Log(work, standLevel(err), "ledger did not take the batch, keeping it and reading no further",
			"orders", len(orders), "wait", wait, "error", err)
		c.pauseFlushing(ctx, work, wait)
	}
	return nil, nil
}

// pauseFlushing waits before the next attempt; a stop ends the wait, once.
func (c *consumer) pauseFlushing(ctx, work context.Context, wait time.Duration) {
	if ctx.Err() == nil {
		pause(ctx, wait)
		return
	}
	pause(work, wait)
}

// transact runs one transaction.
func (c *consumer) transact(ctx context.Context, orders []flashsale.Order) ([]flashsale.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.PersistTimeout)
	defer cancel()
	began := time.Now()
	results, err := c.config.Ledger.Persist(ctx, orders)
	if err != nil {
		return nil, err
	}
	if len(results) != len(orders) {
		return nil, fmt.Errorf("ledger gave %d results for %d orders", len(results), len(orders))
	}
	c.metrics.batchSize.Observe(float64(len(orders)))
	c.metrics.persistSeconds.Observe(time.Since(began).Seconds())
	return results, nil
}

// finish takes the entries whose last order is settled off the stream and tells the results of
// what has been committed. After an error the entries may be pending still: they are delivered
// again, and the ledger knows their orders.
func (c *consumer) finish(ctx context.Context, results []flashsale.Result) error {
	c.report(results)
	entries := c.batch.takeSettled()
	for i := range entries { // before the acks, whose trim would take such an entry along
		if len(entries[i].dead) > 0 {
			if err := c.deadLetter(ctx, &entries[i]); err != nil {
				return err
			}
		}
	}
	pipe := c.client.Pipeline()
	acks := c.queueAcks(ctx, pipe, entries)
	publish(ctx, pipe, results)
	if pipe.Len() == 0 {
		return nil
	}
	_, sendErr := pipe.Exec(ctx) // of the acks each one's own error counts
	for _, ack := range acks {
		err := ack.Err()
		if isNoScript(err) {
			err = ackScript.Eval(ctx, c.client, []string{c.ordersKey, c.waitingKey}, ack.Args()[5:]...).Err()
		}
		if err != nil {
			return fmt.Errorf("acknowledge entries of %s: %w", c.ordersKey, err)
		}
	}
	if sendErr != nil && !isNoScript(sendErr) {
		c.log.Warn("results not published", "orders", len(results), "error", sendErr)
	}
	return nil
}

// queueAcks adds one call a run: as a rule one, a few after a batch that gathered.
func (c *consumer) queueAcks(ctx context.Context, pipe redis.Pipeliner, entries []entry) (acks []*redis.Cmd) {
	for len(entries) > 0 {
		run, orders := entries[0].run, 0
		ids := make([]any, 3, 3+len(entries))
		rest := entries
		for len(rest) > 0 && rest[0].run == run {
			if len(rest[0].dead) == 0 {
				ids, orders = append(ids, rest[0].id), orders+rest[0].orders
			}
			rest = rest[1:]
		}
		entries = rest
		if len(ids) == 3 {
			continue
		}
		ids[0], ids[1], ids[2] = engine.Group, min(run, 1), orders // claimed, or pending from before: others may lie between
		acks = append(acks, pipe.EvalSha(ctx, ackScript.Hash(), []string{c.ordersKey, c.waitingKey}, ids...))
	}
	return acks
}

// report tells everybody in this process what has been committed.
func (c *consumer) report(results []flashsale.Result) {
	if len(results) == 0 {
		return
	}
	rejected := 0
	for i := range results {
		if results[i].Status == flashsale.Rejected {
			rejected++
		}
	}
	c.metrics.persisted.Add(float64(len(results) - rejected))
	if rejected > 0 {
		c.metrics.rejected.Add(float64(rejected))
		c.relayWake.set() // their units are owed to Redis
	}
	c.config.OnResults(results)
}

// deadLetter sets what can never be persisted of an entry aside and takes the entry off the
// stream. Every case is worth an operator's look.
func (c *consumer) deadLetter(ctx context.Context, e *entry) error {
	args := []any{engine.Group, e.id, e.orders}
	for _, dead := range e.dead {
		var order any = dead.order
		if dead.order == wholeEntry {
			order = ""
		}
		args = append(args, order, printable(dead.reason, reasonLenMax))
	}
	keys := []string{c.ordersKey, c.waitingKey, c.deadKey}
	moved, err := deadLetterScript.Run(ctx, c.client, keys, args...).Int64Slice()
	if err != nil {
		return fmt.Errorf("dead letter of entry %s of %s: %w", e.id, c.ordersKey, err)
	}
	if len(moved) == 1 && moved[0] == lua.DeadLetterGone {
		return nil
	}
	for _, dead := range e.dead {
		c.metrics.deadLettered.Inc()
		c.log.Error("can never be persisted, set aside", "entry", e.id, "order", dead.order,
			"dead", c.deadKey, "reason", printable(dead.reason, reasonLenMax))
	}
	return nil
}

// settleLost raises the alarm for entries that were delivered but are no longer in the stream:
// somebody removed them by hand, and with them the orders.
func (c *consumer) settleLost(ctx context.Context) error {
	if len(c.batch.lost) == 0 {
		return nil
	}
	c.alarmLost(c.batch.lost)
	if err := c.client.XAck(ctx, c.ordersKey, engine.Group, c.batch.lost...).Err(); err != nil {
		return fmt.Errorf("acknowledge lost entries of %s: %w", c.ordersKey, err)
	}
	return nil
}

func (c *consumer) alarmLost(ids []string) {
	c.metrics.lost.Add(float64(len(ids)))
	c.log.Error("entries were removed from the stream before they were persisted: orders are lost",
		"stream", c.ordersKey, "entries", ids)
}

// printable cuts a text to a number of bytes and leaves nothing in it that would spoil a
// terminal.
func printable(text string, lenMax int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > lenMax {
		text = strings.ToValidUTF8(text[:lenMax], "")
	}
	return text
}
