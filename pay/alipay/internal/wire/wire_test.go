package wire_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flashsale/pay/alipay/internal/wire"
)

// It protects money: an amount is read exactly or not at all.
func TestParseFen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "0.00": 0, "0.01": 1, "0.1": 10, "1": 100, "12.30": 1230, "12.3": 1230, "12": 1200,
		"1299.00": 129900, "99999999.99": 9999999999, "100000000.00": wire.FenMax, "100000000": wire.FenMax,
	} {
		if got, err := wire.ParseFen(text); err != nil || got != want {
			t.Errorf("ParseFen(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", ".", "1.", ".5", "12.345", "12.3456", "12.300", "-1", "+1", "-0.01", "1e2", "1E2", "0x10", " 1", "1 ",
		"1,000.00", "1.2.3", "01", "00", "00.10", "1.-1", "1.+1", "1._1", "１２", "١٢", "NaN", "Inf", "1\n", "1\x00",
		"100000000.01", "100000001", "999999999.99", "1000000000", "99999999999999999999", "9223372036854775808",
	} {
		if got, err := wire.ParseFen(text); err == nil {
			t.Errorf("ParseFen(%q) = %d, want an error", text, got)
		}
	}
}

// It protects money from every text: what is read is what was written, and nothing else is read.
func FuzzParseFen(f *testing.F) {
	for _, seed := range []string{"0", "12.30", "12.3", "12.3456", "-1", "1e3", "00.1", "100000000.00", "1.", ".1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fen, err := wire.ParseFen(text)
		if err != nil {
			if fen != 0 {
				t.Fatalf("ParseFen(%q) = %d beside an error", text, fen)
			}
			return
		}
		if fen < 0 || fen > wire.FenMax {
			t.Fatalf("ParseFen(%q) = %d, out of range", text, fen)
		}
		whole, decimals, _ := strings.Cut(text, ".")
		if full := whole + "." + (decimals + "00")[:2]; wire.FormatFen(fen) != full {
			t.Fatalf("ParseFen(%q) = %d, which is written %s", text, fen, wire.FormatFen(fen))
		}
		if again, err := wire.ParseFen(wire.FormatFen(fen)); err != nil || again != fen {
			t.Fatalf("ParseFen(FormatFen(%d)) = %d, %v", fen, again, err)
		}
	})
}

// It protects deadlines: the protocol's clock is Beijing's, wherever the process runs.
func TestTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 18, 30, 5, 999_000_000, time.UTC)
	if got := wire.FormatTime(at); got != "2026-01-03 02:30:05" {
		t.Errorf("FormatTime = %s", got)
	}
	for _, text := range []string{"2026-01-03 02:30:05", "2026-01-03 02:30:05.999"} {
		got, err := wire.ParseTime(text)
		if err != nil || got.Truncate(time.Second) != at.Truncate(time.Second).In(wire.Beijing) {
			t.Errorf("ParseTime(%q) = %v, %v", text, got, err)
		}
	}
	if got, err := wire.ParseTime("2026-01-03T02:30:05Z"); err == nil {
		t.Errorf("ParseTime of another layout = %v", got)
	}
}

// It protects certificate mode: serial numbers as the openssl command line computes them.
func TestCertSN(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"root", "app", "alipay"} {
		block, _ := pem.Decode([]byte(read(t, name+".crt")))
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := wire.CertSN(cert), strings.TrimSpace(read(t, name+".sn")); got != want {
			t.Errorf("CertSN of %s = %s, openssl says %s", name, got, want)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
