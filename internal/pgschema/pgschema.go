// Package pgschema creates the schema of one of our databases, and tells whether a database has
// it: the orders' ledger and the points' ledger each have a database and a schema of their own.
//
// A version is the hash of the schema's text, so nobody can forget to raise it. An empty database
// gets the newest whole, in one transaction; one that holds an older version from which upgrades
// lead to the newest is upgraded, likewise; one that has it is left as it is; any other is refused
// and not touched.
package pgschema

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrMismatch is returned when a database does not hold the schema of this version. The text
// around it says what to do.
var ErrMismatch = errors.New("schema does not fit")

// undefinedColumn is the SQLSTATE of a version table that somebody else made.
const undefinedColumn = "42703"

// What extensions bring along (such as pg_stat_statements) belongs to nobody's schema.
const foreignTablesSQL = `
SELECT c.relname::text
FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relname
LIMIT 6`

// Schema is what a database should hold.
type Schema struct {
	// Env is the environment variable that names the database, for what is said to people.
	Env string
	// Lock is the key of the advisory lock under which it is created.
	Lock int64
	// Owner is whose database it is, for what is said to people.
	Owner string
	// SQL creates everything in an empty database.
	SQL string
	// Upgrades lead from older versions to that of SQL, each a step.
	Upgrades []Upgrade
	// VersionTable keeps the version. Each of our databases has a name of its own for it, so that
	// who mixes two of them up is told of a mix-up, not of another version.
	VersionTable string
}

// Upgrade changes a database of one version into one of another.
type Upgrade struct {
	From, To string // versions: [Version] of the schemas' texts
	SQL      string // its outcome must be the same as what the newer text creates
}

// Migrate creates the schema in an empty database, or upgrades an older one, and reports whether
// it did. Processes that migrate at the same time queue. The transaction must be committed
// afterwards.
func (s Schema) Migrate(ctx context.Context, tx pgx.Tx) (applied bool, err error) {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, s.Lock); err != nil {
		return false, err
	}
	switch found, err := s.stored(ctx, tx); {
	case err != nil:
		return false, err
	case found != "":
		return s.upgrade(ctx, tx, found)
	}
	rows, _ := tx.Query(ctx, foreignTablesSQL) // its error comes with the rows
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return false, err
	}
	if len(tables) > 0 {
		return false, s.notOurs("tables that are not ours (" + strings.Join(tables, ", ") + ")")
	}
	createVersion := `CREATE TABLE ` + s.table() + ` (
    sha256     text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
)`
	for _, sql := range []string{s.SQL, createVersion} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return false, err
		}
	}
	_, err = tx.Exec(ctx, `INSERT INTO `+s.table()+` (sha256) VALUES ($1)`, s.version())
	return err == nil, err
}

// upgrade takes a database from the version found to the newest, if the steps lead there.
func (s Schema) upgrade(ctx context.Context, tx pgx.Tx, found string) (applied bool, err error) {
	steps, ok := s.path(found)
	if !ok {
		return false, s.check(found)
	}
	for _, step := range steps {
		if _, err := tx.Exec(ctx, step.SQL); err != nil {
			return false, fmt.Errorf("upgrade from version %.12s: %w", step.From, err)
		}
	}
	if len(steps) == 0 {
		return false, nil
	}
	_, err = tx.Exec(ctx, `UPDATE `+s.table()+` SET sha256 = $1, applied_at = now()`, s.version())
	return err == nil, err
}

// path returns the steps from a version to the newest, and whether they lead there.
func (s Schema) path(from string) (steps []Upgrade, ok bool) {
	want := s.version()
	for from != want {
		n := slices.IndexFunc(s.Upgrades, func(u Upgrade) bool { return u.From == from })
		if n < 0 || len(steps) == len(s.Upgrades) {
			return nil, false
		}
		steps = append(steps, s.Upgrades[n])
		from = s.Upgrades[n].To
	}
	return steps, true
}

// Check returns [ErrMismatch] unless the database holds the schema of this version.
func (s Schema) Check(ctx context.Context, tx pgx.Tx) error {
	found, err := s.stored(ctx, tx)
	if err != nil {
		return err
	}
	if found == "" {
		return fmt.Errorf("%w: the database holds none: run flashsale migrate", ErrMismatch)
	}
	return s.check(found)
}

// stored returns the version that the database was created with, "" if none was.
func (s Schema) stored(ctx context.Context, tx pgx.Tx) (version string, err error) {
	var exists bool
	// Not to_regclass: that asks the session's cache, which may still remember that there was no
	// such table although somebody else has created it since.
	const existsSQL = `SELECT EXISTS (SELECT FROM pg_class
WHERE relname = $1 AND relnamespace = current_schema()::regnamespace)`
	if err = tx.QueryRow(ctx, existsSQL, s.VersionTable).Scan(&exists); err != nil || !exists {
		return "", err
	}
	err = tx.QueryRow(ctx, `SELECT sha256 FROM `+s.table()).Scan(&version)
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if errors.Is(err, pgx.ErrNoRows) || ok && pgErr.Code == undefinedColumn {
		return "", s.notOurs("a table " + s.VersionTable + " that is not ours")
	}
	return version, err
}

func (s Schema) check(found string) error {
	want := s.version()
	if found == want {
		return nil
	}
	if _, ok := s.path(found); ok {
		return fmt.Errorf("%w: the database holds the older version %.12s: stop every process and run flashsale migrate",
			ErrMismatch, found)
	}
	return fmt.Errorf("%w: the database holds version %.12s, this program needs %.12s: "+
		"run the program that created it, or migrate an empty database and move the data there",
		ErrMismatch, found, want)
}

func (s Schema) notOurs(what string) error {
	return fmt.Errorf("%w: the database holds %s: give %s an empty database of its own and set %s to it",
		ErrMismatch, what, s.Owner, s.Env)
}

func (s Schema) table() string { return pgx.Identifier{s.VersionTable}.Sanitize() }

func (s Schema) version() string { return Version(s.SQL) }

// Version returns the version of a schema's text.
func Version(sql string) string {
	sum := sha256.Sum256([]byte(sql))
	return hex.EncodeToString(sum[:])
}
