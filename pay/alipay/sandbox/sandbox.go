package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	headerTimeout   = 5 * time.Second
	readTimeout     = 10 * time.Second
	shutdownTimeout = time.Second
)

// Sandbox is a local Alipay. It is an [http.Handler]; notices are delivered while Run runs.
type Sandbox struct {
	config   Config
	keys     keys
	listener net.Listener // nil without an address
	mux      *http.ServeMux

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced at each change of what follows
	trades     map[string]*Trade
	deliveries []*delivery
	history    []Notice
	faults     Faults
	calls      int // being answered
	callsMost  int // ever, at the same time
}

var _ http.Handler = (*Sandbox)(nil)

// New makes a sandbox with its keys, and listens if there is an address. Whoever does not call
// Run afterwards calls Close.
func New(config Config) (*Sandbox, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	stored, err := loadState(config.StateFile)
	if err != nil {
		return nil, err
	}
	s := &Sandbox{
		config: config, changed: make(chan struct{}), trades: stored.Trades, deliveries: stored.Deliveries,
	}
	if s.keys, err = newKeys(config, stored.Keys); err != nil {
		return nil, err
	}
	if err := s.save(); err != nil {
		return nil, err
	}
	s.mux = s.routes()
	if config.Addr != "" {
		var listen net.ListenConfig
		if s.listener, err = listen.Listen(context.Background(), "tcp", config.Addr); err != nil {
			return nil, fmt.Errorf("sandbox: listen: %w", err)
		}
	}
	return s, nil
}

// URL is where the sandbox listens; empty without an address.
func (s *Sandbox) URL() string {
	if s.listener == nil {
		return ""
	}
	return "http://" + s.listener.Addr().String()
}

// GatewayURL is what the application is configured with; empty without an address.
func (s *Sandbox) GatewayURL() string {
	if s.listener == nil {
		return ""
	}
	return s.URL() + "/gateway.do"
}

// ServeHTTP answers /gateway.do and the buttons of its pay page, and the knobs:
//
//	GET  /sandbox/trades                        all trades
//	POST /sandbox/trades/{order_no}/pay         as [Sandbox.Pay]; also /decline and /pay_late
//	GET  /sandbox/notices                       the latest deliveries
//	GET  /sandbox/faults, PUT /sandbox/faults   [Faults] as JSON
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Run delivers notices, and serves the address if there is one, until ctx ends and what was
// under way is done.
func (s *Sandbox) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { s.deliver(ctx) })
	err := s.serve(ctx)
	cancel()
	running.Wait()
	if transport, ok := s.config.Transport.(*http.Transport); ok {
		transport.CloseIdleConnections()
	}
	return err
}

// Close gives back the address of a sandbox that never ran.
func (s *Sandbox) Close() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

func (s *Sandbox) serve(ctx context.Context) error {
	if s.listener == nil {
		<-ctx.Done()
		return nil
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("sandbox: serve: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	// Shutdown waits for connections that a client has opened and not used yet: no loss.
	err := server.Shutdown(stopping)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-served
	if err != nil {
		return fmt.Errorf("sandbox: stop: %w", err)
	}
	return nil
}

// changedLocked keeps a change and wakes whoever waits for one. It expects s.mu to be held.
func (s *Sandbox) changedLocked() {
	if err := s.save(); err != nil {
		s.config.Logger.Error("state not kept", "error", err)
	}
	close(s.changed)
	s.changed = make(chan struct{})
}
