package server

import (
	"errors"
	"runtime/debug"
	"time"
	"unsafe"

	"github.com/fasthttp/router"
	"github.com/valyala/fasthttp"

	"flashsale"
	"flashsale/docs"
)

// routePublic builds what shoppers reach.
func (s *Server) routePublic() fasthttp.RequestHandler {
	r, limit := newRouter(), s.rates
	handle := func(method, path string, handler fasthttp.RequestHandler, parameters ...string) fasthttp.RequestHandler {
		handler = s.measured(method+" "+path, queried(handler, parameters...))
		route(r, method, path, handler)
		return handler
	}
	createSession := func(ctx *fasthttp.RequestCtx) { refuse(ctx, problemNotFound) }
	if s.config.DevLogin {
		createSession = s.createSession
	}
	handle("POST", "/v1/sessions", fromAddr(limit.addrLogins, createSession))
	handle("DELETE", "/v1/sessions", fromAddr(limit.addrLogins, s.deleteSession))
	handle("GET", "/v1/me", s.requireUser(ofUser(limit.userReads, s.getMe)))
	handle("GET", "/v1/sales", fromAddr(limit.addrReads, s.getSales), "before", "limit", "state")
	handle("GET", "/v1/sales/{sale}", fromAddr(limit.addrReads, s.getSale))
	handle("GET", "/v1/items/{item}", fromAddr(limit.addrReads, s.getItem))
	handle("GET", "/v1/shop", fromAddr(limit.addrReads, s.getShop))
	handle("GET", "/v1/time", fromAddr(limit.addrReads, s.getTime))
	create := handle("POST", "/v1/items/{item}/orders", fromAddr(limit.addrOrders, s.requireUser(ofUser(limit.userOrders, s.createOrder))))
	handle("GET", "/v1/orders", s.requireUser(ofUser(limit.userReads, s.listOrders)), "before", "limit")
	handle("GET", "/v1/orders/{order_no}", s.requireUser(ofUser(limit.userReads, s.getOrder)), "item", "status", "wait")
	handle("DELETE", "/v1/orders/{order_no}", s.requireUser(ofUser(limit.userPays, s.cancelOrder)), "item")
	handle("GET", "/v1/orders/{order_no}/events", s.requireUser(ofUser(limit.userReads, s.orderEvents)), "item")
	handle("POST", "/v1/orders/{order_no}/payments", s.requireUser(ofUser(limit.userPays, s.repeatable(s.createPayment))), "item")
	handle("POST", "/v1/orders/{order_no}/refunds", s.requireUser(ofUser(limit.userPays, s.repeatable(s.createRefund))), "item")
	handle("POST", "/v1/payments/alipay/notify", s.alipayNotify)
	handle("GET", "/v1/payments/alipay/return", fromAddr(limit.addrReads, s.alipayReturn), anyQuery)
	handle("GET", "/v1/openapi.json", cacheable(getOpenAPI))
	handle("GET", "/docs/api.md", cacheable(getPage))
	handle("GET", "/v1/points", s.requireUser(ofUser(limit.userReads, s.getPoints)), "before", "limit")

	s.routePages(handle)

	other := s.measured("other", fasthttp.RequestHandler(func(ctx *fasthttp.RequestCtx) { refuse(ctx, problemNotFound) }))
	r.NotFound = other
	r.MethodNotAllowed = s.measured("other", refuseMethod)
	r.GlobalOPTIONS = s.measured("other", answerOptions)

	return guarded(s.faults, s.metrics.panics.Inc, s.origins.shared(func(ctx *fasthttp.RequestCtx) {
		if s.left() {
			ctx.SetConnectionClose()
		}
		// The one call that the crowd makes skips the search and its copies.
		if ctx.IsPost() {
			if _, ok := orderItem(ctx.Request.URI().PathOriginal()); ok {
				create(ctx)
				return
			}
		}
		r.Handler(ctx)
	}))
}

// route answers a method of an address, and HEAD wherever GET is.
func route(r *router.Router, method, path string, handler fasthttp.RequestHandler) {
	r.Handle(method, path, handler)
	if method == fasthttp.MethodGet {
		r.Handle(fasthttp.MethodHead, path, handler)
	}
}

// newRouter matches exact paths only: no redirects, no answers of its own.
func newRouter() *router.Router {
	r := router.New()
	r.RedirectTrailingSlash = false
	r.RedirectFixedPath = false
	r.HandleOPTIONS = true
	r.GlobalOPTIONS = answerOptions
	r.HandleMethodNotAllowed = true
	r.NotFound = func(ctx *fasthttp.RequestCtx) { refuse(ctx, problemNotFound) }
	r.MethodNotAllowed = refuseMethod
	return r
}

// getPage answers with the page to which the types of problems lead.
func getPage(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.SetContentType("text/markdown; charset=utf-8")
	ctx.Response.SetBodyRaw(docs.API)
}

func getOpenAPI(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.SetContentType(typeJSON)
	ctx.Response.SetBodyRaw(docs.OpenAPI)
}

// answerOptions answers with the methods of an address, which the router has put into Allow.
func answerOptions(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.SetStatusCode(fasthttp.StatusNoContent)
}

func refuseMethod(ctx *fasthttp.RequestCtx) { refuse(ctx, problemMethod) }

// guarded keeps a bug in one request from ending the process.
func guarded(faults *faultLog, panicked func(), next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		beginAnswer(ctx)
		defer func() {
			if v := recover(); v != nil {
				panicked()
				faults.of(ctx, "panic in handler", "method", string(ctx.Method()), "path", string(ctx.Path()),
					"panic", v, "stack", string(debug.Stack()))
				ctx.Response.Reset()
				beginAnswer(ctx)
				refuse(ctx, problemInternal)
			}
		}()
		if p := misframed(&ctx.Request.Header); p != nil {
			ctx.SetConnectionClose()
			refuse(ctx, p)
			return
		}
		next(ctx)
	}
}

// cacheable lets caches keep what everybody may see, for as long as a change may take to show.
// What is refused is kept by nobody.
func cacheable(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		next(ctx)
		if ctx.Response.StatusCode() == fasthttp.StatusOK {
			ctx.Response.Header.SetCanonical(headerCacheControl, cacheBriefly)
		}
	}
}

// measured counts the answers of a route.
func (s *Server) measured(route string, next fasthttp.RequestHandler) fasthttp.RequestHandler {
	m := s.metrics.forRoute(route)
	return func(ctx *fasthttp.RequestCtx) {
		next(ctx)
		m.observe(ctx.Response.StatusCode(), time.Since(ctx.Time()))
	}
}

// pathID reads an id from the path and answers if it is none.
func pathID[ID ~int64](ctx *fasthttp.RequestCtx, name string, malformed, unknown *problem) (ID, bool) {
	text, _ := ctx.UserValue(name).(string)
	id, err := flashsale.ParseID[ID](text)
	if err != nil {
		refuseID(ctx, err, malformed, unknown)
		return 0, false
	}
	return id, true
}

// refuseID tells what is no id from an id that nothing can have.
func refuseID(ctx *fasthttp.RequestCtx, err error, malformed, unknown *problem) {
	if errors.Is(err, flashsale.ErrNotFound) {
		refuse(ctx, unknown)
		return
	}
	refuse(ctx, malformed)
}

// unsafeString views bytes of the request as a string, for callees that keep nothing of it.
func unsafeString(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // read only, and not kept
}
