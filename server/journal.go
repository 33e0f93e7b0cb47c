package server

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// Journal keeps what was asked for under idempotency keys, and what operators did.
type Journal interface {
	// Claim gives an attempt its key and returns the answer that it has got before, if any;
	// [flashsale.ErrConflict] when the key is another request's.
	Claim(ctx context.Context, a *flashsale.Attempt) (flashsale.Reply, error)
	// Answered keeps the answer to an attempt.
	Answered(ctx context.Context, a *flashsale.Attempt, reply flashsale.Reply) error
	// Begin writes an action into the log before it is done.
	Begin(ctx context.Context, a flashsale.Action) (id int64, err error)
	// End says what became of it.
	End(ctx context.Context, id int64, outcome string) error
	// Actions returns a page of the log below an id (0: from the newest), newest first.
	Actions(ctx context.Context, before int64, limit int) ([]flashsale.Action, error)
}

// attemptKey is under which a request keeps its attempt.
type attemptKey struct{}

// changing is the context in which a request changes something: for its attempt, if it has an
// idempotency key.
func (s *Server) changing(ctx *fasthttp.RequestCtx, timeout time.Duration) (context.Context, context.CancelFunc) {
	base := s.base
	if attempt, ok := ctx.UserValue(attemptKey{}).(*flashsale.Attempt); ok {
		base = flashsale.WithAttempt(base, attempt)
	}
	return context.WithTimeout(base, timeout)
}

// once lets a request with an idempotency key happen once: whoever sends it again gets the answer
// that it got, as long as that said that something was done. The keys of operators are shared, so
// that one may ask again what another has asked.
func (s *Server) once(scope string, next func(*fasthttp.RequestCtx), ctx *fasthttp.RequestCtx) {
	key, p := idempotencyKey(&ctx.Request.Header)
	if p != nil {
		refuse(ctx, p)
		return
	}
	if key == "" || s.config.Journal == nil {
		next(ctx)
		return
	}
	hash := sha256.New()
	_, _ = hash.Write(append(append(ctx.Request.Header.Method(), ' '), ctx.Path()...))
	_, _ = hash.Write(append([]byte{'\n'}, ctx.Request.Body()...))
	attempt := &flashsale.Attempt{Scope: scope, Key: key, Fingerprint: hash.Sum(nil)}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	reply, err := s.config.Journal.Claim(call, attempt)
	switch {
	case errors.Is(err, flashsale.ErrConflict):
		refuse(ctx, problemRequestKeyReused)
		return
	case err != nil:
		s.fault(ctx, "claim idempotency key", err)
		return
	case reply.Status != 0:
		ctx.Response.Header.SetCanonical(headerReplayed, valueTrue)
		answer(ctx, reply.Status, reply.Body)
		return
	}
	ctx.SetUserValue(attemptKey{}, attempt)
	next(ctx)
	if attempt.Replayed {
		ctx.Response.Header.SetCanonical(headerReplayed, valueTrue)
	}
	status := ctx.Response.StatusCode()
	if status >= fasthttp.StatusMultipleChoices || ctx.Response.IsBodyStream() {
		return // nothing was done, or nobody knows: it may be tried again
	}
	keep, done := context.WithTimeout(s.base, callTimeout)
	defer done()
	reply = flashsale.Reply{Status: status, Body: append([]byte(nil), ctx.Response.Body()...)}
	if err := s.config.Journal.Answered(keep, attempt, reply); err != nil {
		s.faults.of(ctx, "keep the answer to an idempotency key", "error", err)
	}
}

// repeatable is once for a shopper's call.
func (s *Server) repeatable(next userHandler) userHandler {
	return func(ctx *fasthttp.RequestCtx, user flashsale.User) {
		s.once("user:"+user.ID, func(ctx *fasthttp.RequestCtx) { next(ctx, user) }, ctx)
	}
}

// logged writes an operator's change into the log of actions, before it is made and after, and lets
// it happen once for its idempotency key. What cannot be logged is not done.
func (s *Server) logged(action string, next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if s.config.Journal == nil {
			next(ctx)
			return
		}
		call, cancel := context.WithTimeout(s.base, callTimeout)
		defer cancel()
		id, err := s.config.Journal.Begin(call, flashsale.Action{
			Who: operatorOf(ctx).name, Action: action, Target: readable(ctx.Path()),
			Detail: readable(ctx.Request.Body()), RequestID: string(requestID(ctx)),
		})
		if err != nil {
			s.fault(ctx, "log an action", err)
			return
		}
		s.once("admin", next, ctx)
		end, ended := context.WithTimeout(s.base, callTimeout)
		defer ended()
		if err := s.config.Journal.End(end, id, outcomeOf(ctx)); err != nil {
			s.faults.of(ctx, "log the outcome of an action", "error", err)
		}
	}
}

// readable is a text of a client's as a log may hold it.
func readable(text []byte) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), "\uFFFD"))
}

// outcomeOf is an answer in a word or two.
func outcomeOf(ctx *fasthttp.RequestCtx) string {
	outcome := strconv.Itoa(ctx.Response.StatusCode())
	if ctx.Response.StatusCode() >= fasthttp.StatusBadRequest {
		var p struct {
			Code string `json:"code"`
		}
		_ = json.Unmarshal(ctx.Response.Body(), &p) // a problem always can be
		return outcome + " " + p.Code
	}
	if len(ctx.Response.Header.PeekBytes(headerReplayed)) > 0 {
		outcome += " replayed"
	}
	return outcome
}

type actionJSON struct {
	ID        int64  `json:"id,string"`
	AtMS      int64  `json:"at_ms"`
	Who       string `json:"who"`
	Action    string `json:"action"`
	Target    string `json:"target"`
	Detail    string `json:"detail,omitempty"`
	Outcome   string `json:"outcome,omitempty"` // missing: nobody knows
	RequestID string `json:"request_id,omitempty"`
}

// getActions answers what operators did, newest first.
func (s *Server) getActions(ctx *fasthttp.RequestCtx) {
	before, limit, ok := queryPage[int64](ctx)
	if !ok {
		return
	}
	if s.config.Journal == nil {
		refuse(ctx, problemNotFound)
		return
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	actions, err := s.config.Journal.Actions(call, before, limit+1)
	if err != nil {
		s.fault(ctx, "list actions", err)
		return
	}
	var page struct {
		Actions    []actionJSON `json:"actions"`
		NextCursor string       `json:"next_cursor,omitempty"`
	}
	page.Actions = make([]actionJSON, 0, len(actions))
	for _, a := range actions[:min(limit, len(actions))] {
		page.Actions = append(page.Actions, actionJSON{
			a.ID, a.At.UnixMilli(), a.Who, a.Action, a.Target, a.Detail, a.Outcome, a.RequestID,
		})
	}
	if len(actions) > limit {
		page.NextCursor = strconv.FormatInt(actions[limit-1].ID, 10)
	}
	s.answerValue(ctx, fasthttp.StatusOK, page)
}
