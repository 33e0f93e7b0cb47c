package server

import (
	"context"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
	"flashsale/engine"
)

// constantEngine answers at once, so that what is measured is the server.
type constantEngine struct {
	fakeRedis
	reply engine.Reply
}

func (c *constantEngine) Reserve(context.Context, engine.Request) (engine.Reply, error) {
	return c.reply, nil
}

func (c *constantEngine) Session(context.Context, string) (flashsale.User, error) {
	return flashsale.User{ID: "ann"}, nil
}

// hotRequest is what a shopper's client sends.
func hotRequest(body string, headers ...string) *fasthttp.RequestCtx {
	var request fasthttp.Request
	request.Header.SetMethod("POST")
	request.SetRequestURI("/v1/items/7/orders")
	request.Header.SetHost("shop.example")
	request.Header.Set("Authorization", "Bearer 0123456789abcdef0123456789abcdef")
	if body != "" {
		request.Header.SetContentType(typeJSON)
		request.SetBodyString(body)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	ctx := &fasthttp.RequestCtx{}
	ctx.Init(&request, nil, nil)
	ctx.Request.URI().Path() // parsed before the handler runs
	return ctx
}

func hotHandler(t testing.TB, reply engine.Reply) fasthttp.RequestHandler {
	t.Helper()
	b := setup(t, func(c *Config) {
		e := &constantEngine{reply: reply}
		c.Reserver, c.Sessions = e, e
		c.Rates.UserOrders, c.Rates.AddrOrders = 1e9, 1e9 // counted, and never met
	})
	return b.public.Handler
}

var (
	accepted  = engine.Reply{Outcome: flashsale.Accepted, OrderNo: 1234567890123456789}
	soldOut   = engine.Reply{Outcome: flashsale.SoldOut}
	duplicate = engine.Reply{Outcome: flashsale.DuplicateOrder, OrderNo: 1234567890123456789}
	notOpen   = engine.Reply{Outcome: flashsale.NotStarted, OpensAt: time.UnixMilli(1_800_000_000_000)}
)

// Protects the hot path: it allocates nothing, but for the copy of an idempotency key, which
// outlives the request.
func TestCreateOrder_Allocations(t *testing.T) {
	cases := []struct {
		name    string
		reply   engine.Reply
		body    string
		headers []string
		status  int
		want    float64
	}{
		{name: "accepted", reply: accepted, status: 202},
		{name: "accepted with body", reply: accepted, body: `{"quantity":1}`, status: 202},
		{name: "accepted with key", reply: accepted, headers: []string{"Idempotency-Key", `"8e03978e-40d5-43dd-bc93-6894a57f9324"`}, status: 202, want: 1},
		{name: "sold out", reply: soldOut, status: 409},
		{name: "duplicate", reply: duplicate, status: 409},
		{name: "not started", reply: notOpen, status: 409},
	}
	for _, c := range cases {
		handler := hotHandler(t, c.reply)
		ctx := hotRequest(c.body, c.headers...)
		got := testing.AllocsPerRun(1000, func() {
			ctx.Response.Reset()
			handler(ctx)
		})
		if ctx.Response.StatusCode() != c.status {
			t.Fatalf("%s: %s", c.name, ctx.Response.Body())
		}
		if got > c.want && !raceEnabled {
			t.Errorf("%s: %v allocations, want at most %v", c.name, got, c.want)
		}
	}
}

func BenchmarkOrder_Accepted(b *testing.B)  { benchmarkHandler(b, hotHandler(b, accepted)) }
func BenchmarkOrder_SoldOut(b *testing.B)   { benchmarkHandler(b, hotHandler(b, soldOut)) }
func BenchmarkOrder_Duplicate(b *testing.B) { benchmarkHandler(b, hotHandler(b, duplicate)) }

// BenchmarkBareHandler is what the others are compared with: a handler that answers a constant.
func BenchmarkBareHandler(b *testing.B) {
	body := []byte(`{"order_no":"1234567890123456789","status":"pending"}`)
	benchmarkHandler(b, func(ctx *fasthttp.RequestCtx) {
		ctx.SetContentType(typeJSON)
		ctx.SetBody(body)
	})
}

func benchmarkHandler(b *testing.B, handler fasthttp.RequestHandler) {
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ctx := hotRequest("")
		for pb.Next() {
			ctx.Response.Reset()
			handler(ctx)
		}
	})
}
