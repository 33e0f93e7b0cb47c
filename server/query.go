package server

import (
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// anyQuery stands for a route whose query is somebody else's to judge.
const anyQuery = "*"

// queryArgs reports whether the query holds nothing but the given parameters, each at most once,
// and answers if it does not. A parameter that is misspelt, or said twice, would otherwise be a
// request for something else than its author meant. Routes state their parameters when they are
// registered; no handler needs to call this.
func queryArgs(ctx *fasthttp.RequestCtx, names ...string) bool {
	if len(ctx.URI().QueryString()) == 0 || slices.Contains(names, anyQuery) {
		return true
	}
	seen := make([]string, 0, 4)
	for key := range ctx.QueryArgs().All() {
		name := string(key)
		switch {
		case !slices.Contains(names, name):
			refuse(ctx, problemParameter.with("parameter", shorten(name)))
			return false
		case slices.Contains(seen, name):
			refuse(ctx, problemParameterTwice.with("parameter", name))
			return false
		}
		seen = append(seen, name)
	}
	return true
}

// queried lets requests through whose query holds nothing but the given parameters.
func queried(next fasthttp.RequestHandler, names ...string) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if queryArgs(ctx, names...) {
			next(ctx)
		}
	}
}

// queryText returns a parameter, and whether it was given: an empty one is given.
func queryText(ctx *fasthttp.RequestCtx, name string) (string, bool) {
	args := ctx.QueryArgs()
	return string(args.Peek(name)), args.Has(name)
}

// queryWait returns how long the caller is ready to wait. It answers if that is no duration.
func queryWait(ctx *fasthttp.RequestCtx, otherwise time.Duration) (wait time.Duration, ok bool) {
	text, given := queryText(ctx, "wait")
	if !given {
		return otherwise, true
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 || wait > WaitMax {
		refuse(ctx, problemWait)
		return 0, false
	}
	return wait, true
}

// queryPage reads the parameters of a page: how much it holds, and what it starts below (0: from
// the newest). It answers if they are none.
func queryPage[ID ~int64](ctx *fasthttp.RequestCtx) (before ID, limit int, ok bool) {
	limit = pageDefault
	if text, given := queryText(ctx, "limit"); given {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > pageMax {
			refuse(ctx, problemLimit)
			return 0, 0, false
		}
	}
	if text, given := queryText(ctx, "before"); given {
		var err error
		if before, err = flashsale.ParseID[ID](text); err != nil {
			refuse(ctx, problemCursor)
			return 0, 0, false
		}
	}
	return before, limit, true
}
