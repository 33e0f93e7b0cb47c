package server

import (
	"bytes"
	"errors"
	"runtime/debug"
	"time"
	"unsafe"

	"github.com/fasthttp/router"
	"github.com/valyala/fasthttp"

	"flashsale"
)

// tokenLenMax bounds what is looked up as a token.
const tokenLenMax = 256

// userHandler is a handler behind a login.
type userHandler func(ctx *fasthttp.RequestCtx, user flashsale.User)

// routePublic builds what shoppers reach.
func (s *Server) routePublic() fasthttp.RequestHandler {
	r := newRouter()
	handle := func(method, path string, handler fasthttp.RequestHandler, parameters ...string) fasthttp.RequestHandler {
		handler = s.measured(method+" "+path, queried(handler, parameters...))
		r.Handle(method, path, handler)
		return handler
	}
	if s.config.DevLogin {
		handle("POST", "/v1/sessions", s.createSession)
	}
	handle("GET", "/v1/me", s.requireUser(s.getMe))
	handle("GET", "/v1/sales", cacheable(s.getSales))
	handle("GET", "/v1/items/{item}", cacheable(s.getItem))
	create := handle("POST", "/v1/items/{item}/orders", s.requireUser(s.createOrder))
	handle("GET", "/v1/orders", s.requireUser(s.listOrders), "before", "limit")
	handle("GET", "/v1/orders/{order_no}", s.requireUser(s.getOrder), "item", "status", "wait")
	handle("DELETE", "/v1/orders/{order_no}", s.requireUser(s.cancelOrder), "item")
	handle("GET", "/v1/orders/{order_no}/events", s.requireUser(s.orderEvents), "item")
	handle("POST", "/v1/orders/{order_no}/payments", s.requireUser(s.createPayment), "item")
	handle("POST", "/v1/orders/{order_no}/refunds", s.requireUser(s.createRefund), "item")
	handle("POST", "/v1/payments/alipay/notify", s.alipayNotify)
	handle("GET", "/v1/payments/alipay/return", s.alipayReturn, anyQuery)
	handle("GET", "/v1/points", s.requireUser(s.getPoints), "before", "limit")

	other := s.measured("other", fasthttp.RequestHandler(func(ctx *fasthttp.RequestCtx) { refuse(ctx, problemNotFound) }))
	r.NotFound = other
	r.MethodNotAllowed = s.measured("other", refuseMethod)

	return guarded(s.faults, s.metrics.panics.Inc, func(ctx *fasthttp.RequestCtx) {
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
	})
}

// newRouter matches exact paths only: no redirects, no answers of its own.
func newRouter() *router.Router {
	r := router.New()
	r.RedirectTrailingSlash = false
	r.RedirectFixedPath = false
	r.HandleOPTIONS = false
	r.HandleMethodNotAllowed = true
	r.NotFound = func(ctx *fasthttp.RequestCtx) { refuse(ctx, problemNotFound) }
	r.MethodNotAllowed = refuseMethod
	return r
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

// requireUser is the one place that requires a login. It hands the user to the handler.
func (s *Server) requireUser(next userHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		ctx.Response.Header.SetCanonical(headerVary, varyByLogin)
		token := requestToken(&ctx.Request.Header)
		if len(token) == 0 {
			refuse(ctx, problemMissingToken)
			return
		}
		if len(token) > tokenLenMax {
			refuse(ctx, problemInvalidToken)
			return
		}
		user, err := s.config.Sessions.Session(s.base, unsafeString(token))
		if errors.Is(err, flashsale.ErrNotFound) {
			refuse(ctx, problemInvalidToken)
			return
		}
		if err != nil {
			s.fault(ctx, "look up session", err)
			return
		}
		next(ctx, user)
	}
}

// requestToken reads Authorization: Bearer <token>, or else token: <token>.
func requestToken(header *fasthttp.RequestHeader) []byte {
	value := header.Peek(fasthttp.HeaderAuthorization)
	if n := len(schemeBearer); len(value) > n && value[n] == ' ' && bytes.EqualFold(value[:n], schemeBearer) {
		return bytes.TrimSpace(value[n:])
	}
	return header.Peek("Token")
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
