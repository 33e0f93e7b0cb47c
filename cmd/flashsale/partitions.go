package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"flashsale"
	"flashsale/engine"
)

// partitionsCommand is about the number of partitions, which is kept in the ledger.
type partitionsCommand struct {
	Show partitionsShowCommand `cmd:"" default:"withargs" help:"Show how many there are."`
	Of   partitionsOfCommand   `cmd:"" help:"Print the tag in the keys of an item."`
}

type partitionsShowCommand struct {
	stores `embed:""`
}

func (c *partitionsShowCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	r, err := openRooms(ctx, c.stores, logger, looking)
	if err != nil {
		return err
	}
	defer r.close()
	fmt.Fprintln(out, "partitions:", r.engine.Partitions())
	return nil
}

type partitionsOfCommand struct {
	stores `embed:""`
	Item   string `arg:"" help:"The item's id."`
}

func (c *partitionsOfCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	item, err := flashsale.ParseID[flashsale.ItemID](c.Item)
	if err != nil {
		return err
	}
	r, err := openRooms(ctx, c.stores, logger, looking)
	if err != nil {
		return err
	}
	defer r.close()
	fmt.Fprintln(out, engine.Tag(r.engine.Partition(item)))
	return nil
}
