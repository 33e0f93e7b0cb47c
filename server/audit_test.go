package server

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
)

// An audit that takes longer than a request goes on: whoever asks meanwhile is told how far it is
// and does not start another, and the first who asks afterwards gets its report, once.
func TestAudit_LongerThanARequest(t *testing.T) {
	t.Parallel()
	var started atomic.Int32
	begun, finish := make(chan struct{}), make(chan struct{})
	b := setup(t, func(c *Config) {
		c.Audit = func(_ context.Context, full bool, progress func(any)) (any, error) {
			n := started.Add(1)
			if full && n == 1 {
				progress(map[string]int{"items": 7})
				close(begun)
				<-finish
			}
			return map[string]any{"audit": n, "full": full}, nil
		}
	})
	ask := func(query string) string {
		return string(b.callOps("GET", "/v1/admin/audit"+query, "", bearer...).Body())
	}
	if got := ask("?full=1&wait=0s"); !strings.HasPrefix(got, `{"running":true,"since_ms":`) {
		t.Errorf("at its start: %s", got)
	}
	<-begun
	response := b.callOps("GET", "/v1/admin/audit?full=1&wait=1ms", "", bearer...)
	if got := string(response.Body()); response.StatusCode() != 202 || !strings.Contains(got, `"progress":{"items":7}`) {
		t.Errorf("while it runs: %d %s", response.StatusCode(), got)
	}
	if got := ask(""); got != `{"audit":2,"full":false}` {
		t.Errorf("another kind: %s", got)
	}
	close(finish)
	for n, want := range []string{`{"audit":1,"full":true}`, `{"audit":3,"full":true}`} {
		if got := ask("?full=1"); got != want {
			t.Errorf("report %d: %s, want %s", n, got, want)
		}
	}
	for query, want := range map[string]string{
		"?full=yes": "400 invalid_full", "?full=": "400 invalid_full", "?wait=1h": "400 invalid_wait",
	} {
		if got := code(b.callOps("GET", "/v1/admin/audit"+query, "", bearer...)); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}
