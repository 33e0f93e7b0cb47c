package target

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// warmers is how many requests are on their way at once: on few connections, pipelined.
const warmers = 256

// Warm makes the server know the sessions of users: see [Warm].
func (s *Server) Warm(ctx context.Context, first, count int) error {
	return Warm(ctx, s.URL, first, count)
}

// Warm makes whatever serves at a URL know the sessions of users, as a server does of shoppers
// who have looked at the sale before it opens: one GET /v1/me each.
func Warm(ctx context.Context, url string, first, count int) error {
	client := &fasthttp.PipelineClient{
		Addr: strings.TrimPrefix(url, "http://"), MaxConns: 8, MaxPendingRequests: warmers,
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		Logger: silence{},
	}
	var next, failed atomic.Int64
	var once sync.Once
	var fault error
	var running sync.WaitGroup
	for range warmers {
		running.Go(func() {
			request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(request)
			defer fasthttp.ReleaseResponse(response)
			request.SetRequestURI(url + "/v1/me")
			for failed.Load() == 0 && ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= count {
					return
				}
				request.Header.Set("Authorization", "Bearer "+Token(first+n))
				err := client.Do(request, response)
				if err == nil && response.StatusCode() != fasthttp.StatusOK {
					err = fmt.Errorf("status %d: %s", response.StatusCode(), response.Body())
				}
				if err != nil {
					failed.Add(1)
					once.Do(func() { fault = fmt.Errorf("GET /v1/me as %s: %w", User(first+n), err) })
				}
			}
		})
	}
	running.Wait()
	if fault == nil {
		fault = ctx.Err()
	}
	return fault
}

// silence keeps the client from reporting the connections that it closes when it is idle.
type silence struct{}

func (silence) Printf(string, ...any) {}
