package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"flashsale"
)

// SQLSTATEs and constraints that the ledger reacts to by itself.
const (
	uniqueViolation       = "23505"
	checkViolation        = "23514"
	undefinedColumn       = "42703"
	undefinedTable        = "42P01"
	insufficientPrivilege = "42501"

	stockConstraint = "items_stock"
	limitConstraint = "holdings_within_limit"
)

// classify says in err's chain what a caller can do about it: [flashsale.ErrNotFound] for a
// missing row and [flashsale.ErrPermanent] for what no retry can mend. Everything else is
// transient: PostgreSQL away or restarting (08, 57P), short of something (53), rolled back
// (40), waiting too long (55P03, 57014), broken underneath (58), a lost connection, or an
// error nobody has seen yet, where waiting is safer than setting aside.
func classify(operation string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w", operation, flashsale.ErrNotFound)
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && permanent(pgErr.Code) {
		return fmt.Errorf("%s: %w: %w", operation, flashsale.ErrPermanent, err)
	}
	return fmt.Errorf("%s: %w", operation, err)
}

// permanent tells whether the same statement with the same values can never succeed: the data
// cannot be stored (22), a constraint on one row refuses it, or the statement is wrong (42).
// A table, column or right that is missing under a running worker says nothing about the
// orders: they wait for it to come back instead of becoming dead letters one by one.
func permanent(sqlState string) bool {
	switch sqlState {
	case "23502", "23503", checkViolation:
		return true
	case undefinedTable, undefinedColumn, insufficientPrivilege:
		return false
	}
	return len(sqlState) == 5 && (sqlState[:2] == "22" || sqlState[:2] == "42")
}

// refusedByAnOrder reports whether a batch was refused because of orders that the careful road
// can tell apart: one that is there already, one too many for the stock or for a user.
func refusedByAnOrder(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	return pgErr.Code == uniqueViolation || pgErr.Code == checkViolation &&
		(pgErr.ConstraintName == stockConstraint || pgErr.ConstraintName == limitConstraint)
}

func isUniqueViolation(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == uniqueViolation
}
