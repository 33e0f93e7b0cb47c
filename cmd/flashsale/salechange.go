package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"flashsale"
	"flashsale/worker"
)

// saleChangeCommand changes items that may be selling. What is not given stays.
type saleChangeCommand struct {
	stores      `embed:""`
	Sale        string `arg:"" help:"The sale's id."`
	Item        string `help:"Only this item; otherwise all of the sale, of which only the window can be changed."`
	OpensAt     string `help:"RFC 3339 time, or now, or a duration from now; before it has opened."`
	ClosesAt    string `help:"RFC 3339 time, or now, or a duration from now."`
	PriceFen    *int64 `help:"Before it has opened."`
	PointsPrice *int64 `help:"Before it has opened; 0: not payable with points."`
	Limit       *int   `help:"Units a user; no less than anybody holds."`
	Stock       *int64 `help:"All units offered; no less than are held."`
}

func (c *saleChangeCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	change := flashsale.ItemChange{PriceFen: c.PriceFen, PointsPrice: c.PointsPrice, Limit: c.Limit, Total: c.Stock}
	for _, moment := range []struct {
		text string
		to   **time.Time
	}{{c.OpensAt, &change.OpensAt}, {c.ClosesAt, &change.ClosesAt}} {
		if moment.text == "" {
			continue
		}
		at, err := parseMoment(moment.text, time.Now())
		if err != nil {
			return err
		}
		*moment.to = &at
	}
	onlyWindow := flashsale.ItemChange{OpensAt: change.OpensAt, ClosesAt: change.ClosesAt}
	switch {
	case change.Empty():
		return fmt.Errorf("say what to change, such as --closes-at or --stock: flashsale sale change --help")
	case c.Item == "" && change != onlyWindow:
		return fmt.Errorf("prices, limit and stock are an item's: name it with --item")
	}
	return withSale(ctx, c.stores, c.Sale, logger, func(r *rooms, sale flashsale.Sale) error {
		items, err := c.items(sale)
		if err != nil {
			return err
		}
		rebuilder, err := r.newRebuilder()
		if err != nil {
			return err
		}
		defer rebuilder.Close()
		err = r.acting(ctx, "sale change", "sale "+sale.ID.String(), func() error {
			for _, item := range items {
				if err := rebuilder.Change(ctx, item, change); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if sale, err = r.ledger.Sale(ctx, sale.ID); err != nil {
			return err
		}
		return r.printSale(ctx, out, sale)
	})
}

// items are those that are meant.
func (c *saleChangeCommand) items(sale flashsale.Sale) (items []flashsale.ItemID, err error) {
	for _, item := range sale.Items {
		if c.Item == "" || strconv.FormatInt(int64(item.ID), 10) == c.Item {
			items = append(items, item.ID)
		}
	}
	if len(items) == 0 {
		return nil, fmt.Errorf("sale %d has no item %q", sale.ID, c.Item)
	}
	return items, nil
}

// newRebuilder rebuilds and changes items. Close it afterwards.
func (r *rooms) newRebuilder() (*worker.Rebuilder, error) {
	return worker.NewRebuilder(worker.RebuilderConfig{
		Engine: r.engine, Ledger: r.ledger, Logger: r.logger, RedisURL: r.redisURL,
	})
}
