// Package flashsale is the domain of the flash-sale engine: the words that every other
// room shares, and the schema of the ledger of record.
//
// A [Sale] is a timed event that offers one or more [Item]s, each with its own stock,
// limit for each user and window. A user who wins units of an item holds an [Order].
// Whether a request wins is an [Outcome]: losing is an expected answer, never an error.
//
// The package promises only vocabulary and validation: it talks to no database, imports
// none of our rooms and keeps no state. Money is an integer of fen, ids are 63-bit
// integers that travel as decimal strings (a JSON or Lua number would lose their low bits),
// and times are [time.Time] in Go and milliseconds since 1970 everywhere outside of it.
package flashsale

import (
	_ "embed"
	"errors"
)

// Schema is the SQL that creates the ledger of record in an empty PostgreSQL database.
//
//go:embed schema.sql
var Schema string

// ErrPermanent marks a fault that no retry can mend, such as an order with text that PostgreSQL
// can never store. Every other error is taken as one that waiting or an operator can end.
var ErrPermanent = errors.New("permanent")

// ErrRefused tells that the ledger of record answers and will take nothing before somebody mends
// it: its schema, its rights or its settings are wrong. It says nothing about any order.
var ErrRefused = errors.New("refused by the ledger")

// ErrNotFound tells that no such record exists.
var ErrNotFound = errors.New("not found")

// ErrConflict tells that a record exists in a state that does not allow the change.
var ErrConflict = errors.New("conflict")

// ErrUnacceptable tells that what was asked for can never be, and why.
var ErrUnacceptable = errors.New("not acceptable")

// User is who buys, as the login system's session tells it.
type User struct {
	ID   string `json:"user"`
	Name string `json:"name,omitempty"`
}
