package server

import (
	"github.com/valyala/fasthttp"

	"flashsale/web"
)

var (
	keptForEver  = []byte("public, max-age=31536000, immutable")
	askedForAnew = []byte("no-cache")
)

// routePages serves the shop at the addresses of its views.
func (s *Server) routePages(handle func(method, path string, handler fasthttp.RequestHandler, parameters ...string) fasthttp.RequestHandler) {
	site := s.config.Pages
	if site == nil {
		return
	}
	page := fromAddr(s.rates.addrReads, func(ctx *fasthttp.RequestCtx) { answerPage(ctx, site, "same-origin") })
	for _, path := range []string{"/", "/items/{item}", "/orders", "/orders/{order_no}"} {
		handle("GET", path, page, anyQuery)
	}
	handle("GET", "/a/{digest}/{name:*}", fromAddr(s.rates.addrReads, func(ctx *fasthttp.RequestCtx) { answerSite(ctx, site) }))
}

func answerPage(ctx *fasthttp.RequestCtx, site *web.Site, referrer string) {
	header := &ctx.Response.Header
	header.Set(fasthttp.HeaderContentSecurityPolicy, web.Policy)
	header.Set(fasthttp.HeaderReferrerPolicy, referrer)
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	answerFile(ctx, site.Page, askedForAnew)
}

// answerSite answers with the file of a site that the address names.
func answerSite(ctx *fasthttp.RequestCtx, site *web.Site) {
	digest, _ := ctx.UserValue("digest").(string)
	name, _ := ctx.UserValue("name").(string)
	file, forEver := site.File(digest, name)
	switch {
	case file == nil:
		refuse(ctx, problemNotFound)
	case forEver:
		answerFile(ctx, file, keptForEver)
	default:
		answerFile(ctx, file, askedForAnew)
	}
}

func answerFile(ctx *fasthttp.RequestCtx, file *web.File, keep []byte) {
	header := &ctx.Response.Header
	header.SetCanonical(headerCacheControl, keep)
	header.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
	header.SetCanonical(headerETag, []byte(file.ETag))
	varyEncoding(header)
	if notModified(ctx, []byte(file.ETag)) {
		return
	}
	header.SetStatusCode(fasthttp.StatusOK)
	header.SetContentType(file.Type)
	if file.Packed != nil && acceptsGzip(&ctx.Request.Header) {
		header.SetContentEncoding("gzip")
		ctx.Response.SetBodyRaw(file.Packed)
		return
	}
	ctx.Response.SetBodyRaw(file.Body)
}
