package peak_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale/bench/peak"
	"flashsale/bench/target"
)

// Proofs compare these counts with the engine's, so each request must be in one class, once, of
// the user whose turn it is, on all servers; and the timeline must add up to the same.
func TestRun_Counts(t *testing.T) {
	t.Parallel()
	const first, users, total = 500, 900, 1000
	var mu sync.Mutex
	seen := make(map[string]int)
	servers := make(map[string]int)
	handle := func(ctx *fasthttp.RequestCtx) {
		token := strings.TrimPrefix(string(ctx.Request.Header.Peek("Authorization")), "Bearer ")
		user, _ := strconv.Atoi(strings.TrimLeft(strings.TrimPrefix(token, "bench-"), "0"))
		mu.Lock()
		seen[token]++
		again := seen[token] > 1
		servers[string(ctx.Host())]++
		mu.Unlock()
		switch {
		case !ctx.IsPost() || string(ctx.Path()) != "/v1/items/7/orders":
			ctx.SetStatusCode(fasthttp.StatusNotFound)
		case again:
			ctx.SetStatusCode(fasthttp.StatusConflict)
			ctx.SetBodyString(`{"status":409,"code":"duplicate_order"}`)
		case user%10 == 0:
			ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
		case user%2 == 0:
			ctx.SetStatusCode(fasthttp.StatusConflict)
			ctx.SetBodyString(`{"status":409,"code":"sold_out"}`)
		default:
			ctx.SetStatusCode(fasthttp.StatusAccepted)
		}
	}
	result := run(t, peak.Config{
		URLs: []string{serve(t, handle), serve(t, handle)}, Item: "7", FirstUser: first, Users: users,
		Connections: 8, Phases: []peak.Phase{{Rate: 500, Duration: time.Second}, {Rate: 1000, Duration: 500 * time.Millisecond}},
	})
	want := map[string]int64{"accepted": 450, "sold_out": 360, "503": 90, "duplicate_order": 100}
	line := make(map[string]int64)
	for _, moment := range result.Timeline {
		for name, count := range moment.Counts {
			line[name] += count
		}
	}
	for name, count := range want {
		if result.Counts[name] != count || line[name] != count {
			t.Errorf("%s: got %d, on the timeline %d, want %d", name, result.Counts[name], line[name], count)
		}
	}
	if len(result.Counts) != len(want) || result.Sent != total || result.Wrapped != total-users || result.Unsent != 0 {
		t.Errorf("got %+v", result)
	}
	for n := range users {
		if seen[target.Token(first+n)] == 0 {
			t.Fatalf("user %d was not sent", first+n)
		}
	}
	if len(seen) != users || len(servers) != 2 {
		t.Errorf("%d users were seen, on %v", len(seen), servers)
	}
}

// A server that stalls makes everybody wait who comes meanwhile, not only the one whom it
// answers late. That is what the latency from the due time must show, and what the time from
// sending hides.
func TestRun_NoCoordinatedOmission(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	var stalled sync.Once
	url := serve(t, func(*fasthttp.RequestCtx) {
		stalled.Do(func() { <-time.After(stall) })
	})
	result := run(t, peak.Config{
		URLs: []string{url}, Path: "/", Connections: 1,
		Phases: []peak.Phase{{Rate: 1000, Duration: 500 * time.Millisecond}},
	})
	// Of 500 requests 299 became due during the stall; those due in its first 200 ms, 200 of
	// them, waited for 100 ms at least.
	if result.Sent != 500 || result.Queued < 290 {
		t.Errorf("%d were sent, %d of them after a wait for the connection", result.Sent, result.Queued)
	}
	if result.Latency.P90 < 100*time.Millisecond || result.Latency.Max < stall {
		t.Errorf("the latency hides the stall: %+v", result.Latency)
	}
	// One after the other on one connection: a tenth of them above 100 ms would take 5 s.
	if result.Service.P90 > 100*time.Millisecond || result.Service.Max < stall {
		t.Errorf("the service time shows it for too many, or for none: %+v", result.Service)
	}
}

// A closed loop asks as long as it should, as fast as it is answered, and no faster.
func TestRun_ClosedLoop(t *testing.T) {
	t.Parallel()
	const connections = 4
	var served, at, most atomic.Int64
	url := serve(t, func(ctx *fasthttp.RequestCtx) {
		most.Store(max(most.Load(), at.Add(1)))
		served.Add(1)
		ctx.SetStatusCode(fasthttp.StatusAccepted)
		at.Add(-1)
	})
	var out strings.Builder
	result := run(t, peak.Config{
		URLs: []string{url}, Path: "/", Connections: connections,
		Phases: []peak.Phase{{Rate: 0, Duration: 200 * time.Millisecond}},
	})
	if !result.Closed || result.Sent == 0 || result.Sent != served.Load() || result.Counts[peak.Accepted] != result.Sent {
		t.Errorf("%d served, got %+v", served.Load(), result)
	}
	if most.Load() > connections {
		t.Errorf("%d at once on %d connections", most.Load(), connections)
	}
	if err := result.WriteText(&out); err != nil || strings.Contains(out.String(), "due time") {
		t.Errorf("a closed loop has no due time (%v):\n%s", err, out.String())
	}
}

// Whether a request that was not answered was carried out nobody knows: such requests must
// stand apart, or the proof of the counts would accuse the engine or excuse it.
func TestRun_NoAnswer(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	url := serve(t, func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(fasthttp.StatusAccepted)
		switch served.Add(1) {
		case 10, 20, 30:
			<-time.After(3 * time.Second)
		case 40, 50:
			ctx.HijackSetNoResponse(true)
			ctx.Hijack(func(net.Conn) {}) // closes it
		case 60:
			ctx.SetBodyStreamWriter(func(*bufio.Writer) {}) // in chunks
		case 70:
			ctx.SetConnectionClose()
		}
	})
	result := run(t, peak.Config{
		URLs: []string{url}, Path: "/", Connections: 4, Timeout: 2 * time.Second,
		Phases: []peak.Phase{{Rate: 400, Duration: 500 * time.Millisecond}},
	})
	if result.Counts[peak.Unknown] != 3 || result.Counts[peak.Broken] != 3 || result.Counts[peak.Accepted] != 194 {
		t.Errorf("got %v (%s)", result.Counts, result.Fault)
	}
	if result.Doubtful() != 6 || result.Unanswered() != 6 || result.Fault == "" {
		t.Errorf("%d doubtful, %d unanswered, fault %q", result.Doubtful(), result.Unanswered(), result.Fault)
	}
}

// A target that dies in the middle must leave a result in which nobody is missing.
func TestRun_TargetDies(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served atomic.Int64
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		if served.Add(1) == 50 {
			_ = listener.Close()
		}
		if served.Load() >= 50 {
			ctx.SetConnectionClose()
		}
	}}
	go func() { _ = server.Serve(listener) }()
	result := run(t, peak.Config{
		URLs: []string{"http://" + listener.Addr().String()}, Path: "/", Connections: 4,
		Phases: []peak.Phase{{Rate: 400, Duration: 500 * time.Millisecond}},
	})
	var ended int64
	for _, count := range result.Counts {
		ended += count
	}
	if ended+result.Unsent != 200 || result.Counts[peak.Unconnected] == 0 || result.Counts["200"] < 50 {
		t.Errorf("got %v, %d unsent (%s)", result.Counts, result.Unsent, result.Fault)
	}
}

// What could not be sent before the run was given up must be told, not dropped.
func TestRun_Unsent(t *testing.T) {
	t.Parallel()
	url := serve(t, func(*fasthttp.RequestCtx) { <-time.After(400 * time.Millisecond) })
	result := run(t, peak.Config{
		URLs: []string{url}, Path: "/", Connections: 2, Grace: time.Millisecond,
		Phases: []peak.Phase{{Rate: 1000, Duration: 100 * time.Millisecond}},
	})
	var out strings.Builder
	if err := result.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	if result.Sent > 2 || result.Sent+result.Unsent != 100 || !strings.Contains(out.String(), "NEVER SENT") {
		t.Errorf("got %+v\n%s", result, out.String())
	}
}

// Ctrl-C must end a run whose target answers nobody.
func TestRun_ContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	url := serve(t, func(*fasthttp.RequestCtx) {
		cancel()
		<-release
	})
	_, err := peak.Run(ctx, peak.Config{
		URLs: []string{url}, Path: "/", Connections: 4, Timeout: time.Hour,
		Phases: []peak.Phase{{Rate: 10, Duration: time.Minute}},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Where there is no server, that is an error at once, and not a run full of refusals.
func TestRun_NoTarget(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"http://127.0.0.1:1", "ftp://127.0.0.1", "127.0.0.1:80"} {
		_, err := peak.Run(t.Context(), peak.Config{
			URLs: []string{url}, Item: "1", Phases: []peak.Phase{{Rate: 1, Duration: time.Second}},
		})
		if err == nil {
			t.Errorf("%s: no error", url)
		}
	}
}

func run(t *testing.T, c peak.Config) *peak.Result {
	t.Helper()
	result, err := peak.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// serve starts a server that ends with the test, and returns its URL.
func serve(t *testing.T, handler fasthttp.RequestHandler) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &fasthttp.Server{Handler: handler, NoDefaultServerHeader: true}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "http://" + listener.Addr().String()
}
