package server

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// createSession lets anybody in as anybody. It is routed only with Config.DevLogin.
func (s *Server) createSession(ctx *fasthttp.RequestCtx) {
	var request struct {
		User string `json:"user"`
	}
	if p := decodeStrict(ctx, &request); p != nil {
		refuse(ctx, p)
		return
	}
	if !flashsale.ValidUser(request.User) {
		refuse(ctx, problemInvalidField.at("user", []string{"user"}, ""))
		return
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	token, err := s.config.Sessions.CreateSession(call, flashsale.User{ID: request.User}, s.config.SessionTTL)
	if err != nil {
		s.fault(ctx, "create session", err)
		return
	}
	setSessionCookie(ctx, token, int(s.config.SessionTTL/time.Second))
	body := appendString([]byte(`{"token":`), token)
	body = appendString(append(body, `,"user":`...), request.User)
	answer(ctx, fasthttp.StatusCreated, append(body, '}'))
}

// deleteSession logs the request's token out, for good and everywhere: its sockets are closed here
// at once, and on other nodes when they look. A token that stands for nobody is out already.
func (s *Server) deleteSession(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.SetCanonical(headerVary, s.origins.varyByLogin)
	login := requestLogin(&ctx.Request.Header)
	switch {
	case len(login.token) == 0:
		refuse(ctx, s.missingToken)
		return
	case login.cookie && !meant(ctx):
		refuse(ctx, problemOrigin)
		return
	}
	if token := string(login.token); len(token) <= tokenLenMax {
		call, cancel := context.WithTimeout(s.base, callTimeout)
		defer cancel()
		if err := s.config.Sessions.DeleteSession(call, token); err != nil {
			s.fault(ctx, "delete session", err)
			return
		}
		s.sockets.endSession(token)
	}
	setSessionCookie(ctx, "", 0)
	ctx.Response.Header.SetStatusCode(fasthttp.StatusNoContent)
}

func (s *Server) getMe(ctx *fasthttp.RequestCtx, user flashsale.User) {
	answer(ctx, fasthttp.StatusOK, appendUser(make([]byte, 0, 128), user))
}
