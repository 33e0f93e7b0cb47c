package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"flashsale"
	"flashsale/engine"
	"flashsale/pay"
	"flashsale/pay/alipay"
	"flashsale/pay/points"
	"flashsale/postgres"
	"flashsale/server"
	"flashsale/web"
	"flashsale/worker"
)

// rooms is what a command has opened: here the rooms that do not know each other are joined.
type rooms struct {
	logger   *slog.Logger
	metrics  *prometheus.Registry
	redisURL string
	kind     string // of process, as the board shows it; "": serve
	engine   *engine.Engine
	ledger   *postgres.Ledger
	points   *points.Ledger // nil: no points database is configured
	seams    seams

	// What takes payments, once openDesk has been called.
	desk      *pay.Desk
	alipay    *alipay.Client // nil: not configured
	herald    *worker.Herald
	orderPage string
	paying    paying

	// What operators of a server change things with, once openBoard has been called.
	rebuilder *worker.Rebuilder
	dead      *worker.DeadLetters
}

// seams are where a test can stand between two rooms, to make one of them die at a given point
// for example. nil joins the rooms directly.
type seams struct {
	reserver func(server.Reserver) server.Reserver
	ledger   func(worker.Ledger) worker.Ledger
	engine   func(worker.Engine) worker.Engine
	desk     func(*pay.Config)
}

type seamsKey struct{}

// withSeams hands the seams to whatever command runs under the context.
func withSeams(ctx context.Context, s seams) context.Context {
	return context.WithValue(ctx, seamsKey{}, s)
}

func through[T any](seam func(T) T, room T) T {
	if seam == nil {
		return room
	}
	return seam(room)
}

// numbering and looking say whether a command makes order or trade numbers, for which it leases a
// node id.
func numbering(*engine.Config)      {}
func looking(config *engine.Config) { config.Passive = true }

// openRooms connects to the stores. The databases must have their schemas.
func openRooms(ctx context.Context, s stores, logger *slog.Logger, tune func(*engine.Config)) (*rooms, error) {
	r := &rooms{logger: logger, metrics: prometheus.NewRegistry(), redisURL: s.RedisURL}
	r.seams, _ = ctx.Value(seamsKey{}).(seams)
	r.metrics.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	var err error
	database := postgres.Config{URL: s.DatabaseURL, Logger: logger}
	s.bound(&database)
	if r.ledger, err = postgres.Open(ctx, database); err != nil {
		return nil, err
	}
	if err := r.ledger.CheckSchema(ctx); err != nil {
		r.ledger.Close()
		return nil, err
	}
	config := engine.Config{
		Items:    r.ledger.LiveItems,
		RedisURL: s.RedisURL, Partitions: s.Partitions, Logger: logger, Registerer: r.metrics,
		Registry: r.ledger,
	}
	tune(&config)
	if r.engine, err = engine.New(ctx, config); err != nil {
		r.ledger.Close()
		return nil, err
	}
	if err := r.openPoints(ctx, s); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// openPoints connects to the points' database if there is one.
func (r *rooms) openPoints(ctx context.Context, s stores) (err error) {
	if s.PointsURL == "" {
		return nil
	}
	r.points, err = points.Open(ctx, points.Config{
		URL: s.PointsURL, MaxConns: s.Conns, NextTradeNo: r.engine.NextNumber,
	})
	if err != nil {
		return err
	}
	return r.points.CheckSchema(ctx)
}

// close comes last: after server and worker have returned.
func (r *rooms) close() {
	r.closeDesk()
	if r.rebuilder != nil {
		_ = r.rebuilder.Close()
	}
	if r.dead != nil {
		_ = r.dead.Close()
	}
	if r.points != nil {
		r.points.Close()
	}
	r.engine.Close()
	r.ledger.Close()
}

// listen opens an address at once or not at all.
func listen(addr string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
}

// opsHosts are the names under which operators reach an address of this host.
func opsHosts(addr string, named []string) []string {
	hosts := append([]string{addr}, named...)
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	return hosts
}

// boundServer is a server with its listeners open, so that its addresses are known.
type boundServer struct {
	*server.Server
	base, ops string // http://host:port
}

func (r *rooms) newServer(s serving) (*boundServer, error) {
	listener, err := listen(s.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for shoppers: %w", err)
	}
	opsListener, err := listen(s.OpsAddr)
	if err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("listen for operators: %w", err)
	}
	bound := &boundServer{
		base: "http://" + listener.Addr().String(), ops: "http://" + opsListener.Addr().String(),
	}
	if err := r.openBoard(); err != nil {
		_, _ = listener.Close(), opsListener.Close()
		return nil, err
	}
	var site *web.Site
	if s.Pages {
		if site, err = web.Shop(); err != nil {
			_, _ = listener.Close(), opsListener.Close()
			return nil, err
		}
	}
	config := server.Config{
		AdminToken: s.AdminToken,
		Audit: func(ctx context.Context, full bool, progress func(any)) (any, error) {
			return r.audit(ctx, worker.AuditScope{
				Full: full, Progress: func(p worker.AuditProgress) { progress(p) },
			})
		},
		Changer:        boardChanger{r.rebuilder},
		Checks:         r.checks(true),
		DeadLetters:    boardDead{r.dead},
		DevLogin:       s.DevLogin,
		Durability:     r.engine.Durability,
		Effects:        worker.NewCarrier(r.ledger, r.engine),
		Export:         r.ledger.ExportOrders,
		Gatherer:       r.metrics,
		Journal:        r.ledger,
		Ledger:         r.ledger,
		Listener:       listener,
		Live:           r.engine,
		Logger:         r.logger,
		OpsHosts:       opsHosts(s.OpsAddr, s.OpsHosts),
		OpsListener:    opsListener,
		OrderPage:      r.orderPage,
		LoginURL:       s.LoginURL,
		Origins:        s.Origins,
		Pages:          site,
		PaymentMethods: r.paymentMethods(),
		Payments:       r.desk,
		Preheater:      r.newPreheater(),
		Process:        server.Process{Kind: cmp.Or(r.kind, "serve"), Lease: r.engine.Lease},
		RedisURL:       r.redisURL,
		Registerer:     r.metrics,
		Reserver:       through[server.Reserver](r.seams.reserver, r.engine),
		Sessions:       r.engine,
		Unpaid:         r.ledger.Unpaid,
		ViewerToken:    s.Viewer,
		Ways:           ways(r.alipay != nil, r.points != nil),
	}
	s.bound(&config)
	bound.Server, err = server.New(config)
	if err != nil {
		_, _ = listener.Close(), opsListener.Close()
		return nil, err
	}
	return bound, nil
}

// paymentMethods are the ways to pay that are configured.
func (r *rooms) paymentMethods() (methods []flashsale.Method) {
	if r.alipay != nil {
		methods = append(methods, flashsale.Alipay)
	}
	if r.points != nil {
		methods = append(methods, flashsale.Points)
	}
	return methods
}

// checks are what a process of ours needs in order to be ready. A server sells on while only
// PostgreSQL is away: a balancer must not empty the shop.
func (r *rooms) checks(selling bool) []server.Check {
	return []server.Check{
		{Name: "redis", Probe: r.engine.Ping},
		{Name: "postgres", Probe: r.ledger.Ping, Degrades: selling},
	}
}

// boundOps is an ops listener that is open, so that its address is known.
type boundOps struct {
	*server.Ops
	addr string
}

func (r *rooms) newOps(addr, adminToken string, hosts []string, checks ...server.Check) (*boundOps, error) {
	listener, err := listen(addr)
	if err != nil {
		return nil, fmt.Errorf("listen for operators: %w", err)
	}
	bound := &boundOps{addr: listener.Addr().String()}
	bound.Ops, err = server.NewOps(server.OpsConfig{
		AdminToken: adminToken, Hosts: opsHosts(addr, hosts),
		Checks: append(r.checks(false), checks...), Durability: r.engine.Durability, Gatherer: r.metrics,
		Listener: listener, Logger: r.logger, RedisURL: r.redisURL,
		Process: server.Process{Kind: "work", Lease: r.engine.Lease, Partitions: r.engine.Partitions()},
	})
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	return bound, nil
}

func (r *rooms) newWorker(w working) (*worker.Worker, error) {
	return worker.New(worker.Config{
		AuditEvery:      w.AuditEvery,
		BatchSize:       w.BatchSize,
		Consumer:        w.Consumer,
		Engine:          through[worker.Engine](r.seams.engine, r.engine),
		Ledger:          through[worker.Ledger](r.seams.ledger, r.ledger),
		Linger:          w.BatchAge,
		Logger:          r.logger,
		Money:           r.desk,
		Partitions:      r.engine.Partitions(),
		PauseOnOversell: &w.PauseOnOversell,
		PreheatBefore:   w.PreheatBefore,
		RedisURL:        r.redisURL,
		Registerer:      r.metrics,
		Trades:          r.desk,
	})
}
