package server

import (
	"context"

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
		refuse(ctx, problemInvalidField.with("field", "user"))
		return
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	token, err := s.config.Sessions.CreateSession(call, flashsale.User{ID: request.User}, s.config.SessionTTL)
	if err != nil {
		s.fault(ctx, "create session", err)
		return
	}
	body := appendString([]byte(`{"token":`), token)
	body = appendString(append(body, `,"user":`...), request.User)
	answer(ctx, fasthttp.StatusCreated, append(body, '}'))
}

func (s *Server) getMe(ctx *fasthttp.RequestCtx, user flashsale.User) {
	answer(ctx, fasthttp.StatusOK, appendUser(make([]byte, 0, 128), user))
}
