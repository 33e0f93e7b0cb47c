package xflash

import (
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grafana/sobek"
	"github.com/valyala/fasthttp"
	"go.k6.io/k6/js/common"
	"go.k6.io/k6/js/modules"
	"go.k6.io/k6/lib"
	"go.k6.io/k6/metrics"
)

const (
	// timeout is as long as the scripts let an iteration finish at the end.
	timeout = 10 * time.Second
	// idleMax is shorter than the server's, which would otherwise close what we are about to use.
	idleMax = 30 * time.Second
	// connectionsMax is beyond any number of VUs, each of which has one request under way.
	connectionsMax = 1 << 16
)

// module is what all VUs share.
type module struct {
	once   sync.Once
	client *fasthttp.Client
}

var _ modules.Module = (*module)(nil)

// NewModuleInstance is called once a VU.
func (m *module) NewModuleInstance(vu modules.VU) modules.Instance {
	return &buyer{module: m, vu: vu}
}

// connect makes the client. Its connections outlive iterations and so are tied to no VU's
// context, which ends with each of them. Nothing is sent twice: a lost answer is an answer.
func (m *module) connect(state *lib.State) {
	m.client = &fasthttp.Client{
		Dial: func(addr string) (net.Conn, error) {
			return fasthttp.DialDualStackTimeout(addr, timeout)
		},
		DisableHeaderNamesNormalizing: true,
		DisablePathNormalizing:        true,
		MaxConnsPerHost:               connectionsMax,
		MaxIdemponentCallAttempts:     1,
		MaxIdleConnDuration:           idleMax,
		Name:                          "k6/x/flash",
		RetryIfErr: func(*fasthttp.Request, int, error) (resetTimeout, retry bool) {
			return false, false
		},
		TLSConfig: state.TLSConfig,
	}
}

// buyer is a VU's.
type buyer struct {
	module *module
	vu     modules.VU
}

// Exports are what the script imports.
func (b *buyer) Exports() modules.Exports {
	named := map[string]any{"buy": b.buy}
	return modules.Exports{Default: named, Named: named}
}

// answer is what a shopper is told.
type answer struct {
	status int
	Code   string `json:"code"`
	Order  string `json:"order_no"`
}

// buy is buy(base, item, token, key), the key being optional.
func (b *buyer) buy(call sobek.FunctionCall) sobek.Value {
	rt, state := b.vu.Runtime(), b.vu.State()
	if state == nil {
		common.Throw(rt, errors.New("flash.buy asks the server, which only VUs may: not the init code"))
	}
	b.module.once.Do(func() { b.module.connect(state) })
	base := strings.TrimSuffix(call.Argument(0).String(), "/")
	item, token, key := call.Argument(1).String(), call.Argument(2).String(), ""
	if k := call.Argument(3); !sobek.IsUndefined(k) && !sobek.IsNull(k) {
		key = k.String()
	}
	began := time.Now()
	told := b.module.ask(base+"/v1/items/"+item+"/orders", token, key)
	b.measure(state, told.status, began, time.Now())

	object := rt.NewObject()
	for name, value := range map[string]any{"status": told.status, "code": told.Code, "order": told.Order} {
		if value == "" {
			continue // undefined, as of an answer without it
		}
		if err := object.Set(name, value); err != nil {
			common.Throw(rt, err)
		}
	}
	return object
}

// ask sends one request.
func (m *module) ask(url, token, key string) (told answer) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.DisableNormalizing()
	request.Header.SetMethod(fasthttp.MethodPost)
	request.SetRequestURI(url)
	request.Header.Set("Authorization", "Bearer "+token)
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	if err := m.client.DoTimeout(request, response, timeout); err != nil {
		return answer{Code: err.Error()}
	}
	_ = json.Unmarshal(response.Body(), &told) // not JSON: judged by its status
	told.status = response.StatusCode()
	return told
}

// measure emits what k6/http emits of a request, to the thresholds' ends.
func (b *buyer) measure(state *lib.State, status int, began, ended time.Time) {
	expected := status == fasthttp.StatusAccepted || status == fasthttp.StatusConflict
	tags := state.Tags.GetCurrentValues()
	set := func(tag metrics.SystemTag, value string) {
		tags.SetSystemTagOrMetaIfEnabled(state.Options.SystemTags, tag, value)
	}
	tags.SetTag("name", "buy")
	set(metrics.TagStatus, strconv.Itoa(status))
	set(metrics.TagExpectedResponse, strconv.FormatBool(expected))
	failed := 1.0
	if expected {
		failed = 0
	}
	sample := func(metric *metrics.Metric, value float64) metrics.Sample {
		return metrics.Sample{
			TimeSeries: metrics.TimeSeries{Metric: metric, Tags: tags.Tags},
			Time:       ended, Metadata: tags.Metadata, Value: value,
		}
	}
	builtin := state.BuiltinMetrics
	metrics.PushIfNotDone(b.vu.Context(), state.Samples, metrics.ConnectedSamples{
		Samples: []metrics.Sample{
			sample(builtin.HTTPReqs, 1),
			sample(builtin.HTTPReqDuration, metrics.D(ended.Sub(began))),
			sample(builtin.HTTPReqFailed, failed),
		},
		Tags: tags.Tags, Time: ended,
	})
}
