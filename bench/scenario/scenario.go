// Package scenario plays the sale's scenes with k6, whose thresholds judge them, and then
// compares what the crowd was told with what the engine holds: a fast run that oversells is a
// failed run.
//
// k6 is linked into this binary and runs as a child of it, with the scripts that are embedded
// here. On a small machine k6 judges correctness, not peak rates: it costs more than the engine.
package scenario

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"flashsale/bench/target"
)

//go:embed scripts/*.js
var scripts embed.FS

// overhead is what a run may take beside its own seconds: k6's start, setup and last answers.
const overhead = 90 * time.Second

// Scene is one of the scripts with what suits it.
type Scene struct {
	Name  string
	About string
	Stock int64 // of the item
	Rate  int   // iterations begun each second
	Users func(c Config) int
}

func arrivals(c Config) int { return c.Rate*(c.Seconds+3) + int(c.Stock) }
func few(Config) int        { return 200 }

// Scenes are all there are, in the order in which `run all` plays them.
func Scenes() []Scene {
	const plenty = 10_000_000
	return []Scene{
		{"smoke", "one shopper after the other: look, buy, wait, try again", plenty, 0, few},
		{"steady", "distinct shoppers at a constant rate, enough for all", plenty, 500, arrivals},
		{"spike", "the crowd of the opening second; few win", 200, 1000, arrivals},
		{"soldout", "everything is sold; everybody learns it at once", 50, 1000, arrivals},
		{"duplicate", "every shopper presses three times at once", plenty, 200, arrivals},
		{"retry", "every attempt is sent three times with one Idempotency-Key", plenty, 200, arrivals},
		{"lifecycle", "buy, watch by websocket, cancel, buy again", plenty, 0, few},
		{"mixed", "most look, some buy, a few press twice", plenty, 500, arrivals},
	}
}

// Config says what to play. The zero value of a field takes the scene's own.
type Config struct {
	Scene   string
	Rate    int // iterations begun each second
	Seconds int // at that rate
	Stock   int64
	Program string    // our own, which plays k6
	Source  string    // the engine's module; found above this one by default
	Binary  string    // the engine's, built by default
	Planted bool      // take the limit check out of the engine: the run must fail
	HTML    string    // k6's own dashboard as one file
	Output  io.Writer // progress

	// A target of the caller's: nothing is started.
	URL    string
	Item   string
	Tokens string // file, a token a line, each of another user
	Ops    string // for the audit; "" audits nothing
	Admin  string // token
}

// Result is what came of a scene.
type Result struct {
	Scene    string             `json:"scene"`
	Rate     int                `json:"rate"`
	Seconds  int                `json:"seconds"`
	Counts   map[string]int64   `json:"counts"`
	Latency  map[string]float64 `json:"latency_ms"` // of a purchase, as k6 saw it
	Late     float64            `json:"k6_late_p99_ms"`
	Failures []string           `json:"failures,omitempty"`
	Audit    string             `json:"audit,omitempty"`
}

// OK tells whether every threshold held and every count agreed.
func (r *Result) OK() bool { return len(r.Failures) == 0 }

// Play plays one scene. An error means that it could not be played; what went wrong in it is in
// the result.
func Play(ctx context.Context, c Config) (_ *Result, err error) {
	at := slices.IndexFunc(Scenes(), func(s Scene) bool { return s.Name == c.Scene })
	if at < 0 {
		return nil, fmt.Errorf("there is no scenario %q: `bench list` names them", c.Scene)
	}
	scene := Scenes()[at]
	c.fill(scene)
	if c.URL != "" && (c.Item == "" || c.Tokens == "" || c.Planted) {
		return nil, errors.New("a target needs --item and --tokens, and nothing can be planted there")
	}
	p := &play{Config: c, result: &Result{Scene: c.Scene, Rate: c.Rate, Seconds: c.Seconds}}
	if p.dir, err = os.MkdirTemp("", "flashsale-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := os.Chmod(p.dir, 0o711); err != nil { //nolint:gosec // PostgreSQL's user must pass
		return nil, err
	}
	if err := Eject(p.dir); err != nil {
		return nil, err
	}
	if c.URL == "" {
		if err := p.start(ctx, scene.Users(c)); err != nil {
			return nil, err
		}
	}
	if err := p.crowd(ctx); err != nil {
		return nil, err
	}
	return p.result, p.reconcile(ctx)
}

func (c *Config) fill(s Scene) {
	if c.Rate <= 0 {
		c.Rate = s.Rate
	}
	if c.Seconds <= 0 {
		c.Seconds = 5
	}
	if c.Stock <= 0 {
		c.Stock = s.Stock
	}
	if c.Output == nil {
		c.Output = io.Discard
	}
}

// Eject writes the scripts into a folder, for whoever wants to change them.
func Eject(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	files, err := fs.Glob(scripts, "scripts/*.js")
	if err != nil {
		return err
	}
	for _, name := range files {
		text, err := scripts.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// play is one scene under way.
type play struct {
	Config
	dir    string
	stack  *target.Stack // nil where the target is the caller's
	server *target.Server
	worker *target.Worker
	result *Result
}

func (p *play) sayf(format string, args ...any) {
	fmt.Fprintf(p.Output, "%-9s  %s\n", p.Scene, fmt.Sprintf(format, args...))
}

// start brings up a private stack with a server, a worker, an item and the users' sessions.
func (p *play) start(ctx context.Context, users int) (err error) {
	if p.Binary == "" {
		if p.Source == "" {
			if p.Source, err = target.Source(); err != nil {
				return err
			}
		}
		build := target.Build
		if p.Planted {
			build = target.BuildPlanted
		}
		p.sayf("building the engine")
		if p.Binary, err = build(ctx, p.Source, p.dir); err != nil {
			return err
		}
	}
	p.sayf("starting redis, postgresql, a server and a worker; %d users", users)
	if p.stack, err = target.StartStack(ctx, p.Binary, p.dir); err != nil {
		return err
	}
	if p.server, err = p.stack.Serve(ctx); err != nil {
		return err
	}
	if p.worker, err = p.stack.Work(ctx); err != nil {
		return err
	}
	items, err := p.server.CreateItems(ctx, 1, p.Stock)
	if err != nil {
		return err
	}
	p.URL, p.Item = p.server.URL, items[0]
	return p.stack.CreateSessions(ctx, 0, users)
}

// close ends everything, senders before receivers.
func (p *play) close() error {
	var errs []error
	if p.server != nil {
		errs = append(errs, p.server.Stop())
	}
	if p.worker != nil {
		errs = append(errs, p.worker.Stop())
	}
	if p.stack != nil {
		errs = append(errs, p.stack.Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(p.dir))...)
}

// crowd runs k6 and reads what it counted.
func (p *play) crowd(ctx context.Context) error {
	summary := filepath.Join(p.dir, "summary.json")
	tokens := p.Tokens
	if tokens != "" {
		var err error
		if tokens, err = filepath.Abs(tokens); err != nil {
			return err
		}
	}
	env := append(os.Environ(),
		"BENCH_URL="+p.URL, "BENCH_ITEM="+p.Item, "BENCH_TOKENS="+tokens, "BENCH_SUMMARY="+summary,
		"BENCH_STOCK="+strconv.FormatInt(p.Stock, 10), "BENCH_RATE="+strconv.Itoa(max(1, p.Rate)),
		"BENCH_SECONDS="+strconv.Itoa(p.Seconds))
	if p.HTML != "" {
		// Without the period a short run writes no file, and says nothing.
		env = append(env, "K6_WEB_DASHBOARD=true", "K6_WEB_DASHBOARD_PORT=-1",
			"K6_WEB_DASHBOARD_PERIOD=1s", "K6_WEB_DASHBOARD_EXPORT="+p.HTML)
	}
	p.sayf("%d/s for %d s", p.Rate, p.Seconds)
	err := runChild(ctx, p.Program, time.Duration(p.Seconds)*time.Second+overhead, func(cmd *exec.Cmd) {
		cmd.Args = append(cmd.Args, "run", "--address", "", "--no-color", "--include-system-env-vars", filepath.Join(p.dir, p.Scene+".js"))
		cmd.Env, cmd.Stdout, cmd.Stderr = env, p.Output, p.Output
	})
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return fmt.Errorf("k6: %w", err)
	}
	text, readErr := os.ReadFile(summary)
	if readErr != nil {
		return errors.Join(fmt.Errorf("k6 wrote no summary: %w", readErr), err)
	}
	if err != nil {
		p.failf("k6 ended with %s", exit)
	}
	return p.read(text)
}

func (p *play) failf(format string, args ...any) {
	p.result.Failures = append(p.result.Failures, fmt.Sprintf(format, args...))
}

// read takes the counts and the broken thresholds from k6's summary.
func (p *play) read(text []byte) error {
	var said struct {
		Metrics map[string]struct {
			Values     map[string]float64 `json:"values"`
			Thresholds map[string]struct {
				OK bool `json:"ok"`
			} `json:"thresholds"`
		} `json:"metrics"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return fmt.Errorf("k6's summary: %w", err)
	}
	p.result.Counts, p.result.Latency = make(map[string]int64), make(map[string]float64)
	for name, metric := range said.Metrics {
		if short, ours := strings.CutPrefix(name, "flash_"); ours && metric.Values["count"] > 0 {
			p.result.Counts[short] = int64(metric.Values["count"])
		}
		for rule, threshold := range metric.Thresholds {
			if !threshold.OK {
				p.failf("threshold %s: %s, but it is %v", name, rule, metric.Values)
			}
		}
	}
	slices.Sort(p.result.Failures)
	p.result.Counts["requests"] = int64(said.Metrics["http_reqs"].Values["count"])
	p.result.Late = said.Metrics["flash_sched_lag"].Values["p(99)"]
	latency := said.Metrics["http_req_duration{name:buy}"].Values
	if latency == nil {
		latency = said.Metrics["http_req_duration"].Values
	}
	for name, value := range latency {
		p.result.Latency[name] = value
	}
	return nil
}

// reconcile compares what the crowd was told with what Redis holds and with the audit.
func (p *play) reconcile(ctx context.Context) error {
	if p.stack == nil {
		return p.auditTarget(ctx)
	}
	// A cancelled order is released a moment later.
	held := p.Stock - p.result.Counts["accepted"] + p.result.Counts["cancelled"]
	var item target.Item
	err := target.Await(ctx, time.Minute, "the worker", func() (_ bool, err error) {
		item, err = p.stack.Item(ctx, p.Item)
		return item.Waiting == 0 && (item.Stock == held || !p.result.OK()), err
	})
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		p.failf("%v: redis holds %+v", err, item)
	}
	if item.Sequence != p.result.Counts["accepted"] {
		p.failf("the crowd was told of %d orders, redis accepted %d", p.result.Counts["accepted"], item.Sequence)
	}
	if item.Stock != held {
		p.failf("%d units should be left, redis holds %d", held, item.Stock)
	}
	if p.result.Audit, err = p.stack.Run(ctx, "audit"); err != nil {
		p.failf("%v", err)
	}
	return nil
}

// auditTarget asks the caller's own deployment, where it may.
func (p *play) auditTarget(ctx context.Context) error {
	if p.Ops == "" {
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Ops+"/v1/admin/audit", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+p.Admin)
	answer, err := (&http.Client{Timeout: time.Minute}).Do(request)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	p.result.Audit = string(text)
	var report struct {
		OK bool `json:"ok"`
	}
	if answer.StatusCode != http.StatusOK || json.Unmarshal(text, &report) != nil || !report.OK {
		p.failf("the target's audit: status %d: %s", answer.StatusCode, text)
	}
	return nil
}
