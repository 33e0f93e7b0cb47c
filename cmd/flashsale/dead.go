package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"flashsale"
	"flashsale/worker"
)

// deadCommand is for entries that were set aside because they can never be persisted.
type deadCommand struct {
	List  deadListCommand  `cmd:"" help:"List the oldest dead letters with their reasons."`
	Retry deadRetryCommand `cmd:"" help:"Put a dead letter, or all, back into the stream, once the reason is mended."`
	Drop  deadDropCommand  `cmd:"" help:"Discard a dead letter, or all, and put their units back on sale."`
}

// deadFilter chooses dead letters.
type deadFilter struct {
	Item   string `help:"Of this item only."`
	Reason string `help:"Whose reason has this text."`
}

func (f deadFilter) filter() (filter flashsale.DeadFilter, err error) {
	filter.Reason = f.Reason
	if f.Item != "" {
		filter.Item, err = flashsale.ParseID[flashsale.ItemID](f.Item)
	}
	return filter, err
}

type deadListCommand struct {
	stores     `embed:""`
	deadFilter `embed:""`
	Limit      int `default:"100" help:"How many."`
}

func (c *deadListCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	filter, err := c.filter()
	if err != nil {
		return err
	}
	return withDeadLetters(ctx, c.stores, logger, func(d *worker.DeadLetters) error {
		letters, err := d.List(ctx, filter, c.Limit)
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

// deadChoice is one dead letter, or many.
type deadChoice struct {
	deadFilter `embed:""`
	ID         string `arg:"" optional:"" help:"As listed."`
	All        bool   `help:"All that there are, or all that --item and --reason choose."`
}

func (c deadChoice) choose() (filter flashsale.DeadFilter, err error) {
	if c.All == (c.ID != "") {
		return filter, errors.New("name one dead letter, as listed, or say --all")
	}
	return c.filter()
}

type deadRetryCommand struct {
	stores     `embed:""`
	deadChoice `embed:""`
}

func (c *deadRetryCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	filter, err := c.choose()
	if err != nil {
		return err
	}
	return changeDeadLetters(ctx, c.stores, logger, "dead retry", cmp.Or(c.ID, "all"), func(d *worker.DeadLetters) error {
		if c.All {
			retried, left, err := d.RetryAll(ctx, filter)
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
	stores     `embed:""`
	deadChoice `embed:""`
}

func (c *deadDropCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	filter, err := c.choose()
	if err != nil {
		return err
	}
	return changeDeadLetters(ctx, c.stores, logger, "dead drop", cmp.Or(c.ID, "all"), func(d *worker.DeadLetters) error {
		if c.All {
			dropped, units, err := d.DropAll(ctx, filter)
			fmt.Fprintf(out, "dropped: %d, units given back: %d\n", dropped, units)
			return err
		}
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
	letters, err := r.newDeadLetters()
	if err != nil {
		return err
	}
	defer letters.Close()
	return do(letters)
}

func (r *rooms) newDeadLetters() (*worker.DeadLetters, error) {
	return worker.NewDeadLetters(worker.DeadLettersConfig{
		Engine: r.engine, Ledger: r.ledger, Partitions: r.engine.Partitions(), RedisURL: r.redisURL,
	})
}
