package server

import (
	"bytes"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// What pages of other origins may send and read, and for how long a browser remembers that it
// asked: a day, of which each takes what it likes.
const (
	corsMethods = "GET, HEAD, POST, DELETE"
	corsHeaders = "Authorization, Token, Content-Type, Idempotency-Key, X-Request-Id"
	corsExposed = "Location, Retry-After, X-Request-Id, Idempotent-Replayed, RateLimit, RateLimit-Policy, ETag"
	corsMaxAge  = "86400"
)

var (
	apiPrefix         = []byte("/v1/")
	headerAllowOrigin = []byte(fasthttp.HeaderAccessControlAllowOrigin)
	headerAllowCreds  = []byte(fasthttp.HeaderAccessControlAllowCredentials)
	headerExpose      = []byte(fasthttp.HeaderAccessControlExposeHeaders)
)

// origins are the origins whose pages may use the API, beside the server's own.
type origins struct {
	listed      []string
	all         bool   // "*": every page, without cookies
	vary        []byte // of what everybody may see; nil: it does not
	varyByLogin []byte
}

func newOrigins(list []string) origins {
	o := origins{listed: list, all: slices.Contains(list, "*"), varyByLogin: []byte("Authorization, Token, Cookie")}
	if len(list) > 0 && !o.all {
		o.vary, o.varyByLogin = []byte("Origin"), []byte("Authorization, Token, Cookie, Origin")
	}
	return o
}

// names reports whether an origin was named, "*" aside.
func (o *origins) names(origin string) bool {
	return origin != "*" && slices.Contains(o.listed, origin)
}

// mayOpen reports whether a page of an origin may open a socket. One to which the browser adds its
// cookie by itself must be our own or named.
func (o *origins) mayOpen(origin, host string, cookie bool) bool {
	return origin == "" || sameOrigin(origin, host) || o.names(origin) || o.all && !cookie
}

// shared tells browsers which pages may read the answers of the API, and may send what asks for
// permission first. "*" never goes with credentials.
func (o *origins) shared(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	if len(o.listed) == 0 {
		return next
	}
	return func(ctx *fasthttp.RequestCtx) {
		if !bytes.HasPrefix(ctx.Request.URI().PathOriginal(), apiPrefix) {
			next(ctx)
			return
		}
		header := &ctx.Response.Header
		if o.vary != nil {
			header.SetCanonical(headerVary, o.vary)
		}
		origin := ctx.Request.Header.Peek(fasthttp.HeaderOrigin)
		named := len(origin) > 0 && o.names(unsafeString(origin))
		switch {
		case named:
			header.SetCanonical(headerAllowOrigin, origin)
			header.SetCanonical(headerAllowCreds, valueTrue)
		case o.all && len(origin) > 0:
			header.SetCanonical(headerAllowOrigin, []byte("*"))
		default:
			next(ctx)
			return
		}
		header.SetCanonical(headerExpose, []byte(corsExposed))
		if ctx.IsOptions() && len(ctx.Request.Header.Peek(fasthttp.HeaderAccessControlRequestMethod)) > 0 {
			header.Set(fasthttp.HeaderAccessControlAllowMethods, corsMethods)
			header.Set(fasthttp.HeaderAccessControlAllowHeaders, corsHeaders)
			header.Set(fasthttp.HeaderAccessControlMaxAge, corsMaxAge)
		}
		next(ctx)
	}
}

// valid reports the first text of a list that is no origin.
func (o *origins) valid() (odd string, ok bool) {
	for _, origin := range o.listed {
		scheme, rest, found := strings.Cut(origin, "://")
		if origin != "*" && (!found || scheme != "http" && scheme != "https" || rest == "" || strings.ContainsAny(rest, "/?#@ ")) {
			return origin, false
		}
	}
	return "", true
}
