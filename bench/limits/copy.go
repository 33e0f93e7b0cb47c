package limits

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale/bench/gobench"
	"flashsale/bench/stats"
)

const copyTable = "bench_limit"

// createTable creates a table like that of the orders: its defaults, constraints and indexes.
func (r *run) createTable(ctx context.Context) (err error) {
	if r.copies, err = pgx.Connect(ctx, r.stack.DatabaseURL); err != nil {
		return err
	}
	if _, err := r.copies.Exec(ctx, "CREATE TABLE "+copyTable+" (LIKE orders INCLUDING ALL)"); err != nil {
		return fmt.Errorf("create a table like orders: %w", err)
	}
	return nil
}

// columns are those that the ledger fills in for a fresh order.
var columns = []string{
	"order_no", "item_id", "amount_fen", "amount_points", "generation", "sequence", "reserved_at",
	"pay_deadline", "quantity", "single", "status", "user_id",
}

// copy measures COPY of batches, each in a transaction of its own. Like the orders of the
// ledger's benchmark the rows stay, so both tables grow alike from round to round.
func (r *run) copy(ctx context.Context, n int) error {
	var took time.Duration
	for range r.size(batches) {
		rows := r.rows()
		began := time.Now()
		if _, err := r.copies.CopyFrom(ctx, pgx.Identifier{copyTable}, columns, pgx.CopyFromRows(rows)); err != nil {
			return fmt.Errorf("copy: %w", err)
		}
		took += time.Since(began)
	}
	var held int64
	if err := r.copies.QueryRow(ctx, "SELECT count(*) FROM "+copyTable).Scan(&held); err != nil {
		return fmt.Errorf("count the copied rows: %w", err)
	}
	if held != r.copied {
		return fmt.Errorf("%d rows were copied, but PostgreSQL holds %d", r.copied, held)
	}
	rate := float64(r.size(batches)*gobench.PersistBatch) / took.Seconds()
	r.copyRates = append(r.copyRates, rate)
	r.resultf(n, "bare COPY: %s rows/s", stats.Human(rate))
	return nil
}

// rows are the next batch: orders that ascend, of users in no order, as they come.
func (r *run) rows() [][]any {
	rows := make([][]any, gobench.PersistBatch)
	now := time.Now()
	for n := range rows {
		r.copied++
		user := fmt.Sprintf("user-%016x", uint64(r.copied)*0x9E3779B97F4A7C15)
		rows[n] = []any{
			r.copied, int64(1), int64(100), int64(0), int64(1), r.copied, now,
			now.Add(15 * time.Minute), int32(1), true, "unpaid", user,
		}
	}
	return rows
}
