package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"flashsale/worker"
)

// deadCommand is for entries that were set aside because they can never be persisted.
type deadCommand struct {
	List  deadListCommand  `cmd:"" help:"List the oldest dead letters with their reasons."`
	Retry deadRetryCommand `cmd:"" help:"Put a dead letter, or all, back into the stream, once the reason is mended."`
	Drop  deadDropCommand  `cmd:"" help:"Discard a dead letter and put its units back on sale."`
}

type deadListCommand struct {
	stores `embed:""`
	Limit  int `default:"100" help:"How many."`
}

func (c *deadListCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	return withDeadLetters(ctx, c.stores, logger, func(d *worker.DeadLetters) error {
		letters, err := d.List(ctx, c.Limit)
		if err != nil {
			return err
		}
		if len(letters) == 0 {
			fmt.Fprintln(out, "no dead letters")
			return nil
		}
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tENTRY\tREASON\tFIELDS")
		for _, letter := range letters {
			fmt.Fprintf(table, "%s\t%s\t%s\t%q\n", letter.ID, letter.Entry, letter.Reason, letter.Fields)
		}
		return table.Flush()
	})
}

type deadRetryCommand struct {
	stores `embed:""`
	ID     string `arg:"" optional:"" help:"As listed."`
	All    bool   `help:"All that there are."`
}

func (c *deadRetryCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	if c.All == (c.ID != "") {
		return errors.New("name one dead letter, as listed, or say --all")
	}
	return changeDeadLetters(ctx, c.stores, logger, "dead retry", cmp.Or(c.ID, "all"), func(d *worker.DeadLetters) error {
		if c.All {
			retried, left, err := d.RetryAll(ctx)
			fmt.Fprintf(out, "back in the stream: %d, left because they hold no order: %d\n", retried, left)
			return err
		}
		if err := d.Retry(ctx, c.ID); err != nil {
			return err
		}
		fmt.Fprintln(out, "back in the stream:", c.ID)
		return nil
	})
}

type deadDropCommand struct {
	stores `embed:""`
	ID     string `arg:"" help:"As listed."`
}

func (c *deadDropCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	return changeDeadLetters(ctx, c.stores, logger, "dead drop", c.ID, func(d *worker.DeadLetters) error {
		if err := d.Drop(ctx, c.ID); err != nil {
			return err
		}
		fmt.Fprintln(out, "dropped, units given back:", c.ID)
		return nil
	})
}

func withDeadLetters(ctx context.Context, s stores, logger *slog.Logger, do func(*worker.DeadLetters) error) error {
	r, err := openRooms(ctx, s, logger, looking)
	if err != nil {
		return err
	}
	defer r.close()
	return r.withDeadLetters(do)
}

// changeDeadLetters is withDeadLetters for what stands in the log of actions.
func changeDeadLetters(ctx context.Context, s stores, logger *slog.Logger, action, target string, do func(*worker.DeadLetters) error) error {
	r, err := openRooms(ctx, s, logger, looking)
	if err != nil {
		return err
	}
	defer r.close()
	return r.acting(ctx, action, target, func() error { return r.withDeadLetters(do) })
}

func (r *rooms) withDeadLetters(do func(*worker.DeadLetters) error) error {
	letters, err := worker.NewDeadLetters(worker.DeadLettersConfig{
		Engine: r.engine, Ledger: r.ledger, Partitions: r.engine.Partitions(), RedisURL: r.redisURL,
	})
	if err != nil {
		return err
	}
	defer letters.Close()
	return do(letters)
}
