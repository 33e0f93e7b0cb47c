package wrk_test

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale/bench/target"
	"flashsale/bench/wrk"
)

// Ratios stand on these counts: every user is sent once before any is sent again, with the
// token that the session was written for, and refusals are told from acceptances.
func TestRun_EachUserOnce(t *testing.T) {
	t.Parallel()
	runner, err := wrk.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const first, users = 500, 2000
	var mu sync.Mutex
	seen := make(map[string]int64)
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		token := strings.TrimPrefix(string(ctx.Request.Header.Peek("Authorization")), "Bearer ")
		mu.Lock()
		defer mu.Unlock()
		seen[token]++
		ctx.SetStatusCode(fasthttp.StatusAccepted)
		if seen[token] > 1 || string(ctx.Path()) != "/v1/items/7/orders" || !ctx.IsPost() {
			ctx.SetStatusCode(fasthttp.StatusConflict)
		}
	}}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = listener.Close() })

	result, err := runner.Run(t.Context(), wrk.Load{
		URL: "http://" + listener.Addr().String(), Path: "/v1/items/7/orders", FirstUser: first, Users: users,
		Connections: 16, Threads: 2, Length: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for n := range users {
		if seen[target.Token(first+n)] == 0 {
			t.Fatalf("user %d was not sent, of %d tokens", first+n, len(seen))
		}
	}
	if len(seen) != users || result.Accepted() > users || result.Accepted() < users-16 {
		t.Errorf("%d tokens were seen and %d accepted, want %d", len(seen), result.Accepted(), users)
	}
	if result.Refused > result.Wrapped || result.Wrapped < result.Requests-users || result.SocketErrors != 0 {
		t.Errorf("counted wrong: %+v", result)
	}
}
