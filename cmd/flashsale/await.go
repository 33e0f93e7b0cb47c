package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"flashsale/engine"
	"flashsale/postgres"
)

// starting is how long a process waits for what it needs: after a power cut all start at once.
type starting struct {
	StartTimeout time.Duration `env:"START_TIMEOUT" default:"30s" help:"How long a store may be away at the start; 0: not at all."`
}

const (
	awaitInterval = 200 * time.Millisecond
	awaitProgress = 2 * time.Second // between two lines in the log
)

// await opens something on the stores, again and again while one is away.
func await[T any](ctx context.Context, s starting, logger *slog.Logger, open func(context.Context) (T, error)) (T, error) {
	began := time.Now()
	var told time.Time
	ticker := time.NewTicker(awaitInterval)
	defer ticker.Stop()
	for {
		opened, err := open(ctx)
		if err == nil || !engine.Away(err) && !postgres.Away(err) {
			return opened, err
		}
		waited := time.Since(began)
		if waited >= s.StartTimeout {
			if s.StartTimeout > 0 {
				err = fmt.Errorf("not started within START_TIMEOUT %s: %w", s.StartTimeout, err)
			}
			return opened, err
		}
		if time.Since(told) >= awaitProgress {
			told = time.Now()
			logger.Warn("waiting for a store to come up", "waited_s", waited.Round(time.Second).Seconds(),
				"start_timeout_s", s.StartTimeout.Seconds(), "error", err)
		}
		select {
		case <-ctx.Done():
			return opened, fmt.Errorf("interrupted while waiting: %w", err)
		case <-ticker.C:
		}
	}
}

// openRooms waits for the stores.
func (s starting) openRooms(ctx context.Context, stores stores, logger *slog.Logger, tune func(*engine.Config)) (*rooms, error) {
	return await(ctx, s, logger, func(ctx context.Context) (*rooms, error) {
		return openRooms(ctx, stores, logger, tune)
	})
}
