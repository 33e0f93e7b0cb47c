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

// A code on the wrong side rings no alarm, or one for what passes by itself. None of them is
// held against an order.
func TestClassify(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"22021": true, "22003": true, "23502": true, "23503": true, "23514": true, "23505": true,
		"42P01": true, "42703": true, "42501": true, "42804": true, "42P10": true,
		"25006": true, "26000": true, "42P05": true, "0A000": true, "P0001": true, "XX000": true,
		"08006": false, "08P01": false, "40001": false, "40P01": false, "53100": false,
		"53300": false, "55P03": false, "57014": false, "57P01": false, "57P03": false,
		"58030": false, "25P03": false,
	} {
		err := classify("persist", fmt.Errorf("insert: %w", &pgconn.PgError{Code: code}))
		if got := errors.Is(err, flashsale.ErrRefused); got != want {
			t.Errorf("SQLSTATE %q: refused is %t, want %t", code, got, want)
		}
		if errors.Is(err, flashsale.ErrPermanent) {
			t.Errorf("SQLSTATE %q is held against an order", code)
		}
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != code {
			t.Errorf("SQLSTATE %q is lost in %v", code, err)
		}
	}
	if err := classify("read", io.ErrUnexpectedEOF); errors.Is(err, flashsale.ErrRefused) ||
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
