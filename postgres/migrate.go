package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"flashsale"
	"flashsale/internal/pgschema"
)

// ErrSchema is returned when the database does not hold the schema of this version. The text
// around it says what to do.
var ErrSchema = pgschema.ErrMismatch

// Keys of our advisory locks, which are numbers of the whole database: "flsh" and a counter.
const (
	migrateLock int64 = 0x666c7368_01
	relayLock   int64 = 0x666c7368_02
)

var schema = pgschema.Schema{
	Env: "DATABASE_URL", Lock: migrateLock, Owner: "flashsale", SQL: flashsale.Schema, VersionTable: "schema_version",
	Upgrades: upgrades,
}

// Migrate creates the schema in an empty database, or upgrades an earlier one, as one transaction,
// and reports whether it did. A database that holds this version is left as it is; any other is
// refused with [ErrSchema] and not touched. Processes that migrate at the same time queue.
func (l *Ledger) Migrate(ctx context.Context) (applied bool, err error) {
	err = l.transact(ctx, "migrate", pgx.TxOptions{}, func(tx pgx.Tx) (err error) {
		applied, err = schema.Migrate(ctx, tx)
		return err
	})
	return applied && err == nil, err
}

// CheckSchema returns [ErrSchema] unless the database holds the schema of this version.
func (l *Ledger) CheckSchema(ctx context.Context) error {
	return l.transact(ctx, "check schema", pgx.TxOptions{AccessMode: pgx.ReadOnly},
		func(tx pgx.Tx) error { return schema.Check(ctx, tx) })
}
