package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"flashsale"
)

// ErrRun is returned by a second call of [Worker.Run].
var ErrRun = errors.New("worker has run already")

// Ledger is the ledger of record as the worker needs it.
type Ledger interface {
	Persister
	Outbox
	Deadlines
	GuardLedger
	RetireLedger
	ScheduleLedger
	WatchLedger
}

// Persister stores orders. One transaction a call, one result for each order, in order; the
// slice is the caller's again afterwards. A [flashsale.UnstorableError] names the orders that can
// never be stored, and nothing was; after any other error the batch is offered again.
// [flashsale.ErrRefused] says that an operator must act first. An order that was stored before
// gets its present state as its result.
type Persister interface {
	Persist(ctx context.Context, orders []flashsale.Order) ([]flashsale.Result, error)
}

// Engine is what the worker asks of Redis' side of the engine.
type Engine interface {
	RelayEngine
	AuditEngine
	GuardEngine
	PreheatEngine
	RetireEngine
}

// Worker runs the components behind the sale.
type Worker struct {
	config  Config
	metrics *metrics
	ran     atomic.Bool

	stands       []*stand // by partition
	relayWake    wake
	cancelWake   wake
	scheduleWake wake
}

// New checks the configuration and registers the metrics. It connects to nothing.
func New(config Config) (*Worker, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	client, err := newClient(config.RedisURL, 1) // only to check the URL
	if err != nil {
		return nil, err
	}
	if err := client.Close(); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	metrics, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, fmt.Errorf("worker: register metrics: %w", err)
	}
	w := &Worker{
		config: config, metrics: metrics,
		relayWake: newWake(), cancelWake: newWake(), scheduleWake: newWake(),
	}
	for p := range config.Partitions {
		w.stands = append(w.stands, newStand(p, metrics))
	}
	return w, nil
}

// Wake makes the relay, the canceller and the scheduler look at the ledger now. Call it after a
// transaction of this process wrote to the outbox, set an early deadline or announced a sale;
// without it they look a moment later.
func (w *Worker) Wake() {
	w.relayWake.set()
	w.cancelWake.set()
	w.scheduleWake.set()
}

// Run works until ctx ends, then stops in this order: read no more of the streams, persist and
// acknowledge what is in hand (for at most FlushTimeout), carry out what the outbox holds by
// then, complete what is being loaded or rebuilt, close the connections. Faults of Redis and of the ledger do not end it.
func (w *Worker) Run(ctx context.Context) error {
	if w.ran.Swap(true) {
		return ErrRun
	}
	// One connection a consumer blocks in a read; everything else shares another client.
	reader, err := newClient(w.config.RedisURL, w.config.Partitions)
	if err != nil {
		return err
	}
	defer reader.Close()
	client, err := newClient(w.config.RedisURL, w.config.Partitions+poolSpare)
	if err != nil {
		return err
	}
	defer client.Close()

	// Work in hand outlives ctx by FlushTimeout.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	var flush sync.WaitGroup
	defer flush.Wait()
	defer stopWork()
	flush.Go(func() {
		select {
		case <-ctx.Done():
			pause(work, w.config.FlushTimeout)
			stopWork()
		case <-work.Done():
		}
	})

	consumers := make([]*consumer, len(w.stands))
	for p, stand := range w.stands {
		consumers[p] = newConsumer(w.config, p, reader, client, w.metrics, w.relayWake, stand)
		if err := consumers[p].checkForm(ctx); errors.Is(err, ErrOldStream) {
			return fmt.Errorf("worker: %w", err)
		} // any other fault passes, and the consumer goes on looking
	}
	var senders sync.WaitGroup // what may write to the outbox
	for _, c := range consumers {
		senders.Go(func() { c.run(ctx, work) })
	}
	canceller := newCanceller(w.config, newHerald(w.config.Logger, w.config.OnResults, client).tell, w.metrics, w.cancelWake, w.relayWake)
	senders.Go(func() { canceller.run(ctx, work) })
	if w.config.Trades != nil {
		closer := newCloser(w.config, w.metrics, w.cancelWake)
		senders.Go(func() { closer.run(ctx, work) })
	}

	var others sync.WaitGroup
	others.Go(func() { newSampler(w.config, client, w.metrics).run(ctx) })
	others.Go(func() { newRescuer(w.config, client, w.metrics).run(ctx) })
	locks := newLocker(client)
	if w.config.GuardEvery > 0 {
		guardWake := newWake()
		reader.AddHook(dialWake{guardWake})
		guardian := newGuardian(w.config, client, locks, w.metrics, guardWake)
		others.Go(func() { guardian.run(ctx, work) })
	}
	if w.config.PreheatBefore > 0 {
		scheduler := newScheduler(w.config, locks, w.metrics, w.scheduleWake)
		others.Go(func() { scheduler.run(ctx, work) })
	}
	auditor := newAuditor(AuditorConfig{
		Engine: w.config.Engine, Ledger: w.config.Ledger, Money: w.config.Money,
		Partitions: w.config.Partitions,
	}.withDefaults(), client)
	if w.config.RetireEvery > 0 {
		retirer := newRetirer(w.config, auditor, locks, w.metrics)
		others.Go(func() { retirer.run(ctx) })
	}
	if w.config.AuditEvery > 0 {
		watcher := newAuditWatcher(w.config, auditor, locks, w.metrics)
		others.Go(func() { watcher.run(ctx) })
	}

	relayCtx, stopRelay := context.WithCancel(work)
	defer stopRelay()
	relay := newRelay(w.config, w.metrics, w.relayWake)
	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		relay.run(relayCtx, work)
	}()

	senders.Wait()
	stopRelay()
	<-relayed
	others.Wait()
	return nil
}
