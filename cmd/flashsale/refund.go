package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"flashsale/pay"
	"flashsale/worker"
)

// refundCommand is for refunds that need a hand: the audit lists them.
type refundCommand struct {
	List   refundListCommand   `cmd:"" help:"List the money that waits for a hand: refused refunds, refunds that were not ours, surplus payments that are not back."`
	Retry  refundRetryCommand  `cmd:"" help:"Ask the provider again for a refund that it has refused, once the reason is mended."`
	Settle refundSettleCommand `cmd:"" help:"Note that a refused refund was given back by other means, or that a refund that was not ours is known. Once nothing is left of its payment the order becomes refunded."`
}

// refundListMax bounds the lines that are printed.
const refundListMax = 1_000

type refundListCommand struct {
	stores `embed:""`
}

func (c *refundListCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	return withDesk(ctx, c.stores, logger, func(desk *pay.Desk) error {
		open, err := desk.OpenMoney(ctx, refundListMax)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "KIND\tREFUND\tORDER\tSTATUS\tMETHOD\tAMOUNT\tSINCE\tDETAIL")
		for _, m := range open {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", m.Kind, m.Number, m.OrderNo, m.Status, m.Method,
				m.Amount, stamp(m.Since), m.Detail)
		}
		return table.Flush()
	})
}

type refundRetryCommand struct {
	stores `embed:""`
	Number string `arg:"" help:"The refund's number, such as R2124414197038059520."`
}

func (c *refundRetryCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	return actAtDesk(ctx, c.stores, logger, "refund retry", c.Number, func(desk *pay.Desk) error {
		if err := desk.RetryRefund(ctx, c.Number); err != nil {
			return err
		}
		fmt.Fprintln(out, "a worker asks for it again:", c.Number)
		return nil
	})
}

type refundSettleCommand struct {
	stores `embed:""`
	Number string `arg:"" help:"The refund's number, such as R2124414197038059520 or F2124414197038059520-1."`
}

func (c *refundSettleCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	return actAtDesk(ctx, c.stores, logger, "refund settle", c.Number, func(desk *pay.Desk) error {
		order, err := desk.SettleRefund(ctx, c.Number)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "settled: %s; order %s is %s\n", c.Number, order.OrderNo, order.Status)
		return nil
	})
}

// withDesk opens a desk that tells shoppers what becomes of their orders, and calls no provider.
func withDesk(ctx context.Context, s stores, logger *slog.Logger, do func(*pay.Desk) error) error {
	r, err := openRooms(ctx, s, logger, looking)
	if err != nil {
		return err
	}
	defer r.close()
	return r.withDesk(do)
}

// actAtDesk is withDesk for what stands in the log of actions.
func actAtDesk(ctx context.Context, s stores, logger *slog.Logger, action, target string, do func(*pay.Desk) error) error {
	r, err := openRooms(ctx, s, logger, looking)
	if err != nil {
		return err
	}
	defer r.close()
	return r.acting(ctx, action, target, func() error { return r.withDesk(do) })
}

func (r *rooms) withDesk(do func(*pay.Desk) error) (err error) {
	if r.herald, err = worker.NewHerald(r.redisURL, r.logger); err != nil {
		return err
	}
	desk, err := r.newDesk(nil, r.herald, nil)
	if err != nil {
		return err
	}
	return do(desk)
}
