package server

import (
	"bytes"
	"errors"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"

	"flashsale"
)

const (
	// tokenLenMax bounds what is looked up as a token.
	tokenLenMax = 256
	// sessionCookie holds the token of a browser.
	sessionCookie = "flashsale_session"
	// Subprotocols of a websocket: ours, and, as a browser's script can set no header on a socket,
	// one that carries the token and is never answered.
	socketProtocol = "flashsale"
	socketToken    = "token."
)

// userHandler is a handler behind a login.
type userHandler func(ctx *fasthttp.RequestCtx, user flashsale.User)

// login is what a request says about who sends it.
type login struct {
	token  []byte // of the request's memory; none: nothing is said
	cookie bool   // a browser sent it by itself, whoever's page asked it to
}

// requestLogin reads Authorization: Bearer <token>, or else token: <token>, the subprotocols of a
// websocket, the session cookie.
func requestLogin(header *fasthttp.RequestHeader) login {
	if token := headerToken(header); len(token) > 0 {
		return login{token: token}
	}
	if token := protocolToken(header); len(token) > 0 {
		return login{token: token}
	}
	return login{token: header.Cookie(sessionCookie), cookie: true}
}

func headerToken(header *fasthttp.RequestHeader) []byte {
	value := header.Peek(fasthttp.HeaderAuthorization)
	if n := len(schemeBearer); len(value) > n && value[n] == ' ' && bytes.EqualFold(value[:n], schemeBearer) {
		return bytes.TrimSpace(value[n:])
	}
	return header.Peek("Token")
}

func protocolToken(header *fasthttp.RequestHeader) []byte {
	for protocol := range bytes.SplitSeq(header.Peek(fasthttp.HeaderSecWebSocketProtocol), []byte{','}) {
		if token, ok := bytes.CutPrefix(bytes.TrimSpace(protocol), []byte(socketToken)); ok {
			return token
		}
	}
	return nil
}

// requireUser is the one place that requires a login. It hands the user to the handler.
func (s *Server) requireUser(next userHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		ctx.Response.Header.SetCanonical(headerVary, s.origins.varyByLogin)
		login := requestLogin(&ctx.Request.Header)
		if len(login.token) == 0 {
			refuse(ctx, s.missingToken)
			return
		}
		if login.cookie && !meant(ctx) {
			refuse(ctx, problemOrigin)
			return
		}
		if len(login.token) > tokenLenMax {
			refuse(ctx, s.invalidToken)
			return
		}
		user, err := s.config.Sessions.Session(s.base, unsafeString(login.token))
		if errors.Is(err, flashsale.ErrNotFound) {
			refuse(ctx, s.invalidToken)
			return
		}
		if err != nil {
			s.fault(ctx, "look up session", err)
			return
		}
		next(ctx, user)
	}
}

// meant reports whether a request that a browser has logged in by itself was meant by its user:
// it reads only, or a page of this very origin sends it. Browsers say where a page is from in
// Sec-Fetch-Site; old ones in Origin.
func meant(ctx *fasthttp.RequestCtx) bool {
	header := &ctx.Request.Header
	if header.IsGet() || header.IsHead() {
		return true
	}
	if site := header.Peek("Sec-Fetch-Site"); len(site) > 0 {
		return string(site) == "same-origin"
	}
	return sameOrigin(string(header.Peek(fasthttp.HeaderOrigin)), string(ctx.Host()))
}

func sameOrigin(origin, host string) bool {
	parsed, err := url.Parse(origin)
	return err == nil && parsed.Host != "" && strings.EqualFold(parsed.Host, host)
}

// setSessionCookie hands a browser its token for some seconds, or takes it away (0). Scripts cannot
// read it, other sites' forms do not send it, and where the browser speaks TLS nothing else carries
// it.
func setSessionCookie(ctx *fasthttp.RequestCtx, token string, seconds int) {
	setCookie(ctx, sessionCookie, token, fasthttp.CookieSameSiteLaxMode, seconds)
}

func setCookie(ctx *fasthttp.RequestCtx, name, value string, site fasthttp.CookieSameSite, seconds int) {
	cookie := fasthttp.AcquireCookie()
	defer fasthttp.ReleaseCookie(cookie)
	cookie.SetKey(name)
	cookie.SetValue(value)
	cookie.SetPath("/")
	cookie.SetHTTPOnly(true)
	cookie.SetSameSite(site)
	cookie.SetSecure(ctx.IsTLS() || strings.EqualFold(string(ctx.Request.Header.Peek(fasthttp.HeaderXForwardedProto)), "https"))
	if seconds > 0 {
		cookie.SetMaxAge(seconds)
	} else {
		cookie.SetExpire(fasthttp.CookieExpireDelete)
	}
	ctx.Response.Header.SetCookie(cookie)
}
