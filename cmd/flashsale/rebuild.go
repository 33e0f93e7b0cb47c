package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"flashsale"
	"flashsale/worker"
)

type saleRebuildCommand struct {
	stores  `embed:""`
	Sale    string        `arg:"" help:"The sale's id."`
	DryRun  bool          `help:"Only show where Redis and the ledger differ."`
	Force   bool          `help:"Rebuild items that are intact, too."`
	Timeout time.Duration `default:"2m" help:"How long each item may take; a worker that is rebuilding is waited for."`
}

// Run rebuilds every item of the sale. One item's fault does not keep the others.
func (c *saleRebuildCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	return withSale(ctx, c.stores, c.Sale, logger, func(r *rooms, sale flashsale.Sale) error {
		rebuild := func() error { return c.rebuild(ctx, out, logger, r, sale) }
		if c.DryRun {
			return rebuild()
		}
		return r.acting(ctx, "sale rebuild", "sale "+sale.ID.String(), rebuild)
	})
}

func (c *saleRebuildCommand) rebuild(ctx context.Context, out io.Writer, logger *slog.Logger, r *rooms, sale flashsale.Sale) error {
	rebuilder, err := worker.NewRebuilder(worker.RebuilderConfig{
		Engine: r.engine, Force: c.Force, Ledger: r.ledger, Logger: logger, RedisURL: r.redisURL,
	})
	if err != nil {
		return err
	}
	defer rebuilder.Close()
	var faults []error
	for _, item := range sale.Items {
		bounded, cancel := context.WithTimeout(ctx, c.Timeout)
		difference, err := rebuilder.Rebuild(bounded, item.ID, c.DryRun)
		cancel()
		if err != nil {
			faults = append(faults, err)
			continue
		}
		fmt.Fprintln(out, difference)
		switch {
		case c.DryRun:
		case difference.Intact() && !c.Force:
			fmt.Fprintf(out, "item %s: left as it was\n", item.ID)
		default:
			fmt.Fprintf(out, "item %s: rebuilt, on sale\n", item.ID)
		}
	}
	return errors.Join(faults...)
}
