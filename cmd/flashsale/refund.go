package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"flashsale"
	"flashsale/worker"
)

// refundCommand is for refunds that the provider has refused for good. The audit lists them.
type refundCommand struct {
	Retry  refundRetryCommand  `cmd:"" help:"Ask the provider again, once the reason of its refusal is mended."`
	Settle refundSettleCommand `cmd:"" help:"Note that the money was given back by other means: the order becomes refunded."`
}

type refundRetryCommand struct {
	stores `embed:""`
	Number string `arg:"" help:"The refund's number, such as R2124414197038059520."`
}

func (c *refundRetryCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	r, err := openRooms(ctx, c.stores, logger, nil)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.ledger.RetryRefund(ctx, c.Number); err != nil {
		return err
	}
	fmt.Fprintln(out, "a worker asks for it again:", c.Number)
	return nil
}

type refundSettleCommand struct {
	stores `embed:""`
	Number string `arg:"" help:"The refund's number, such as R2124414197038059520."`
}

func (c *refundSettleCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	r, err := openRooms(ctx, c.stores, logger, nil)
	if err != nil {
		return err
	}
	defer r.close()
	refund, err := r.ledger.Refund(ctx, c.Number)
	if err != nil {
		return err
	}
	if refund.State != flashsale.RefundRefused {
		return fmt.Errorf("refund %s is %s: only a refused one is settled by hand", c.Number, refund.State)
	}
	receipt, err := r.ledger.FinishRefund(ctx, c.Number)
	if err != nil {
		return err
	}
	herald, err := worker.NewHerald(r.redisURL, logger)
	if err != nil {
		return err
	}
	defer herald.Close()
	if !refund.Surplus {
		herald.Tell(ctx, []flashsale.Result{{
			OrderNo: receipt.Order.OrderNo, User: receipt.Order.User, Status: receipt.Order.Status,
		}})
	}
	fmt.Fprintf(out, "settled: %s; order %s is %s\n", c.Number, receipt.Order.OrderNo, receipt.Order.Status)
	return nil
}
