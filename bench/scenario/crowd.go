package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"flashsale/bench/target"
	"flashsale/bench/xflash"
)

// overhead is what a run may take beside its own seconds: k6's start, setup and last answers.
const overhead = 90 * time.Second

// Exit codes of k6 whose meaning its last words do not repeat.
const (
	exitThresholds = 99  // broken, which the summary says in more words
	exitConfig     = 104 // options or arguments that it does not accept
	exitScript     = 107 // an exception outside of the iterations
)

// play is one scene under way.
type play struct {
	*run
	scene  Scene
	items  []string     // the scene's, and the hasty one
	before target.Audit // money that was there already
	result *Result
}

func (p *play) failf(format string, args ...any) {
	p.result.Failures = append(p.result.Failures, fmt.Sprintf(format, args...))
}

// crowd runs k6 and reads what it counted.
func (p *play) crowd(ctx context.Context) error {
	summary, timeline := p.path(p.scene.Name+".json"), p.path(p.scene.Name+"-timeline.json")
	if p.scene.rate > 0 {
		p.sayf("%s: %d/s for %d s", p.scene.Name, p.scene.rate, p.Seconds)
	} else {
		p.sayf("%s", p.scene.Name)
	}
	limit := time.Duration(p.Seconds)*time.Second + overhead
	err := runChild(ctx, p.Program, limit, func(cmd *exec.Cmd) {
		cmd.Args = append(cmd.Args, "run", "--address", "", "--quiet", "--no-color", "--include-system-env-vars",
			"--out", "timeline="+timeline)
		cmd.Args = append(append(cmd.Args, p.Args...), p.path(p.scene.Name+".js"))
		cmd.Env, cmd.Stdout, cmd.Stderr = p.environment(summary), p.Progress, p.Progress
	})
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return fmt.Errorf("k6: %w", err)
	}
	text, readErr := os.ReadFile(summary)
	if readErr != nil {
		return noSummary(exit)
	}
	if exit != nil && exit.ExitCode() != exitThresholds {
		p.failf("k6 ended with %s", exit)
	}
	if err := p.result.readSummary(text); err != nil {
		return err
	}
	return p.result.readTimeline(timeline)
}

// noSummary tells why k6 has judged nothing.
func noSummary(exit *exec.ExitError) error {
	switch {
	case exit == nil:
		return errors.New("k6 wrote no summary")
	case exit.ExitCode() == exitConfig:
		return errors.New("k6 does not accept these arguments: see above")
	case exit.ExitCode() == exitScript:
		return errors.New("the script has thrown an exception: see above")
	}
	return fmt.Errorf("k6 wrote no summary and ended with %w: see above", exit)
}

// environment tells the script what to play: see lib.js.
func (p *play) environment(summary string) []string {
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	env := append(os.Environ(),
		"BENCH_URL="+p.stage.server.URL, "BENCH_ITEM="+p.items[0], "BENCH_TOKENS="+p.stage.tokens,
		"BENCH_SUMMARY="+summary, "BENCH_STOCK="+strconv.FormatInt(p.scene.stock, 10),
		"BENCH_RATE="+number(p.scene.rate), "BENCH_SECONDS="+number(p.Seconds),
		"BENCH_CONNECTIONS="+number(p.Connections), "BENCH_CLIENT="+p.scene.client(p.Config),
		"BENCH_WAYS="+p.stage.ways(p.items), "BENCH_HASTY_ITEM="+p.items[len(p.items)-1])
	if p.Dashboard != "" {
		// Without the period a short run writes no file, and says nothing.
		env = append(env, "K6_WEB_DASHBOARD=true", "K6_WEB_DASHBOARD_PORT=-1",
			"K6_WEB_DASHBOARD_PERIOD=1s", "K6_WEB_DASHBOARD_EXPORT="+p.Dashboard)
	}
	return env
}

// readSummary takes the counts and the broken thresholds from k6's summary.
func (r *Result) readSummary(text []byte) error {
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
	r.Counts = make(map[string]int64)
	for name, metric := range said.Metrics {
		if short, ours := strings.CutPrefix(name, "flash_"); ours && metric.Values["count"] > 0 {
			r.Counts[short] = int64(metric.Values["count"])
		}
		for rule, threshold := range metric.Thresholds {
			if !threshold.OK {
				figure := rule[:max(0, strings.IndexAny(rule, "<>=!"))]
				r.Failures = append(r.Failures, fmt.Sprintf("threshold %s: %s, but it is %g", name, rule, metric.Values[figure]))
			}
		}
	}
	slices.Sort(r.Failures)
	r.Counts["requests"] = int64(said.Metrics["http_reqs"].Values["count"])
	r.Counts["iterations"] = int64(said.Metrics["iterations"].Values["count"])
	if dropped := int64(said.Metrics["dropped_iterations"].Values["count"]); dropped > 0 {
		r.Counts["dropped"] = dropped
	}
	if late := said.Metrics["flash_sched_lag"].Values; late != nil {
		p99 := late["p(99)"]
		r.Late = &p99
	}
	r.Latency = said.Metrics["http_req_duration{name:buy}"].Values
	if r.Latency == nil {
		r.Latency = said.Metrics["http_req_duration"].Values
	}
	return nil
}

// readTimeline reads what our own output has written.
func (r *Result) readTimeline(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the timeline: %w", err)
	}
	r.Timeline = new(xflash.Timeline)
	if err := json.Unmarshal(text, r.Timeline); err != nil {
		return fmt.Errorf("the timeline: %w", err)
	}
	return nil
}
