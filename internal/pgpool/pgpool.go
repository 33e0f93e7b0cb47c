package pgpool

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// readOnly is the SQLSTATE of a write that was refused because the session only reads.
const readOnly = "25006"

// ours are settings that no database or role may change for us.
var ours = map[string]string{
	"client_encoding":               "UTF8",
	"datestyle":                     "ISO",
	"default_transaction_isolation": "read committed",
	"intervalstyle":                 "postgres",
	"search_path":                   "public", // unless the URL says another
	"standard_conforming_strings":   "on",
	"timezone":                      "UTC",
}

// Config is what [Open] needs.
type Config struct {
	ApplicationName string
	ConnectTimeout  time.Duration
	MaxConns        int
	Settings        map[string]string // of every statement, beside ours
	URL             string
}

// Pool is a pgxpool.Pool whose statements run under the settings.
type Pool struct {
	*pgxpool.Pool
	begin  string // settings that begin every transaction; "": the connections have them
	pooled bool
}

// Open connects once, to see that it can and what is in between.
func Open(ctx context.Context, config Config) (*Pool, error) {
	parsed, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		return nil, fmt.Errorf("URL: %w", err)
	}
	conn := parsed.ConnConfig
	conn.ConnectTimeout = config.ConnectTimeout
	conn.RuntimeParams["application_name"] = config.ApplicationName
	if !strings.Contains(config.URL, "target_session_attrs") {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	onError := conn.OnPgError
	conn.OnPgError = func(c *pgconn.PgConn, err *pgconn.PgError) bool {
		return err.Code != readOnly && onError(c, err)
	}
	settings := make(map[string]string)
	for _, from := range []map[string]string{ours, config.Settings} {
		for name, value := range from {
			settings[name] = value
		}
	}
	settings["search_path"] = cmp.Or(conn.RuntimeParams["search_path"], settings["search_path"])
	pool := &Pool{}
	if pool.pooled, err = isPooled(ctx, conn); err != nil {
		return nil, err
	}
	if pool.pooled {
		conn.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		pool.begin = setLocal(settings)
	} else {
		for name, value := range settings {
			conn.RuntimeParams[name] = value
		}
	}
	parsed.MaxConns = int32(config.MaxConns) //nolint:gosec // its caller has bounded it
	parsed.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{
			Name:  "timestamptz",
			OID:   pgtype.TimestamptzOID,
			Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		return nil
	}
	pool.Pool, err = pgxpool.NewWithConfig(ctx, parsed)
	return pool, err
}

// Pooled reports whether there is a pooler between us and PostgreSQL.
func (p *Pool) Pooled() bool { return p.pooled }

// isPooled reports whether the process that a connection was told is not the one that answers.
func isPooled(ctx context.Context, config *pgx.ConnConfig) (bool, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	var pid uint32
	err = conn.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid)
	return pid != conn.PgConn().PID(), err
}

// setLocal are the statements that put settings on the transaction in which they run.
func setLocal(settings map[string]string) string {
	var text []string
	for name, value := range settings {
		switch name {
		case "client_encoding": // a pooler keeps it for its client
		case "default_transaction_isolation": // the transaction says its own
		case "search_path":
			text = append(text, "SET LOCAL search_path TO "+value)
		default:
			text = append(text, "SET LOCAL "+name+" TO '"+strings.ReplaceAll(value, "'", "''")+"'")
		}
	}
	slices.Sort(text)
	return strings.Join(text, "; ")
}

// Begin starts a transaction.
func (p *Pool) Begin(ctx context.Context) (pgx.Tx, error) { return p.BeginTx(ctx, pgx.TxOptions{}) }

// BeginTx starts a transaction.
func (p *Pool) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	if p.pooled {
		options.BeginQuery = fmt.Sprintf("BEGIN ISOLATION LEVEL %s %s; %s",
			cmp.Or(options.IsoLevel, pgx.ReadCommitted), options.AccessMode, p.begin)
	}
	return p.Pool.BeginTx(ctx, options)
}

// Exec runs one statement.
func (p *Pool) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	if !p.pooled {
		return p.Pool.Exec(ctx, sql, args...)
	}
	err = pgx.BeginFunc(ctx, p, func(tx pgx.Tx) (err error) {
		tag, err = tx.Exec(ctx, sql, args...)
		return err
	})
	return tag, err
}

// Query runs one statement. The rows must be read to their end or closed.
func (p *Pool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if !p.pooled {
		return p.Pool.Query(ctx, sql, args...)
	}
	tx, err := p.Begin(ctx)
	if err != nil {
		return failedRows{err: err}, err
	}
	rows, err := tx.Query(ctx, sql, args...)
	return &txRows{Rows: rows, ctx: ctx, tx: tx}, err
}

// QueryRow runs one statement whose first row is wanted.
func (p *Pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if !p.pooled {
		return p.Pool.QueryRow(ctx, sql, args...)
	}
	rows, _ := p.Query(ctx, sql, args...) // its error comes with the row
	return row{rows}
}

// txRows are the rows of the one statement of a transaction, which they end.
type txRows struct {
	pgx.Rows
	ctx   context.Context
	tx    pgx.Tx
	ended bool
	fault error // of the commit
}

func (r *txRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *txRows) Close() {
	r.Rows.Close()
	if r.ended {
		return
	}
	r.ended = true
	if r.Rows.Err() != nil {
		_ = r.tx.Rollback(r.ctx) // the error of the statement says more
		return
	}
	r.fault = r.tx.Commit(r.ctx)
}

func (r *txRows) Err() error { return cmp.Or(r.Rows.Err(), r.fault) }

// row is the first of rows.
type row struct{ rows pgx.Rows }

func (r row) Scan(dest ...any) error {
	defer r.rows.Close()
	if !r.rows.Next() {
		return cmp.Or(r.rows.Err(), pgx.ErrNoRows)
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// failedRows are those of a statement that was not run.
type failedRows struct {
	pgx.Rows
	err error
}

func (r failedRows) Close()            {}
func (r failedRows) Err() error        { return r.err }
func (r failedRows) Next() bool        { return false }
func (r failedRows) Scan(...any) error { return r.err }
