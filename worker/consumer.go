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

const reasonLenMax = 1000 // bytes that lua/dead_letter.lua takes

var (
	ackScript        = redis.NewScript(lua.Ack)
	deadLetterScript = redis.NewScript(lua.DeadLetter)
)

// consumer persists the orders of one partition. One goroutine reads, persists, acknowledges
// and claims in turn, so whatever it claims is in nobody's hands here, and while a transaction
// runs the next batch gathers in the stream.
type consumer struct {
	config    Config
	reader    redis.UniversalClient // blocks in reads
	client    redis.UniversalClient
	log       *slog.Logger
	metrics   *metrics
	publisher *publisher
	relayWake wake

	ordersKey, deadKey string

	batch   batch
	resume  bool // entries may be pending that no reply has delivered to us
	claimAt time.Time
	stand   *stand
}

// part is a range of a batch that goes into one transaction.
type part struct{ from, to int }

func newConsumer(config Config, partition int, reader, client redis.UniversalClient,
	metrics *metrics, relayWake wake, stand *stand,
) *consumer {
	return &consumer{
		config: config, reader: reader, client: client, metrics: metrics, relayWake: relayWake, stand: stand,
		log:       config.Logger.With("partition", partition, "consumer", config.Consumer),
		publisher: newPublisher(),
		ordersKey: engine.OrdersKey(partition),
		deadKey:   engine.DeadKey(partition),
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
			continue
		}
		c.resume = true // the reply that failed may have delivered entries
		if ctx.Err() != nil {
			break
		}
		if isNoGroup(err) {
			if err = c.createGroup(work); err == nil {
				continue
			}
		}
		wait := faults.next()
		c.metrics.faults.WithLabelValues("stream").Inc()
		c.log.Warn("read of the stream failed, trying again", "wait", wait, "error", err)
		pause(ctx, wait)
	}
}

// turn claims when it is time to, else reads a batch, and settles what came.
func (c *consumer) turn(ctx, work context.Context) error {
	if now := time.Now(); !now.Before(c.claimAt) {
		c.claimAt = now.Add(c.config.ClaimEvery)
		return c.claim(ctx, work)
	}
	if err := c.read(ctx, work); err != nil {
		return err
	}
	return c.settle(ctx, work)
}

// read fetches the next batch: what is pending to us after a start or a fault, else what is
// new. It calls Redis with the work context: a reply must not be dropped for a stop.
func (c *consumer) read(ctx, work context.Context) error {
	c.batch.reset()
	if c.resume {
		if err := c.fetch(work, "0", c.config.BatchSize, 0); err != nil {
			return err
		}
		c.resume = c.batch.entries() > 0
		return nil
	}
	if err := c.fetch(work, ">", c.config.BatchSize, c.config.Block); err != nil {
		return err
	}
	got := c.batch.entries()
	if got == 0 || got >= c.config.BatchSize || c.config.Linger < 0 {
		return nil
	}
	pause(ctx, c.config.Linger)
	if err := c.fetch(work, ">", c.config.BatchSize-got, 0); err != nil {
		c.resume = true // keep what we have
		c.log.Warn("second read of a batch failed", "error", err)
	}
	return nil
}

// fetch adds up to count entries to the batch, waiting up to block for the first.
func (c *consumer) fetch(ctx context.Context, after string, count int, block time.Duration) error {
	args := []any{"xreadgroup", "group", engine.Group, c.config.Consumer, "count", count}
	if block > 0 {
		args = append(args, "block", block.Milliseconds())
	}
	r, err := do(ctx, c.reader, append(args, "streams", c.ordersKey, after)...)
	from := len(c.batch.orders)
	if err == nil {
		err = c.batch.readStreams(r)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", c.ordersKey, err)
	}
	if after == ">" {
		c.batch.runs = append(c.batch.runs, part{from, len(c.batch.orders)})
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

// settle persists the batch and takes it off the stream. It tries for as long as the work
// context lasts; what is left then stays pending in Redis.
func (c *consumer) settle(ctx, work context.Context) error {
	if c.batch.entries() == 0 {
		return nil
	}
	if err := c.settleLost(work); err != nil {
		return err
	}
	for _, bad := range c.batch.bad {
		if err := c.deadLetter(work, bad.id, bad.reason); err != nil {
			return err
		}
	}
	if len(c.batch.orders) == 0 {
		return nil
	}
	c.metrics.batchSize.Observe(float64(len(c.batch.orders)))

	return c.settleOrders(ctx, work)
}

// settleOrders persists and acknowledges the orders of the batch. What can never be stored is set
// aside; whatever else the ledger has against the batch, the batch waits.
func (c *consumer) settleOrders(ctx, work context.Context) error {
	var faults backoff
	defer c.stand.end()
	for len(c.batch.orders) > 0 {
		results, err := c.persist(work, c.batch.orders)
		if err == nil {
			return c.finish(work, results)
		}
		if bad, ok := errors.AsType[*flashsale.UnstorableError](err); ok {
			if err := c.setAside(work, bad); err != nil {
				return err
			}
			continue
		}
		if work.Err() != nil {
			c.log.Warn("stopped before the ledger took the batch; it stays pending",
				"orders", len(c.batch.orders), "error", err)
			return fmt.Errorf("persist %d orders: %w", len(c.batch.orders), err)
		}
		wait := faults.next()
		c.metrics.faults.WithLabelValues("ledger").Inc()
		c.stand.begin(err)
		c.log.Log(work, standLevel(err), "ledger did not take the batch, keeping it and reading no further",
			"orders", len(c.batch.orders), "wait", wait, "error", err)
		c.pauseFlushing(ctx, work, wait)
	}
	return nil
}

// setAside takes the orders that can never be stored out of the batch.
func (c *consumer) setAside(ctx context.Context, bad *flashsale.UnstorableError) error {
	for _, order := range slices.Backward(bad.Orders) {
		if err := c.deadLetter(ctx, c.batch.ids[order.Index], errors.New(order.Reason)); err != nil {
			return err
		}
		c.batch.remove(order.Index)
	}
	return nil
}

// pauseFlushing waits before the next attempt; a stop ends the wait, once.
func (c *consumer) pauseFlushing(ctx, work context.Context, wait time.Duration) {
	if ctx.Err() == nil {
		pause(ctx, wait)
		return
	}
	pause(work, wait)
}

// persist runs one transaction.
func (c *consumer) persist(ctx context.Context, orders []flashsale.Order) ([]flashsale.Result, error) {
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
	c.metrics.persistSeconds.Observe(time.Since(began).Seconds())
	return results, nil
}

// finish acknowledges what has been committed and tells the results, in one round trip. After
// an error the entries may be pending still: they are delivered again, and the ledger knows them.
func (c *consumer) finish(ctx context.Context, results []flashsale.Result) error {
	pipe := c.client.Pipeline()
	acks := c.queueAcks(ctx, pipe)
	c.publisher.queue(ctx, pipe, results)
	_, sendErr := pipe.Exec(ctx) // of the acks each one's own error counts
	c.report(results)
	for _, ack := range acks {
		err := ack.Err()
		if isNoScript(err) {
			err = ackScript.Eval(ctx, c.client, []string{c.ordersKey}, ack.Args()[4:]...).Err()
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

// queueAcks adds one call a run: as a rule one, two after a batch that lingered.
func (c *consumer) queueAcks(ctx context.Context, pipe redis.Pipeliner) (acks []*redis.Cmd) {
	queue := func(run string, from, to int) {
		args := make([]any, 0, 2+to-from)
		args = append(args, engine.Group, run)
		for _, id := range c.batch.ids[from:to] {
			args = append(args, id)
		}
		acks = append(acks, pipe.EvalSha(ctx, ackScript.Hash(), []string{c.ordersKey}, args...))
	}
	if len(c.batch.runs) == 0 { // claimed, or pending from before: other entries may lie between
		queue("0", 0, len(c.batch.ids))
	}
	for _, run := range c.batch.runs {
		if run.from < run.to {
			queue("1", run.from, run.to)
		}
	}
	return acks
}

// report tells everybody in this process what has been committed.
func (c *consumer) report(results []flashsale.Result) {
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

// deadLetter sets an entry aside for ever. Every case is worth an operator's look.
func (c *consumer) deadLetter(ctx context.Context, id string, reason error) error {
	text := printable(reason.Error(), reasonLenMax)
	err := deadLetterScript.Run(ctx, c.client, []string{c.ordersKey, c.deadKey}, engine.Group, id, text).Err()
	if err != nil {
		return fmt.Errorf("dead letter entry %s of %s: %w", id, c.ordersKey, err)
	}
	c.metrics.deadLettered.Inc()
	c.log.Error("entry can never be persisted, set aside", "entry", id, "dead", c.deadKey, "reason", text)
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
