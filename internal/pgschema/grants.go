package pgschema

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrRights is returned when a role lacks rights on our tables. The text around it says what to do.
var ErrRights = errors.New("rights are missing")

const insufficientPrivilege = "42501"

var createTable = regexp.MustCompile(`(?m)^CREATE TABLE ([a-z_]+) \(`)

// tables are those of the schema, without that of its version.
func (s Schema) tables() (names []string) {
	for _, found := range createTable.FindAllStringSubmatch(s.SQL, -1) {
		names = append(names, found[1])
	}
	return names
}

// Grants returns the SQL that gives a role all that the program needs, beside migrating.
func (s Schema) Grants(role string) string {
	to := " TO " + pgx.Identifier{role}.Sanitize() + ";\n"
	text := "GRANT USAGE ON SCHEMA public" + to +
		"GRANT SELECT ON " + s.table() + to +
		"GRANT SELECT, INSERT, UPDATE, DELETE ON " + strings.Join(s.tables(), ", ") + to
	if len(s.Sequences) > 0 {
		text += "GRANT SELECT ON SEQUENCE " + strings.Join(s.Sequences, ", ") + to
	}
	return text
}

const missingRightsSQL = `
SELECT name FROM unnest($1::text[]) AS name
WHERE NOT (has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'INSERT')
       AND has_table_privilege(name, 'UPDATE') AND has_table_privilege(name, 'DELETE'))
UNION ALL
SELECT name FROM unnest($2::text[]) AS name WHERE NOT has_sequence_privilege(name, 'SELECT')`

// checkRights returns [ErrRights] unless the session's role may do what the program does.
func (s Schema) checkRights(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, missingRightsSQL, s.tables(), slices.Clone(s.Sequences)) // its error comes with the rows
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return s.noRights(tx, "on "+strings.Join(missing, ", "))
	}
	return nil
}

func (s Schema) noRights(tx pgx.Tx, what string) error {
	role := tx.Conn().Config().User
	return fmt.Errorf("%w: role %s %s in the database of %s: its owner gives them with flashsale migrate --print-grants %s | psql",
		ErrRights, role, what, s.Env, role)
}

func isDenied(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == insufficientPrivilege
}
