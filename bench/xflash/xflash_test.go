package xflash

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
	"go.k6.io/k6/js/modulestest"
	"go.k6.io/k6/lib"
	"go.k6.io/k6/metrics"
	"go.k6.io/k6/output"
)

// shop answers by the item that is asked for, and closes the connection for item 3.
func shop(ctx *fasthttp.RequestCtx) {
	if string(ctx.Request.Header.Peek("Authorization")) != "Bearer secret" || string(ctx.Method()) != fasthttp.MethodPost {
		ctx.SetStatusCode(fasthttp.StatusUnauthorized)
		return
	}
	switch string(ctx.Path()) {
	case "/v1/items/1/orders":
		ctx.SetStatusCode(fasthttp.StatusAccepted)
		ctx.SetBodyString(`{"order_no":"7","status":"pending` + string(ctx.Request.Header.Peek("Idempotency-Key")) + `"}`)
	case "/v1/items/2/orders":
		ctx.SetStatusCode(fasthttp.StatusConflict)
		ctx.SetBodyString(`{"code":"sold_out"}`)
	case "/v1/items/3/orders":
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(func(net.Conn) {})
	default:
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		ctx.SetBodyString("no such page")
	}
}

// Protects the verdicts: what a script is told is what the server said, a refusal is no failure,
// a lost answer is one and is not asked for again, and k6 hears of each request once.
func TestBuy(t *testing.T) {
	t.Parallel()
	listener := fasthttputil.NewInmemoryListener()
	var asked atomic.Int64
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { asked.Add(1); shop(ctx) }}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		<-served
	})
	runtime, samples := newVU(t, listener)
	for _, test := range []struct{ call, want, status, failed string }{
		{`buy("http://shop", "1", "secret")`, `{"order":"7","status":202}`, "202", "0"},
		{`buy("http://shop/", "1", "secret", "k")`, `{"order":"7","status":202}`, "202", "0"},
		{`buy("http://shop", "2", "secret", null)`, `{"code":"sold_out","status":409}`, "409", "0"},
		{`buy("http://shop", "4", "secret")`, `{"status":404}`, "404", "1"},
		{`buy("http://shop", "1", "wrong")`, `{"status":401}`, "401", "1"},
	} {
		got, err := runtime.RunOnEventLoop(`(() => { const a = ` + test.call + `; return JSON.stringify(a, Object.keys(a).sort()) })()`)
		if err != nil || got.String() != test.want {
			t.Errorf("%s: %v %v, want %s", test.call, got, err, test.want)
		}
		measured(t, samples, test.status, test.failed)
	}
	before := asked.Load()
	got, err := runtime.RunOnEventLoop(`buy("http://shop", "3", "secret").status`)
	if err != nil || got.ToInteger() != 0 || asked.Load() != before+1 {
		t.Errorf("a lost answer: %v %v, asked %d times", got, err, asked.Load()-before)
	}
	measured(t, samples, "0", "1")
}

func newVU(t *testing.T, listener *fasthttputil.InmemoryListener) (*modulestest.Runtime, chan metrics.SampleContainer) {
	t.Helper()
	runtime := modulestest.NewRuntime(t)
	m := new(module)
	named := m.NewModuleInstance(runtime.VU).Exports().Named
	if err := runtime.VU.Runtime().Set("buy", named["buy"]); err != nil {
		t.Fatal(err)
	}
	if _, err := runtime.RunOnEventLoop(`buy("http://shop", "1", "secret")`); err == nil {
		t.Error("the init code could ask")
	}
	samples := make(chan metrics.SampleContainer, 10)
	registry := metrics.NewRegistry()
	state := &lib.State{
		BuiltinMetrics: metrics.RegisterBuiltinMetrics(registry), Samples: samples,
		Tags:    lib.NewVUStateTags(registry.RootTagSet()),
		Options: lib.Options{SystemTags: &metrics.DefaultSystemTagSet},
	}
	runtime.MoveToVUContext(state)
	m.once.Do(func() { m.connect(state) })
	m.client.Dial = func(string) (net.Conn, error) { return listener.Dial() }
	return runtime, samples
}

// measured takes what k6 was told of one request.
func measured(t *testing.T, samples <-chan metrics.SampleContainer, status, failed string) {
	t.Helper()
	seen := make(map[string]string)
	for _, container := range metrics.GetBufferedSamples(samples) {
		for _, sample := range container.GetSamples() {
			value, _ := json.Marshal(sample.Value)
			name, _ := sample.Tags.Get("name")
			code, _ := sample.Tags.Get("status")
			if _, twice := seen[sample.Metric.Name]; twice || name != "buy" || code != status {
				t.Errorf("%s with name %s and status %s, want buy and %s, once", sample.Metric.Name, name, code, status)
			}
			seen[sample.Metric.Name] = string(value)
		}
	}
	if seen[metrics.HTTPReqsName] != "1" || seen[metrics.HTTPReqFailedName] != failed || seen[metrics.HTTPReqDurationName] == "" {
		t.Errorf("k6 was told %v", seen)
	}
}

// Protects the charts: each answer is in the bucket of its time and none is lost, the wait before
// the first is cut off, and gaps are gaps.
func TestTimeline(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "timeline.json")
	var told bytes.Buffer
	out, err := newTimeline(output.Params{ConfigArgument: path, StdErr: &told})
	if err != nil {
		t.Fatal(err)
	}
	line := out.(*timeline)
	if err := line.Start(); err != nil {
		t.Fatal(err)
	}
	registry := metrics.NewRegistry()
	accepted := registry.MustNewMetric("flash_accepted", metrics.Counter)
	duration := metrics.RegisterBuiltinMetrics(registry).HTTPReqDuration
	buy, look := registry.RootTagSet().With("name", "buy"), registry.RootTagSet().With("name", "look")
	add := func(metric *metrics.Metric, tags *metrics.TagSet, bucket int, value float64) {
		line.AddMetricSamples([]metrics.SampleContainer{metrics.Sample{
			TimeSeries: metrics.TimeSeries{Metric: metric, Tags: tags},
			Time:       line.began.Add(time.Duration(bucket)*Every + Every/2), Value: value,
		}})
	}
	add(accepted, buy, 8, 2)
	add(accepted, buy, 10, 1)
	for n := range 100 {
		add(duration, buy, 8, float64(100-n))
	}
	add(duration, look, 4, 1)
	add(duration, look, 12, 1)
	if err := line.Stop(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"every_ns":250000000,"counts":{"accepted":[2,0,1]},"p50_ms":[50,null,null],"p99_ms":[99,null,null]}`
	if string(text) != want {
		t.Errorf("written\n%s, want\n%s", text, want)
	}
	if !strings.Contains(told.String(), "accepted 3") {
		t.Errorf("told %q", told.String())
	}
	if _, err := newTimeline(output.Params{}); err == nil {
		t.Error("no file is asked for")
	}
}

// Protects the file of a run that nobody answered.
func TestTimeline_Empty(t *testing.T) {
	t.Parallel()
	line := &timeline{counts: make(map[string][]int64)}
	if whole := line.whole(); len(whole.Counts) != 0 || len(whole.P50) != 0 {
		t.Errorf("%+v", whole)
	}
}
