package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// errNotVouched refuses a connection for decisions.
var errNotVouched = errors.New("redis has restarted and was not compared with the ledger since")

// decider is the client that runs reserve.lua, on connections that are opened only to a Redis
// that may sell. A restart may have brought an older state back, and no restart happens without
// new connections: each asks for the run id of Redis, which must be the one that was vouched for
// under runKey. A Redis without that key is new or empty, so there is nothing in it to mistrust:
// the key is written before anything else, and what Redis loses it loses from the end.
type decider struct {
	ask    func(context.Context) (vouched bool, err error)
	logger *slog.Logger
	option rueidis.ClientOption
	open   func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)

	mu     sync.Mutex // guards client
	client rueidis.Client

	askMu   sync.Mutex // guards what follows; taken after mu, since making the client asks
	doubted time.Time  // when Redis was last asked in vain
	fault   error
}

// doubtRest is how long an answer that refuses stands before Redis is asked again.
const doubtRest = 50 * time.Millisecond

func newDecider(option rueidis.ClientOption, logger *slog.Logger, ask func(context.Context) (bool, error)) *decider {
	d := &decider{ask: ask, logger: logger, open: option.DialCtxFn}
	option.DialCtxFn = d.dial
	option.OnInvalidations, option.DisableCache = nil, true
	d.option = option
	return d
}

// get returns the client. It is made when first needed, because a node may start while Redis
// is not vouched for.
func (d *decider) get() (rueidis.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client == nil {
		client, err := rueidis.NewClient(d.option)
		if err != nil {
			return nil, err
		}
		d.client = client
	}
	return d.client, nil
}

func (d *decider) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client != nil {
		d.client.Close()
	}
}

// dial opens a connection as rueidis would, to a Redis that may sell.
func (d *decider) dial(ctx context.Context, addr string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
	if err := d.allowed(ctx); err != nil {
		return nil, err
	}
	return d.open(ctx, addr, dialer, config)
}

func (d *decider) allowed(ctx context.Context) error {
	d.askMu.Lock()
	defer d.askMu.Unlock()
	if time.Since(d.doubted) < doubtRest {
		return d.fault
	}
	vouched, err := d.ask(ctx)
	if err == nil && !vouched {
		err = errNotVouched
		d.logger.Warn("not selling until a worker has vouched for redis", "error", err)
	}
	if err != nil {
		d.doubted, d.fault = time.Now(), err
	}
	return err
}

// Vouched reports whether Redis is in the run that was vouched for. The first to ask a new or
// empty Redis vouches for it.
func (e *Engine) Vouched(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	info, err := readInfo(ctx, e.client)
	if err != nil {
		return false, err
	}
	if info["cluster_enabled"] == "1" {
		return true, nil // its nodes restart one by one; the worker compares generations and sequences
	}
	runID := info["run_id"]
	result := e.client.Do(ctx, e.client.B().Get().Key(runKey).Build()) // a full Redis still reads
	if isNil(result) {
		set := e.client.B().Set().Key(runKey).Value(runID).Nx().Get().Build()
		if result = e.client.Do(ctx, set); isNil(result) {
			return true, nil
		}
	}
	known, err := result.ToString()
	if err != nil {
		return false, fmt.Errorf("read %s: %w", runKey, err)
	}
	return known == runID, nil
}

// Vouch declares that every item in the Redis of this run id has been compared with the ledger
// since it started: all nodes sell again. A Redis that has restarted meanwhile stays untrusted.
func (e *Engine) Vouch(ctx context.Context, runID string) error {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	set := e.client.B().Set().Key(runKey).Value(runID).Build()
	if err := e.client.Do(ctx, set).Error(); err != nil {
		return fmt.Errorf("vouch for redis: %w", err)
	}
	return nil
}
