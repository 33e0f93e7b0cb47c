package main

import (
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Protects the table of limits: it has every one of them, with the default that --help tells.
func TestOperations_Limits(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(operationsPage)
	if err != nil {
		t.Fatal(err)
	}
	var flags struct {
		starting       `embed:""`
		databaseLimits `embed:""`
		limits         `embed:""`
	}
	parser, err := kong.New(&flags, limitDefaults)
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, flag := range parser.Model.Flags {
		if len(flag.Envs) == 0 { // --help
			continue
		}
		row := fmt.Sprintf("| `%s` | %s | %s |", flag.Envs[0], flag.Default, flag.Help)
		rows = append(rows, row)
		if !strings.Contains(string(page), row+"\n") {
			t.Errorf("%s lacks the line\n%s", operationsPage, row)
		}
	}
	fields := reflect.TypeFor[starting]().NumField() + reflect.TypeFor[limits]().NumField() + reflect.TypeFor[databaseLimits]().NumField()
	if len(rows) != fields {
		t.Errorf("%d limits seen, there are %d:\n%s", len(rows), fields, strings.Join(rows, "\n"))
	}
}

// Protects shoppers with many cookies, which a shop's other programs set for its domain.
func TestServe_Headers(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	for _, c := range []struct {
		env    string
		bytes  int
		status int
	}{{"", 6 << 10, http.StatusOK}, {"", 9 << 10, http.StatusRequestHeaderFieldsTooLarge}, {"HEADER_BYTES_MAX=16384", 9 << 10, http.StatusOK}} {
		limited := *i
		limited.env = append(limited.env, c.env)
		p := limited.serve()
		r, err := call(t.Context(), http.MethodGet, p.base+"/v1/sales", "", map[string]string{"Cookie": "c=" + strings.Repeat("x", c.bytes)}, "")
		if err != nil || r.status != c.status {
			t.Errorf("%s a cookie of %d bytes: %d %v, want %d", c.env, c.bytes, r.status, err, c.status)
		}
		p.kill()
	}
}
