package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"flashsale/pay/points"
	"flashsale/postgres"
)

type migrateCommand struct {
	starting    `embed:""`
	DatabaseURL string `name:"database-url" env:"DATABASE_URL" required:"" placeholder:"$DATABASE_URL" help:"postgres://user:password@host:port/database"`
	PointsURL   string `name:"points-database-url" env:"POINTS_DATABASE_URL" placeholder:"$POINTS_DATABASE_URL" help:"The points' own database, if there are points."`
}

// Run creates the schemas, or says that they are there.
func (c *migrateCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	applied, err := await(ctx, c.starting, logger, func(ctx context.Context) (bool, error) {
		return migrate(ctx, c.DatabaseURL, logger)
	})
	if err != nil {
		return err
	}
	report(out, "schema", applied)
	if c.PointsURL == "" {
		return nil
	}
	applied, err = await(ctx, c.starting, logger, func(ctx context.Context) (bool, error) {
		return migratePoints(ctx, c.PointsURL)
	})
	if err != nil {
		return err
	}
	report(out, "points schema", applied)
	return nil
}

func report(out io.Writer, what string, applied bool) {
	if applied {
		fmt.Fprintln(out, what, "created")
	} else {
		fmt.Fprintln(out, what, "is current, nothing to do")
	}
}

func migrate(ctx context.Context, databaseURL string, logger *slog.Logger) (applied bool, err error) {
	ledger, err := postgres.Open(ctx, postgres.Config{URL: databaseURL, Logger: logger})
	if err != nil {
		return false, err
	}
	defer ledger.Close()
	return ledger.Migrate(ctx)
}

func migratePoints(ctx context.Context, databaseURL string) (applied bool, err error) {
	ledger, err := points.Open(ctx, points.Config{URL: databaseURL})
	if err != nil {
		return false, err
	}
	defer ledger.Close()
	return ledger.Migrate(ctx)
}
