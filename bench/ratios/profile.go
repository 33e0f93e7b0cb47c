package ratios

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"flashsale/bench/target"
)

// profiles measures one more round, which does not count, and writes CPU profiles of the
// servers meanwhile.
func (r *run) profiles(ctx context.Context) error {
	if err := os.MkdirAll(r.Profiles, 0o755); err != nil { //nolint:gosec // results are no secret
		return err
	}
	counted := r.figures
	defer func() { r.figures, r.profiling = counted, "" }()
	for _, step := range r.steps() {
		if !r.wants(step.name) || !slices.Contains([]string{"accepted", "sold-out", "single", "beside"}, step.name) {
			continue
		}
		r.profiling = step.name
		if err := step.run(ctx, r.Rounds); err != nil {
			return fmt.Errorf("profile %s: %w", step.name, err)
		}
	}
	return nil
}

// profile profiles a server for the length of a window, if asked to.
func (r *run) profile(ctx context.Context, server *target.Server) <-chan error {
	done := make(chan error, 1)
	if r.profiling == "" {
		done <- nil
		return done
	}
	path := filepath.Join(r.Profiles, r.profiling+".pprof")
	go func() {
		text, err := server.Profile(ctx, max(time.Second, r.Window-time.Second))
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		done <- err
	}()
	return done
}
