package postgres

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale/internal/pgpool"
)

// Ledger is the ledger of record. It is safe for concurrent use.
type Ledger struct {
	pool   *pgpool.Pool
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
	pool, err := pgpool.Open(ctx, pgpool.Config{
		ApplicationName: config.ApplicationName,
		ConnectTimeout:  config.ConnectTimeout,
		MaxConns:        config.MaxConns,
		Settings: map[string]string{
			"idle_in_transaction_session_timeout": milliseconds(config.IdleInTransactionTimeout),
			"lock_timeout":                        milliseconds(config.LockTimeout),
			"statement_timeout":                   milliseconds(config.StatementTimeout),
			// Compiling the audit's large query takes longer than running it.
			"jit": "off",
			// A result that is reported must survive a crash, whatever the server's default is.
			"synchronous_commit": "on",
		},
		URL: config.URL,
	})
	if err != nil {
		return nil, classify("ping postgres", err)
	}
	if pool.Pooled() {
		config.Logger.Info("there is a pooler before postgres: nothing is prepared, settings go with each transaction")
	}
	return &Ledger{pool: pool, logger: config.Logger}, nil
}

// Close waits for the calls under way and closes every connection. It may be called twice.
func (l *Ledger) Close() { l.pool.Close() }

// writableSQL writes what nobody reads, to the log of PostgreSQL alone, and waits for it as every
// commit does; a server that only reads says so instead.
const writableSQL = `
SELECT CASE WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' THEN false
	ELSE pg_logical_emit_message(true, 'flashsale', 'ready') IS NOT NULL END`

// Ping reports whether PostgreSQL takes writes.
func (l *Ledger) Ping(ctx context.Context) error {
	var writable bool
	err := l.pool.QueryRow(ctx, writableSQL).Scan(&writable)
	if err == nil && !writable {
		err = errors.New("it is read-only")
	}
	return classify("ping postgres", err)
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
