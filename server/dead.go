package server

import (
	"context"
	"errors"

	"github.com/valyala/fasthttp"

	"flashsale"
)

const (
	// deadPageMax bounds one answer: whoever has seen to some of them asks again.
	deadPageMax = 500
	deadIDsMax  = 500
)

// DeadLetters are the orders that can never be persisted.
type DeadLetters interface {
	// List returns those that a filter takes, the oldest first, and whether there are more.
	List(ctx context.Context, filter flashsale.DeadFilter, limit int) (letters any, more bool, err error)
	// Retry puts them back into the stream; left are those that hold no order.
	Retry(ctx context.Context, filter flashsale.DeadFilter) (retried, left int, err error)
	// Drop discards them and gives their units back.
	Drop(ctx context.Context, filter flashsale.DeadFilter) (dropped, units int, err error)
}

func (s *Server) listDead(ctx *fasthttp.RequestCtx) {
	var filter flashsale.DeadFilter
	filter.Reason, _ = queryText(ctx, "reason")
	if text, given := queryText(ctx, "item"); given {
		var err error
		if filter.Item, err = flashsale.ParseID[flashsale.ItemID](text); err != nil {
			refuse(ctx, problemItemID)
			return
		}
	}
	if s.config.DeadLetters == nil {
		refuse(ctx, problemNotFound)
		return
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	letters, more, err := s.config.DeadLetters.List(call, filter, deadPageMax)
	if err != nil {
		s.fault(ctx, "list dead letters", err)
		return
	}
	s.answerValue(ctx, fasthttp.StatusOK, map[string]any{"dead_letters": letters, "more": more})
}

func (s *Server) retryDead(ctx *fasthttp.RequestCtx) {
	s.treatDead(ctx, "retry dead letters", func(call context.Context, filter flashsale.DeadFilter) (any, error) {
		retried, left, err := s.config.DeadLetters.Retry(call, filter)
		return map[string]int{"retried": retried, "left": left}, err
	})
}

func (s *Server) dropDead(ctx *fasthttp.RequestCtx) {
	s.treatDead(ctx, "drop dead letters", func(call context.Context, filter flashsale.DeadFilter) (any, error) {
		dropped, units, err := s.config.DeadLetters.Drop(call, filter)
		return map[string]int{"dropped": dropped, "units": units}, err
	})
}

// treatDead does something with the dead letters that the body names, or with all that it chooses.
func (s *Server) treatDead(ctx *fasthttp.RequestCtx, operation string,
	treat func(context.Context, flashsale.DeadFilter) (any, error),
) {
	var request struct {
		IDs    []string         `json:"ids"`
		All    bool             `json:"all"`
		Item   flashsale.ItemID `json:"item"`
		Reason string           `json:"reason"`
	}
	if p := decodeStrict(ctx, &request); p != nil {
		refuse(ctx, p)
		return
	}
	switch {
	case s.config.DeadLetters == nil:
		refuse(ctx, problemNotFound)
		return
	case request.All == (len(request.IDs) > 0):
		refuse(ctx, problemInvalidField.at("ids", []string{"ids"}, "name dead letters by ids, or say all"))
		return
	case len(request.IDs) > deadIDsMax:
		refuse(ctx, problemInvalidField.at("ids", []string{"ids"}, "at most 500 at once"))
		return
	}
	call, cancel := s.changing(ctx, changeTimeout)
	defer cancel()
	done, err := treat(call, flashsale.DeadFilter{IDs: request.IDs, Item: request.Item, Reason: request.Reason})
	switch {
	case err == nil:
		s.answerValue(ctx, fasthttp.StatusOK, done)
	case errors.Is(err, flashsale.ErrNotFound):
		refuse(ctx, problemNotFound)
	default:
		s.changeFault(ctx, operation, err)
	}
}
