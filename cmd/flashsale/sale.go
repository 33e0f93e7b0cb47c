package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"flashsale"
	"flashsale/postgres"
	"flashsale/worker"
)

// saleCommand is the operator's way to sales without the admin API.
type saleCommand struct {
	Create  saleCreateCommand  `cmd:"" help:"Create a sale."`
	Delete  saleDeleteCommand  `cmd:"" help:"Delete a sale that nobody has bought from."`
	List    saleListCommand    `cmd:"" help:"List all sales, newest first."`
	Show    saleShowCommand    `cmd:"" help:"Show a sale, as the ledger and as Redis hold it."`
	Cancel  saleCancelCommand  `cmd:"" help:"Cancel a sale as a whole: it stops selling, unpaid orders are cancelled, paid ones refunded. Asking again shows how far it has come."`
	Export  saleExportCommand  `cmd:"" help:"Write all orders of a sale as CSV or NDJSON."`
	Change  saleChangeCommand  `cmd:"" help:"Change the window, prices, limit or stock of items, also while they sell."`
	Preheat salePreheatCommand `cmd:"" help:"Load a sale's items into Redis; what is loaded stays as it is."`
	Rebuild saleRebuildCommand `cmd:"" help:"Write a sale's items into Redis anew, from the ledger, where they differ."`
}

type saleCreateCommand struct {
	stores   `embed:""`
	Name     string        `required:"" help:"What shoppers see."`
	OpensAt  string        `default:"now" help:"RFC 3339 time, or now, or a duration from now such as 5m."`
	Duration time.Duration `default:"1h" help:"How long it is open."`
	Item     []string      `required:"" sep:"none" placeholder:"product=NAME,price_fen=N,stock=N[,limit=N][,points_price=N][,pay_timeout_s=N]" help:"An item; may be repeated."`
	Preheat  bool          `help:"Load it into Redis right away."`
	AlipayID string        `name:"alipay-app-id" env:"ALIPAY_APP_ID" placeholder:"$ALIPAY_APP_ID" help:"As for serve: an item that only Alipay can pay then needs time enough."`
}

func (c *saleCreateCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	opensAt, err := parseMoment(c.OpensAt, time.Now())
	if err != nil {
		return err
	}
	sale := flashsale.Sale{Name: c.Name, OpensAt: opensAt, ClosesAt: opensAt.Add(c.Duration)}
	for _, text := range c.Item {
		item, err := parseItem(text)
		if err != nil {
			return err
		}
		sale.Items = append(sale.Items, item)
	}
	if err := sale.ValidateNew(time.Now()); err != nil {
		return fmt.Errorf("the sale is not acceptable: %w", err)
	}
	if err := sale.CheckPayable(ways(c.AlipayID != "", c.PointsURL != "")); err != nil {
		return fmt.Errorf("the sale is not acceptable: %w", err)
	}
	r, err := openRooms(ctx, c.stores, logger, looking)
	if err != nil {
		return err
	}
	defer r.close()
	err = r.acting(ctx, "sale create", sale.Name, func() (err error) {
		if sale, err = r.ledger.CreateSale(ctx, sale); err != nil || !c.Preheat {
			return err
		}
		return r.preheat(ctx, sale.ID)
	})
	if err != nil {
		return err
	}
	return r.printSale(ctx, out, sale)
}

// parseMoment reads when a sale opens.
func parseMoment(text string, now time.Time) (time.Time, error) {
	if text == "now" {
		return now, nil
	}
	if after, err := time.ParseDuration(text); err == nil {
		return now.Add(after), nil
	}
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("--opens-at %q is neither now, nor a duration such as 5m, nor a time such as 2026-11-11T20:00:00+08:00", text)
	}
	return moment, nil
}

// parseItem reads key=value pairs with the names of the admin API.
func parseItem(text string) (flashsale.Item, error) {
	item := flashsale.Item{Limit: 1, PayTimeout: flashsale.DefaultTimeout}
	seen := make(map[string]bool)
	for pair := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return item, fmt.Errorf("--item: %q is not name=value (a value cannot hold a comma)", pair)
		}
		if seen[name] {
			return item, fmt.Errorf("--item: %s is given twice", name)
		}
		seen[name] = true
		if name == "product" {
			item.Product = value
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return item, fmt.Errorf("--item: %s must be an integer, not %q", name, value)
		}
		switch name {
		case "price_fen":
			item.PriceFen = n
		case "points_price":
			item.PointsPrice = n
		case "stock":
			item.Total = n
		case "limit":
			item.Limit = int(n)
		case "pay_timeout_s":
			// One past the bound is refused like everything beyond it, and does not overflow.
			n = min(max(n, 0), int64(flashsale.PayTimeoutMax/time.Second)+1)
			item.PayTimeout = time.Duration(n) * time.Second
		default:
			return item, fmt.Errorf("--item: unknown name %q; known are product, price_fen, points_price, stock, limit, pay_timeout_s", name)
		}
	}
	item.Stock = item.Total
	return item, nil
}

type saleDeleteCommand struct {
	stores `embed:""`
	Sale   string `arg:"" help:"The sale's id."`
}

func (c *saleDeleteCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	return withSale(ctx, c.stores, c.Sale, logger, func(r *rooms, sale flashsale.Sale) error {
		err := r.acting(ctx, "sale delete", "sale "+sale.ID.String(), func() error {
			_, err := r.ledger.DeleteSale(ctx, sale.ID, r.engine.Remove)
			return err
		})
		if errors.Is(err, flashsale.ErrConflict) {
			return fmt.Errorf("somebody has bought from sale %d: it stays", sale.ID)
		}
		if err == nil {
			fmt.Fprintf(out, "deleted: sale %d  %s\n", sale.ID, sale.Name)
		}
		return err
	})
}

type saleListCommand struct {
	stores `embed:""`
	State  string `enum:",upcoming,open,ended" default:"" help:"Only those in this state: upcoming, open, ended."`
}

func (c *saleListCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	ledger, err := postgres.Open(ctx, postgres.Config{URL: c.DatabaseURL, Logger: logger})
	if err != nil {
		return err
	}
	defer ledger.Close()
	if err := ledger.CheckSchema(ctx); err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SALE\tOPENS\tCLOSES\tITEMS\tNAME")
	query := flashsale.SalesQuery{State: flashsale.SaleState(c.State), At: time.Now(), Limit: postgres.SalesMax, Items: 1}
	for {
		sales, err := ledger.Sales(ctx, query)
		if err != nil {
			return err
		}
		for _, sale := range sales {
			fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%s\n", sale.ID, stamp(sale.OpensAt), stamp(sale.ClosesAt), sale.ItemCount, sale.Name)
			query.Before = sale.ID
		}
		if len(sales) < query.Limit {
			break
		}
	}
	return table.Flush()
}

type saleShowCommand struct {
	stores `embed:""`
	Sale   string `arg:"" help:"The sale's id."`
}

func (c *saleShowCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	return withSale(ctx, c.stores, c.Sale, logger, func(r *rooms, sale flashsale.Sale) error {
		return r.printSale(ctx, out, sale)
	})
}

type salePreheatCommand struct {
	stores `embed:""`
	Sale   string `arg:"" help:"The sale's id."`
}

func (c *salePreheatCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	return withSale(ctx, c.stores, c.Sale, logger, func(r *rooms, sale flashsale.Sale) error {
		err := r.acting(ctx, "sale preheat", "sale "+sale.ID.String(), func() error { return r.preheat(ctx, sale.ID) })
		if err != nil {
			return err
		}
		return r.printSale(ctx, out, sale)
	})
}

func withSale(ctx context.Context, s stores, id string, logger *slog.Logger, do func(*rooms, flashsale.Sale) error) error {
	saleID, err := flashsale.ParseID[flashsale.SaleID](id)
	if err != nil {
		return err
	}
	r, err := openRooms(ctx, s, logger, looking)
	if err != nil {
		return err
	}
	defer r.close()
	sale, err := r.ledger.Sale(ctx, saleID)
	if err != nil {
		return err
	}
	return do(r, sale)
}

// preheat loads a sale's items.
func (r *rooms) preheat(ctx context.Context, sale flashsale.SaleID) error {
	return r.newPreheater().PreheatSale(ctx, sale)
}

func (r *rooms) newPreheater() *worker.Preheater {
	return worker.NewPreheater(r.ledger, r.engine, r.logger)
}

// printSale shows what both stores hold of a sale.
func (r *rooms) printSale(ctx context.Context, out io.Writer, sale flashsale.Sale) error {
	fmt.Fprintf(out, "sale %d  %s  %s to %s\n", sale.ID, sale.Name, stamp(sale.OpensAt), stamp(sale.ClosesAt))
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ITEM\tPRODUCT\tPRICE_FEN\tLIMIT\tTOTAL\tSTOCK\tREDIS_STOCK\tREDIS_STATE")
	for _, item := range sale.Items {
		stock, state := "-", "not loaded"
		switch account, err := r.engine.Item(ctx, item.ID); {
		case err == nil:
			stock, state = strconv.FormatInt(account.Stock, 10), account.State
		case !errors.Is(err, flashsale.ErrNotFound):
			return err
		}
		fmt.Fprintf(table, "%d\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", item.ID, item.Product, item.PriceFen,
			item.Limit, item.Total, item.Stock, stock, state)
	}
	return table.Flush()
}

// stamp prints a moment as this machine's clock shows it, with the offset that makes it mean the
// same everywhere.
func stamp(t time.Time) string { return t.Local().Format(time.RFC3339) }
