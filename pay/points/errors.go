package points

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"flashsale"
)

// SQLSTATEs that the ledger tells apart.
const (
	undefinedColumn = "42703"
	uniqueViolation = "23505"
)

// classify says in err's chain what a caller can do about it: [flashsale.ErrNotFound] for a
// missing row, [flashsale.ErrConflict] for a number that belongs to something else and
// [flashsale.ErrPermanent] for what no retry can mend: values (22), other constraints (23) and
// statements (42) that PostgreSQL refuses for ever. Everything else is transient.
func classify(operation string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w", operation, flashsale.ErrNotFound)
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && len(pgErr.Code) == 5 {
		switch class := pgErr.Code[:2]; {
		case pgErr.Code == uniqueViolation:
			return fmt.Errorf("%s: %w: %w", operation, flashsale.ErrConflict, err)
		case class == "22" || class == "23" || class == "42":
			return fmt.Errorf("%s: %w: %w", operation, flashsale.ErrPermanent, err)
		}
	}
	return fmt.Errorf("%s: %w", operation, err)
}

// invalid tells of an argument that can never be accepted.
func invalid(format string, args ...any) error {
	return fmt.Errorf("points: "+format+": %w", append(args, flashsale.ErrPermanent)...)
}
