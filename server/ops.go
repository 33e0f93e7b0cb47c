package server

import (
	"context"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/fasthttp/router"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
	"github.com/valyala/fasthttp/pprofhandler"
)

// checkTimeout bounds each condition of readiness.
const checkTimeout = time.Second

// vitals are what operators see of a process, whatever it does.
type vitals struct {
	operators  *operators
	base       context.Context // of every probe
	checks     []Check
	leaving    <-chan struct{} // closed when readiness goes off
	durability func(context.Context) (string, error)
	faults     *faultLog
	gatherer   prometheus.Gatherer
}

func (v *vitals) route(r *router.Router) {
	route(r, "GET", "/healthz", func(ctx *fasthttp.RequestCtx) { answer(ctx, fasthttp.StatusOK, []byte(`{"status":"ok"}`)) })
	route(r, "GET", "/readyz", v.getReady)
	// Without a timeout: it would hang on the request's context, which fasthttp changes at its
	// shutdown. Nothing that is gathered waits for anything.
	route(r, "GET", "/metrics", fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(v.gatherer, promhttp.HandlerOpts{})))
	index := fasthttpadaptor.NewFastHTTPHandlerFunc(pprof.Index) // fasthttp's own refuses the slash at its end
	route(r, "GET", "/debug/pprof/{profile:*}", v.operators.change(func(ctx *fasthttp.RequestCtx) {
		if ctx.UserValue("profile") == "" {
			index(ctx)
			return
		}
		pprofhandler.PprofHandler(ctx)
	}))
}

// routeOps builds what operators reach.
func (s *Server) routeOps() fasthttp.RequestHandler {
	r := newRouter()
	seen := &vitals{
		operators: newOperators(s.config.AdminToken, s.config.ViewerToken, s.config.Rates.AdminGuess, s.faults),
		base:      s.base, checks: s.config.Checks, leaving: s.leaving,
		durability: s.config.Durability, faults: s.faults, gatherer: s.config.Gatherer,
	}
	seen.route(r)

	open := func(method, path string, handler fasthttp.RequestHandler) {
		route(r, method, path, queried(handler))
	}
	admin := func(method, path string, handler fasthttp.RequestHandler, parameters ...string) {
		handler = queried(handler, parameters...)
		if method == fasthttp.MethodGet {
			handler = seen.operators.read(handler)
		} else {
			handler = seen.operators.change(s.logged(method+" "+path, handler))
		}
		route(r, method, path, handler)
	}
	routeBoard(r, s.board)
	open("POST", "/v1/admin/session", seen.operators.logIn)
	open("DELETE", "/v1/admin/session", seen.operators.logOut)
	admin("GET", "/v1/admin/session", seen.operators.getSession)
	admin("GET", "/v1/admin/live", s.openLive)
	admin("GET", "/v1/admin/actions", s.getActions, "before", "limit")
	admin("POST", "/v1/admin/sales", s.createSale)
	admin("DELETE", "/v1/admin/sales/{sale}", s.deleteSale)
	admin("PATCH", "/v1/admin/sales/{sale}", s.changeSale)
	admin("PATCH", "/v1/admin/items/{item}", s.changeItem)
	admin("POST", "/v1/admin/items/{item}/rebuild", s.rebuildItem)
	admin("GET", "/v1/admin/dead", s.listDead, "item", "reason")
	admin("POST", "/v1/admin/dead/retry", s.retryDead)
	admin("POST", "/v1/admin/dead/discard", s.dropDead)
	admin("POST", "/v1/admin/sales/{sale}/preheat", s.preheatSale)
	admin("GET", "/v1/admin/items/{item}", s.getAccount)
	admin("POST", "/v1/admin/items/{item}/pause", s.setPaused(true))
	admin("POST", "/v1/admin/items/{item}/resume", s.setPaused(false))
	admin("POST", "/v1/admin/items/{item}/stock", s.restock)
	admin("GET", "/v1/admin/audit", s.audit, "full", "wait")
	admin("POST", "/v1/admin/points", s.grantPoints)
	admin("GET", "/v1/admin/orders", s.lookUp, "user", "trade", "before", "limit")
	admin("GET", "/v1/admin/orders/{order_no}", s.lookAt)
	admin("GET", "/v1/admin/orders/{order_no}/payments", s.getPayments)
	admin("POST", "/v1/admin/orders/{order_no}/cancel", s.cancelAnyOrder)
	admin("GET", "/v1/admin/sales/{sale}/orders", s.exportOrders, "format")
	admin("POST", "/v1/admin/sales/{sale}/cancel", s.cancelSale)
	admin("GET", "/v1/admin/sales/{sale}/cancel", s.getSaleCancellation)
	admin("GET", "/v1/admin/money", s.getOpenMoney)
	admin("POST", "/v1/admin/refunds/{refund_no}/settle", s.settleRefund)
	admin("POST", "/v1/admin/refunds/{refund_no}/retry", s.retryRefund)
	return guarded(s.faults, s.metrics.panics.Inc, addressed(s.opsHosts(), r.Handler))
}

// getReady tells a load balancer whether to send shoppers here, and an operator why not. What
// exactly failed stands in the log.
func (v *vitals) getReady(ctx *fasthttp.RequestCtx) {
	call, cancel := context.WithTimeout(v.base, checkTimeout)
	defer cancel()
	faults := make([]error, len(v.checks))
	var probing sync.WaitGroup
	for n, check := range v.checks {
		probing.Go(func() { faults[n] = check.Probe(call) })
	}
	probing.Wait()

	report := make(map[string]string, len(faults)+2)
	report["status"] = "ready"
	for n, check := range v.checks {
		report[check.Name] = "ok"
		if faults[n] != nil {
			report[check.Name] = "unreachable"
			if !check.Degrades {
				report["status"] = "not_ready"
			} else if report["status"] == "ready" {
				report["status"] = "degraded"
			}
			if check.Explained {
				report[check.Name] = faults[n].Error()
			}
			v.faults.of(ctx, "not ready", "check", check.Name, "error", faults[n])
		}
	}
	if v.durability != nil {
		durability, err := v.durability(call)
		if err != nil {
			durability = "unknown"
		}
		report["durability"] = durability
	}
	select {
	case <-v.leaving:
		report["status"] = "draining"
	default:
	}
	status := fasthttp.StatusServiceUnavailable
	if report["status"] == "ready" || report["status"] == "degraded" {
		status = fasthttp.StatusOK
	}
	answerValue(ctx, v.faults, status, report)
}
