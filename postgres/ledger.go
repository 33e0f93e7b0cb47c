package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Ledger is the ledger of record. It is safe for concurrent use.
type Ledger struct {
	pool   *pgxpool.Pool
	logger *slog.Logger

	// many remembers the items whose limit is more than 1, so that their batches are sent as
	// the statement that counts holdings at once. Only a shortcut: every statement checks the
	// limit itself.
	many sync.Map // flashsale.ItemID → struct{}

	blocked blockedItems // what the outbox leaves out for the moment
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
		return nil, fmt.Errorf("postgres config: URL: %w", err)
	}
	pool.MaxConns = int32(config.MaxConns)
	pool.ConnConfig.ConnectTimeout = config.ConnectTimeout
	for name, value := range map[string]string{
		"application_name":                    config.ApplicationName,
		"idle_in_transaction_session_timeout": milliseconds(config.IdleInTransactionTimeout),
		"lock_timeout":                        milliseconds(config.LockTimeout),
		"statement_timeout":                   milliseconds(config.StatementTimeout),
		// Compiling the audit's large query takes longer than running it.
		"jit": "off",
		// A result that is reported must survive a crash, whatever the server's default is.
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
	ledger := &Ledger{logger: config.Logger}
	if ledger.pool, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return nil, fmt.Errorf("open postgres: %w", err)
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
	if err := l.pool.Ping(ctx); err != nil {
		return classify("ping postgres", err)
	}
	return nil
}

// transact runs fn in a transaction. The error of fn, or of the commit, is classified.
func (l *Ledger) transact(
	ctx context.Context, operation string, options pgx.TxOptions, fn func(pgx.Tx) error,
) error {
	return classify(operation, pgx.BeginTxFunc(ctx, l.pool, options, fn))
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// int64s turns ids into what PostgreSQL takes as bigint[].
func int64s[ID ~int64](ids []ID) []int64 {
	numbers := make([]int64, len(ids))
	for i, id := range ids {
		numbers[i] = int64(id)
	}
	return numbers
}
