package baseline

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// handler speaks the engine's HTTP for one item. It is the same for all strategies.
type handler struct {
	ctx      context.Context // of every decision; ends with none of them
	strategy Strategy
	sessions *sessions
	path     []byte // of the call that buys
	numbers  numbers
	errs     io.Writer
	once     sync.Once // the first fault is told, the others are counted by who asks
}

// numbers are those of a node's orders: unique among all nodes and their restarts, as long as a
// node sells less than an order a microsecond. The low bits are the node's, the others ascend.
type numbers struct{ last atomic.Int64 }

const nodeBits = 10

func (n *numbers) start(node int64) { n.last.Store(time.Now().UnixMicro()<<nodeBits | node) }
func (n *numbers) next() int64      { return n.last.Add(1 << nodeBits) }

var bearer = []byte("Bearer ")

func (h *handler) serve(ctx *fasthttp.RequestCtx) {
	user, err := h.sessions.user(h.ctx, bytes.TrimPrefix(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization), bearer))
	path := ctx.Request.URI().PathOriginal()
	switch {
	case err != nil:
		h.fault(ctx, err)
	case user == "":
		refuse(ctx, fasthttp.StatusUnauthorized, "invalid_token")
	case ctx.IsPost() && bytes.Equal(path, h.path):
		h.buy(ctx, user)
	case ctx.IsGet() && string(path) == "/v1/me":
		body := strconv.AppendQuote([]byte(`{"user":`), user)
		answer(ctx, fasthttp.StatusOK, "application/json", append(body, '}'))
	default:
		refuse(ctx, fasthttp.StatusNotFound, "not_found")
	}
}

func (h *handler) buy(ctx *fasthttp.RequestCtx, user string) {
	number := h.numbers.next()
	switch outcome, err := h.strategy.Buy(h.ctx, user, number); {
	case err != nil:
		h.fault(ctx, err)
	case outcome == Accepted:
		body := strconv.AppendInt([]byte(`{"order_no":"`), number, 10)
		answer(ctx, fasthttp.StatusAccepted, "application/json", append(body, `","status":"pending"}`...))
	case outcome == SoldOut:
		refuse(ctx, fasthttp.StatusConflict, "sold_out")
	case outcome == Duplicate:
		refuse(ctx, fasthttp.StatusConflict, "duplicate_order")
	case outcome == Overloaded:
		refuse(ctx, fasthttp.StatusServiceUnavailable, "overloaded")
	default:
		h.fault(ctx, fmt.Errorf("unexpected outcome %d", outcome))
	}
}

// fault answers a request of which nobody knows how it was decided.
func (h *handler) fault(ctx *fasthttp.RequestCtx, err error) {
	h.once.Do(func() { fmt.Fprintln(h.errs, "baseline:", err) })
	refuse(ctx, fasthttp.StatusInternalServerError, "internal")
}

func refuse(ctx *fasthttp.RequestCtx, status int, code string) {
	body := append(strconv.AppendInt([]byte(`{"status":`), int64(status), 10), `,"code":"`...)
	body = append(append(body, code...), `"}`...)
	answer(ctx, status, "application/problem+json", body)
}

func answer(ctx *fasthttp.RequestCtx, status int, kind string, body []byte) {
	ctx.Response.Header.SetStatusCode(status)
	ctx.Response.Header.SetContentType(kind)
	ctx.Response.SetBodyRaw(body)
}
