package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flashsale"
	"flashsale/web"
)

// callTimeout bounds what one request asks of a store, beside the hot path, whose bounds are
// those of the engine.
const callTimeout = 3 * time.Second

// Server serves shoppers and operators. It is made by [New] and runs once.
type Server struct {
	config    Config
	logger    *slog.Logger
	faults    *faultLog
	metrics   *metrics
	catalogue *catalogue
	shop      *document
	liveItems *cached[[]flashsale.ItemID]
	hub       *hub
	sockets   *sockets
	audits    *audits
	live      *live
	board     *web.Site
	upgrader  *websocket.FastHTTPUpgrader
	origins   origins
	public    *fasthttp.Server
	ops       *fasthttp.Server

	base     context.Context // ends when what still runs is cut off
	cut      context.CancelFunc
	leaving  chan struct{} // closed when readiness goes off
	draining chan struct{} // closed when the listener is about to close
	waiters  chan struct{} // slots for long polls
	waiting  *shares       // of them
	rates    *rates
	rereads  chan struct{} // slots for reads by those who wait
	looks    chan struct{} // slots for questions about payments by those who wait
	looking  sync.WaitGroup

	missingToken, invalidToken *problem

	listening chan struct{} // closed when the addresses are known
	addr      net.Addr
	opsAddr   net.Addr
}

// New checks the configuration and builds a server. Nothing listens before [Server.Run].
func New(config Config) (*Server, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		config:    config,
		logger:    config.Logger,
		faults:    &faultLog{logger: config.Logger},
		catalogue: newCatalogue(config.Ledger, config.Live),
		shop:      shopDocument(config),
		sockets:   newSockets(config),
		audits:    newAudits(config.Audit),
		origins:   newOrigins(config.Origins),
		leaving:   make(chan struct{}),
		draining:  make(chan struct{}),
		waiters:   make(chan struct{}, config.WaitersMax),
		waiting:   newShares(config.WaitersPerUserMax),
		rereads:   make(chan struct{}, rereadsMax),
		looks:     make(chan struct{}, looksMax),
		listening: make(chan struct{}),
	}
	s.rates = newRates(config.Rates, newRateClock())
	if odd, ok := s.origins.valid(); !ok {
		return nil, fmt.Errorf("server: %q is no origin such as https://shop.example", odd)
	}
	s.upgrader = newUpgrader(&s.origins)
	s.missingToken, s.invalidToken = problemMissingToken, problemInvalidToken
	if config.LoginURL != "" {
		s.missingToken = problemMissingToken.with("login_url", config.LoginURL)
		s.invalidToken = problemInvalidToken.with("login_url", config.LoginURL)
	}
	s.liveItems = newCached(0, config.Ledger.LiveItems)
	s.base, s.cut = context.WithCancel(context.Background())
	s.public, s.ops = newHTTP(config, s.faults, config.BodyBytesMax), newHTTP(config, s.faults, OpsBodyBytesMax)
	s.public.ReadTimeout, s.public.WriteTimeout, s.public.IdleTimeout = 0, 0, 0 // the gate's guests keep them
	var err error
	if s.hub, err = newHub(config.RedisURL, config.Logger, s.faults); err != nil {
		return nil, err
	}
	if s.board, err = web.Board(); err != nil {
		return nil, err
	}
	if s.live, err = newLive(config, s.leaving); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(s); err != nil {
		return nil, err
	}
	s.public.Handler, s.ops.Handler = s.routePublic(), s.routeOps()
	return s, nil
}

// newHTTP states every limit: fasthttp's own defaults are mostly unlimited.
func newHTTP(config Config, faults *faultLog, bodyBytesMax int) *fasthttp.Server {
	return &fasthttp.Server{
		Concurrency:                  config.ConnsMax + 1, // the gate answers before this does
		ReadBufferSize:               config.HeaderBytesMax,
		WriteBufferSize:              4 << 10,
		ReadTimeout:                  config.ReadTimeout,
		WriteTimeout:                 config.WriteTimeout,
		IdleTimeout:                  config.IdleTimeout,
		MaxRequestBodySize:           bodyBytesMax,
		MaxIdleWorkerDuration:        10 * time.Second,
		CloseOnShutdown:              true,
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true, // headers hold tokens
		ErrorHandler:                 answerUnreadable,
		Logger:                       faults,
	}
}

// Listening is closed once both addresses are known.
func (s *Server) Listening() <-chan struct{} { return s.listening }

// Addr is where shoppers connect, once [Server.Listening] is closed.
func (s *Server) Addr() string { return s.addr.String() }

// OpsAddr is where operators connect, once [Server.Listening] is closed.
func (s *Server) OpsAddr() string { return s.opsAddr.String() }

// Run serves until ctx ends or a listener fails, shuts down in order and returns: nil if all
// that was asked has been answered. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.cut()
	defer s.audits.end()
	defer s.metrics.unregister()
	public, err := listen(ctx, s.config.Listener, s.config.Addr)
	if err != nil {
		return fmt.Errorf("listen for shoppers: %w", err)
	}
	ops, err := listen(ctx, s.config.OpsListener, s.config.OpsAddr)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for operators: %w", err), public.Close())
	}
	public, ops = newPatient(public, s.logger), newPatient(ops, s.logger)
	s.addr, s.opsAddr = public.Addr(), ops.Addr()
	close(s.listening)
	s.logger.Info("serving", "addr", s.Addr(), "ops_addr", s.OpsAddr())

	hearing, deafen := context.WithCancel(context.WithoutCancel(ctx))
	defer deafen()
	var running sync.WaitGroup
	running.Go(func() { s.hub.run(hearing) })
	running.Go(func() { s.watchSessions(hearing) })
	running.Go(func() { s.live.run(hearing) })
	if s.config.Process.Kind != "" && s.config.RedisURL != "" {
		publisher, err := newPublisher(s.config.RedisURL, s.config.Process, s.config.Gatherer, s.logger)
		if err != nil { // the hub has read the same address
			s.logger.Error("figures are not published", "error", err)
		} else {
			running.Go(func() { publisher.run(hearing) })
		}
	}
	failed := make(chan error, 2)
	running.Go(func() { failed <- s.public.Serve(newGate(public, s.config)) })
	running.Go(func() { failed <- s.ops.Serve(ops) })
	var fault error
	ended := false
	select {
	case <-ctx.Done():
	case fault = <-failed:
		ended = true
	}
	close(s.leaving) // readiness off
	if !ended {
		drained := time.NewTimer(s.config.Drain)
		defer drained.Stop()
		select {
		case <-drained.C:
		case fault = <-failed:
			ended = true
		}
	}
	if ended {
		err = fmt.Errorf("serve: %w", cmp.Or(fault, net.ErrClosed)) // nil: somebody else closed the listener
	}
	err = errors.Join(err, s.shutdown(ctx, public, ops))
	deafen()
	running.Wait()
	return err
}

// left reports whether readiness is off: who is answered now does better to connect anew, to
// another node.
func (s *Server) left() bool {
	select {
	case <-s.leaving:
		return true
	default:
		return false
	}
}

// shutdown goes from senders to receivers: no new shoppers, then no requests, then no sockets.
// Operators can watch until the end.
func (s *Server) shutdown(ctx context.Context, public, ops net.Listener) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.ShutdownTimeout)
	defer cancel()
	s.logger.Info("shutting down")
	close(s.draining) // long polls answer what they know
	var faults []error
	if err := s.public.ShutdownWithContext(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		faults = append(faults, fmt.Errorf("drain requests: %w", err))
	}
	_ = public.Close() // in case Serve had not taken it yet
	if err := s.sockets.shutdown(ctx); err != nil {
		faults = append(faults, err)
	}
	s.cut()
	s.looking.Wait()
	if err := s.ops.ShutdownWithContext(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		faults = append(faults, fmt.Errorf("drain operators' requests: %w", err))
	}
	_ = ops.Close()
	return errors.Join(faults...)
}

// keepAlive finds peers that went away without a word.
const keepAlive = time.Minute

func listen(ctx context.Context, given net.Listener, addr string) (net.Listener, error) {
	if given != nil {
		return given, nil
	}
	config := net.ListenConfig{KeepAlive: keepAlive}
	return config.Listen(context.WithoutCancel(ctx), "tcp", addr)
}
