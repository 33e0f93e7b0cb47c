package points

import (
	"context"
	_ "embed"

	"github.com/jackc/pgx/v5"

	"flashsale/internal/pgschema"
)

// Schema is the SQL that creates the points ledger in an empty PostgreSQL database.
//
//go:embed schema.sql
var Schema string

// ErrSchema is returned when the database does not hold the schema of this version. The text
// around it says what to do.
var ErrSchema = pgschema.ErrMismatch

// migrateLock is the key of our advisory lock, a number of the whole database: "pnts" and 1.
const migrateLock int64 = 0x706e7473_01

var schema = pgschema.Schema{
	Env: "POINTS_DATABASE_URL", Lock: migrateLock, Owner: "points", SQL: Schema, VersionTable: "points_schema_version",
}

// Migrate creates the schema in an empty database, as one transaction, and reports whether it
// did. A database that holds this version is left as it is; any other is refused with
// [ErrSchema] and not touched. Processes that migrate at the same time queue.
func (l *Ledger) Migrate(ctx context.Context) (applied bool, err error) {
	err = l.transact(ctx, "migrate points", pgx.TxOptions{IsoLevel: pgx.ReadCommitted},
		func(tx pgx.Tx) (err error) {
			applied, err = schema.Migrate(ctx, tx)
			return err
		})
	return applied && err == nil, err
}

// CheckSchema returns [ErrSchema] unless the database holds the schema of this version.
func (l *Ledger) CheckSchema(ctx context.Context) error {
	return l.transact(ctx, "check points schema", pgx.TxOptions{AccessMode: pgx.ReadOnly},
		func(tx pgx.Tx) error { return schema.Check(ctx, tx) })
}
