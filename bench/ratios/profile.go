package ratios

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"flashsale/bench/profile"
	"flashsale/bench/report"
	"flashsale/bench/target"
)

// profiles measures one more round, which does not count, writes CPU profiles of the servers
// meanwhile and keeps tables of what took most of the time.
func (r *run) profiles(ctx context.Context) error {
	if err := os.MkdirAll(r.Profiles, 0o755); err != nil { //nolint:gosec // results are no secret
		return err
	}
	counted := r.figures
	defer func() { r.figures, r.profiling = counted, "" }()
	for _, step := range r.steps() {
		if !r.wants(step.name) || !slices.Contains(r.Profiled, step.name) {
			continue
		}
		r.profiling = step.name
		if err := step.run(ctx, r.Rounds); err != nil {
			return fmt.Errorf("profile %s: %w", step.name, err)
		}
	}
	return nil
}

// profiled is what came of profiling a window.
type profiled struct {
	tables []report.Table
	err    error
}

// profile profiles a server and its Redis for the length of a window, if asked to.
func (r *run) profile(ctx context.Context, stack *target.Stack, server *target.Server) <-chan profiled {
	done := make(chan profiled, 1)
	if r.profiling == "" {
		done <- profiled{}
		return done
	}
	go func() {
		tables, err := takeProfile(ctx, stack, server, r.profiling,
			filepath.Join(r.Profiles, r.profiling+".pprof"), max(time.Second, r.Window-time.Second))
		done <- profiled{tables: tables, err: err}
	}()
	return done
}

func takeProfile(
	ctx context.Context, stack *target.Stack, server *target.Server, name, path string, length time.Duration,
) ([]report.Table, error) {
	before, err := stack.RedisInfo(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	text, err := server.Profile(ctx, length)
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := stack.RedisInfo(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	tables, err := profile.Go("Server, "+name, "flashsale", text)
	if err != nil {
		return nil, err
	}
	redis, err := profile.Redis("Redis, "+name+": by its own count", before, after, took)
	return append(tables, redis), err
}
