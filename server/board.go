package server

import (
	"github.com/fasthttp/router"
	"github.com/valyala/fasthttp"

	"flashsale/docs"
	"flashsale/web"
)

// routeBoard serves the board, and the runbook to which its alarms lead.
func routeBoard(r *router.Router, site *web.Site) {
	route(r, "GET", "/", func(ctx *fasthttp.RequestCtx) { answerPage(ctx, site, "no-referrer") })
	route(r, "GET", "/a/{digest}/{name:*}", func(ctx *fasthttp.RequestCtx) { answerSite(ctx, site) })
	route(r, "GET", "/docs/operations.md", cacheable(func(ctx *fasthttp.RequestCtx) {
		ctx.Response.Header.SetContentType("text/plain; charset=utf-8")
		ctx.Response.SetBodyRaw(docs.Operations)
	}))
}
