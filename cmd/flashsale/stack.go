package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"

	"flashsale/internal/devstack"
)

// pointsDatabase is the points' own database on the server of a stack.
const pointsDatabase = "points"

type stackCommand struct {
	Dir         string `env:"STACK_DIR" help:"Data folder to keep. Default: a temporary one, removed at the end."`
	AppendFsync string `env:"APPEND_FSYNC" default:"everysec" enum:"always,everysec,no" help:"How often Redis flushes its append-only file: always, everysec, no."`
}

// Run starts the stores, tells where they are, and stops them when it is interrupted or when
// whoever started it closes its standard input.
func (c *stackCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) (err error) {
	stack, err := devstack.Start(ctx, devstack.Config{
		Dir: c.Dir, Redis: true, Postgres: true, AppendFsync: c.AppendFsync, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stack.Stop()) }()
	pointsURL, err := stack.EnsureDatabase(ctx, pointsDatabase)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(map[string]string{
		"redis_url": stack.RedisURL(), "database_url": stack.DatabaseURL(), "points_database_url": pointsURL,
	}); err != nil {
		return err
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	select {
	case <-ctx.Done():
	case <-closed:
	}
	return nil
}
