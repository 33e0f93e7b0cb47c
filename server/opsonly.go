package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// OpsConfig configures an [Ops].
type OpsConfig struct {
	// AdminToken opens the profiles. "" disables them.
	AdminToken string
	// Checks are probed by /readyz.
	Checks []Check
	// Durability tells what a crash of Redis may lose, for /readyz. Optional.
	Durability func(context.Context) (string, error)
	// Gatherer is what /metrics shows. Default: prometheus.DefaultGatherer.
	Gatherer prometheus.Gatherer
	// Hosts are names, beside loopback ones and addresses, under which operators reach the listener.
	Hosts []string
	// Process is what this process tells the boards of itself, through RedisURL. Without a Kind it tells
	// nothing.
	Process Process
	// RedisURL is where figures are published.
	RedisURL string
	// Listener serves operators. Required; Run closes it.
	Listener net.Listener
	// Logger receives what an operator should know. Default: discarded.
	Logger *slog.Logger
}

// Ops is the ops listener of a process that serves no shoppers: health, readiness, metrics and
// profiles, and no admin calls.
type Ops struct {
	config OpsConfig
	limits Config // the server's defaults
}

// NewOps checks the configuration.
func NewOps(config OpsConfig) (*Ops, error) {
	if config.Listener == nil {
		return nil, errors.New("ops: Listener is required")
	}
	if err := checkAdminTokens(config.AdminToken, ""); err != nil {
		return nil, err
	}
	limits := Config{Gatherer: config.Gatherer, Logger: config.Logger}.withDefaults()
	config.Gatherer, config.Logger = limits.Gatherer, limits.Logger
	return &Ops{config: config, limits: limits}, nil
}

// Run answers operators while work runs, to its very end; from the end of ctx on readiness is
// off. A listener that fails ends the work as ctx does: a process that nobody can watch is
// better started again.
func (o *Ops) Run(ctx context.Context, work func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	faults := &faultLog{logger: o.config.Logger}
	r := newRouter()
	seen := &vitals{
		operators: newOperators(o.config.AdminToken, "", 0, faults),
		base:      base, checks: o.config.Checks, leaving: ctx.Done(),
		durability: o.config.Durability, faults: faults, gatherer: o.config.Gatherer,
	}
	seen.route(r)
	ops := newHTTP(o.limits, faults, o.limits.BodyBytesMax)
	ops.Handler = guarded(faults, func() {}, addressed(o.config.Hosts, r.Handler))

	var publishing sync.WaitGroup
	defer publishing.Wait()
	if o.config.Process.Kind != "" && o.config.RedisURL != "" {
		publisher, err := newPublisher(o.config.RedisURL, o.config.Process, o.config.Gatherer, o.config.Logger)
		if err != nil {
			return err
		}
		told, end := context.WithCancel(base)
		defer end()
		publishing.Go(func() { publisher.run(told) })
	}
	served := make(chan error, 1)
	listener := newPatient(o.config.Listener, o.config.Logger)
	go func() {
		served <- ops.Serve(listener)
		stop()
	}()
	err := work(ctx)
	select {
	case failed := <-served: // nil: somebody else closed the listener
		return errors.Join(err, fmt.Errorf("serve operators: %w", cmp.Or(failed, net.ErrClosed)))
	default:
	}
	err = errors.Join(err, o.shutdown(base, ops, listener))
	<-served
	return err
}

// shutdown answers what operators have asked and closes the listener.
func (o *Ops) shutdown(ctx context.Context, ops *fasthttp.Server, listener net.Listener) error {
	ctx, cancel := context.WithTimeout(ctx, o.limits.ShutdownTimeout)
	defer cancel()
	err := ops.ShutdownWithContext(ctx)
	_ = listener.Close() // in case Serve had not taken it yet
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("drain operators' requests: %w", err)
	}
	return nil
}
