package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"flashsale"
	"flashsale/pay"
)

// cancelEvery is how often a command that waits shows how far a sale's cancellation has come.
const cancelEvery = time.Second

type saleCancelCommand struct {
	stores `embed:""`
	Sale   string `arg:"" help:"The sale's id."`
	Reason string `default:"the sale was cancelled" help:"What the refunds say."`
	Yes    bool   `short:"y" help:"Do not ask."`
	Wait   bool   `help:"Wait until it is done. The work is a worker's, and goes on without this command."`
}

func (c *saleCancelCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	return withSale(ctx, c.stores, c.Sale, logger, func(r *rooms, sale flashsale.Sale) error {
		return r.withDesk(func(desk *pay.Desk) error { return c.cancel(ctx, out, r, desk, sale) })
	})
}

func (c *saleCancelCommand) cancel(ctx context.Context, out io.Writer, r *rooms, desk *pay.Desk, sale flashsale.Sale) error {
	_, err := desk.SaleCancellation(ctx, sale.ID)
	if errors.Is(err, flashsale.ErrNotFound) && !c.Yes && !confirmed(out, sale) {
		return errors.New("nothing was changed")
	}
	var started bool
	err = r.acting(ctx, "sale cancel", "sale "+sale.ID.String(), func() (err error) {
		started, err = desk.CancelSale(ctx, sale.ID, c.Reason)
		return err
	})
	if err != nil {
		return err
	}
	if started {
		fmt.Fprintf(out, "sale %d is cancelled; a worker ends its orders\n", sale.ID)
	}
	for {
		progress, err := desk.SaleCancellation(ctx, sale.ID)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "to cancel %d, to refund %d; refunding %d (%d refused), refunded %d, cancelled %d\n",
			progress.Unpaid, progress.Paid, progress.Refunding, progress.Refused, progress.Refunded, progress.Cancelled)
		if progress.Done() {
			fmt.Fprintln(out, "done")
			return nil
		}
		if !c.Wait {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(cancelEvery):
		}
	}
}

// confirmed asks a person who sits at a terminal, and says how many units it is about.
func confirmed(out io.Writer, sale flashsale.Sale) bool {
	input, err := os.Stdin.Stat()
	if err != nil || input.Mode()&os.ModeCharDevice == 0 {
		return true
	}
	var total, held int64
	for _, item := range sale.Items {
		total, held = total+item.Total, held+item.Total-item.Stock
	}
	fmt.Fprintf(out, "Cancel sale %d, %s? %d of its %d units are in orders, which will be cancelled or refunded. [y/N] ",
		sale.ID, sale.Name, held, total)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n') // what cannot be read is no
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}
