package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"

	"flashsale"
	"flashsale/postgres"
)

type saleExportCommand struct {
	stores `embed:""`
	Sale   string `arg:"" help:"The sale's id."`
	Format string `default:"csv" enum:"csv,ndjson" help:"csv or ndjson."`
}

// Run reads the ledger only, and holds one page of orders in memory.
func (c *saleExportCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	id, err := flashsale.ParseID[flashsale.SaleID](c.Sale)
	if err != nil {
		return err
	}
	ledger, err := postgres.Open(ctx, postgres.Config{URL: c.DatabaseURL, Logger: logger})
	if err != nil {
		return err
	}
	defer ledger.Close()
	if err := ledger.CheckSchema(ctx); err != nil {
		return err
	}
	buffered := bufio.NewWriter(out)
	writer, err := flashsale.NewOrderWriter(buffered, c.Format)
	if err != nil {
		return err
	}
	return errors.Join(ledger.ExportOrders(ctx, id, writer.Write), buffered.Flush())
}
