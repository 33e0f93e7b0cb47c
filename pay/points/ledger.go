package points

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Ledger is the points ledger. It is safe for concurrent use.
type Ledger struct {
	pool        *pgxpool.Pool
	nextTradeNo func() (int64, error)
}

// Open connects to PostgreSQL. It fails when the server cannot be reached: what must wait for
// a server calls it again.
func Open(ctx context.Context, config Config) (*Ledger, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	pool, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		return nil, fmt.Errorf("points config: URL: %w", err)
	}
	pool.MaxConns = int32(config.MaxConns) // at most MaxConnsMax
	pool.ConnConfig.ConnectTimeout = config.ConnectTimeout
	for name, value := range map[string]string{
		"application_name":                    config.ApplicationName,
		"idle_in_transaction_session_timeout": milliseconds(config.IdleInTransactionTimeout),
		"lock_timeout":                        milliseconds(config.LockTimeout),
		"statement_timeout":                   milliseconds(config.StatementTimeout),
		// What was answered must survive a crash, whatever the server's default is.
		"synchronous_commit": "on",
		"timezone":           "UTC",
	} {
		pool.ConnConfig.RuntimeParams[name] = value
	}
	pool.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{
			Name:  "timestamptz",
			OID:   pgtype.TimestamptzOID,
			Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		return nil
	}
	ledger := &Ledger{nextTradeNo: config.NextTradeNo}
	if ledger.pool, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return nil, fmt.Errorf("open points: %w", err)
	}
	if err := ledger.Ping(ctx); err != nil {
		ledger.pool.Close()
		return nil, err
	}
	return ledger, nil
}

// Close waits for the calls under way and closes every connection. It may be called twice.
func (l *Ledger) Close() { l.pool.Close() }

// Ping reports whether PostgreSQL answers.
func (l *Ledger) Ping(ctx context.Context) error {
	return classify("ping points", l.pool.Ping(ctx))
}

// errUnchanged rolls a step back that has nothing to commit, such as the fence of a confirm
// that found no hold.
var errUnchanged = errors.New("unchanged")

// step runs one step in one transaction, which is committed only if the step changed anything.
func (l *Ledger) step(
	ctx context.Context, operation string, fn func(pgx.Tx) (Outcome, error),
) (outcome Outcome, err error) {
	err = l.transact(ctx, operation, pgx.TxOptions{IsoLevel: pgx.ReadCommitted},
		func(tx pgx.Tx) (err error) {
			outcome, err = fn(tx)
			if err == nil && !outcome.Changed() {
				return errUnchanged
			}
			return err
		})
	if err != nil && !errors.Is(err, errUnchanged) {
		return 0, err
	}
	return outcome, nil
}

// transact runs fn in a transaction. The error of fn, or of the commit, is classified.
func (l *Ledger) transact(
	ctx context.Context, operation string, options pgx.TxOptions, fn func(pgx.Tx) error,
) error {
	return classify(operation, pgx.BeginTxFunc(ctx, l.pool, options, fn))
}

// tradeNo draws a trade number.
func (l *Ledger) tradeNo(operation string) (int64, error) {
	number, err := l.nextTradeNo()
	if err == nil && number < 1 {
		err = fmt.Errorf("NextTradeNo returned %d, which is not positive", number)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: trade number: %w", operation, err)
	}
	return number, nil
}

// write runs one statement and reports whether it changed a row.
func write(ctx context.Context, tx pgx.Tx, sql string, args ...any) (changed bool, err error) {
	tag, err := tx.Exec(ctx, sql, args...)
	return tag.RowsAffected() > 0, err
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
