package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"flashsale"
)

// Protects whoever reads an export: it is whole or it breaks off, also when the fault comes late.
func TestExportOrders(t *testing.T) {
	t.Parallel()
	fault := errors.New("the store went away")
	var late, early error
	b := setup(t, func(c *Config) {
		c.Export = func(_ context.Context, _ flashsale.SaleID, fn func([]flashsale.Order) error) error {
			if early != nil {
				return early
			}
			for n := range 3 {
				if err := fn([]flashsale.Order{{OrderNo: flashsale.OrderNo(n + 1), User: "ann"}}); err != nil {
					return err
				}
			}
			return late
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.ops.Serve(listener) }()
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := errors.Join(b.ops.Shutdown(), <-served); err != nil {
			t.Error(err)
		}
	})
	get := func(query string) (status int, media, body string, err error) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String()+"/v1/admin/sales/3/orders"+query, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(bearer[0], bearer[1])
		response, err := client.Do(request)
		if err != nil {
			return 0, "", "", err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return response.StatusCode, response.Header.Get("Content-Type"), string(text), err
	}
	for query, want := range map[string]string{"": "application/x-ndjson", "?format=ndjson": "application/x-ndjson", "?format=csv": "text/csv; charset=utf-8"} {
		status, media, body, err := get(query)
		if err != nil || status != 200 || media != want || strings.Count(body, "ann") != 3 {
			t.Errorf("%s: %d %s %v\n%s", query, status, media, err, body)
		}
	}
	refused := func(query, want string) {
		t.Helper()
		if status, _, body, err := get(query); err != nil || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s %v, want %s", query, status, body, err, want)
		}
	}
	refused("?format=xml", "invalid_format")
	refused("?format=", "invalid_format")
	refused("?page=1", "unknown_parameter")
	early = flashsale.ErrNotFound
	refused("", "sale_not_found")
	early = io.ErrUnexpectedEOF
	refused("", "unavailable")
	early, late = nil, fault
	if status, _, body, err := get(""); err == nil {
		t.Errorf("an export that met a fault looks whole: %d %s", status, body)
	}
}
