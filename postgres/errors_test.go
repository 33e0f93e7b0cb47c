package postgres

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"flashsale"
)

// The worker sets aside what is permanent and keeps what is transient: a code on the wrong
// side loses an order or blocks the stream.
func TestClassify(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"22021": true, "22003": true, "22P05": true, "23502": true, "23503": true, "23514": true,
		"42P01": false, "42703": false, "42501": false, "42804": true,
		"08006": false, "08P01": false, "40001": false, "40P01": false, "53100": false,
		"53300": false, "55P03": false, "57014": false, "57P01": false, "57P03": false,
		"58030": false, "23505": false, "25006": false, "25P03": false, "XX000": false, "": false,
	} {
		err := classify("persist", fmt.Errorf("insert: %w", &pgconn.PgError{Code: code}))
		if got := errors.Is(err, flashsale.ErrPermanent); got != want {
			t.Errorf("SQLSTATE %q: permanent is %t, want %t", code, got, want)
		}
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != code {
			t.Errorf("SQLSTATE %q is lost in %v", code, err)
		}
	}
	if err := classify("read", io.ErrUnexpectedEOF); errors.Is(err, flashsale.ErrPermanent) ||
		!errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a lost connection: %v", err)
	}
	if err := classify("read", pgx.ErrNoRows); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("no row: %v", err)
	}
	if err := classify("read", nil); err != nil {
		t.Errorf("no error: %v", err)
	}
}
