package postgres

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"flashsale"
)

// SQLSTATEs and constraints that the ledger reacts to by itself.
const (
	uniqueViolation    = "23505"
	checkViolation     = "23514"
	notInRepertoire    = "22021" // bytes that the encoding does not have
	untranslatable     = "22P05" // a character that the database's encoding does not have
	lockNotAvailable   = "55P03"
	transactionTimeout = "25P04"
	idleInTransaction  = "25P03"
	stockConstraint    = "items_stock"
	limitConstraint    = "holdings_within_limit"
)

// classify says in err's chain what a caller can do about it: [flashsale.ErrNotFound] for a
// missing row, and [flashsale.ErrRefused] where PostgreSQL answers what only an operator can
// change. Everything else passes by itself.
func classify(operation string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w", operation, flashsale.ErrNotFound)
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && !passing(pgErr.Code) {
		return fmt.Errorf("%s: %w: %w", operation, flashsale.ErrRefused, err)
	}
	return fmt.Errorf("%s: %w", operation, err)
}

// passing tells whether a refusal passes by itself: PostgreSQL is restarting or was told to
// stop (08, 57), is short of something (53), has rolled back (40), was waited for too long, or
// something underneath it fails (58). All other codes say that our statement and this database
// do not fit: a schema that somebody changed, a right or a setting that is missing, a server
// that only reads, a pooler that mixes our prepared statements up.
func passing(sqlState string) bool {
	switch sqlState {
	case lockNotAvailable, idleInTransaction, transactionTimeout:
		return true
	}
	switch sqlState[:min(2, len(sqlState))] {
	case "08", "40", "53", "57", "58":
		return true
	}
	return false
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

// Away reports whether PostgreSQL could not be reached or would not serve for the moment, so that
// the same may succeed in a while: it starts or ends, has no connection left, is read-only.
func Away(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return slices.Contains([]string{"08", "53", "57"}, pgErr.Code[:min(2, len(pgErr.Code))])
	}
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	return connect || network || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}
