package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// newTestOps returns an ops listener on a free port, with the one check given.
func newTestOps(t *testing.T, check func(context.Context) error) (ops *Ops, base string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "flashsale_test_total", Help: "Of this test."}))
	ops, err = NewOps(OpsConfig{
		Checks: []Check{{Name: "redis", Probe: check}}, Gatherer: registry, Listener: listener,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ops, "http://" + listener.Addr().String()
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	return send(t, request)
}

// Protects what operators see of a process without shoppers: health, readiness with its reason,
// metrics, profiles, no admin calls; and that they see it until its work has ended.
func TestOps_Run(t *testing.T) {
	t.Parallel()
	fault := make(chan error, 1)
	ops, base := newTestOps(t, func(context.Context) error {
		select {
		case err := <-fault:
			return err
		default:
			return nil
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	draining, finish, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	errWork := errors.New("work failed")
	go func() {
		ended <- ops.Run(ctx, func(ctx context.Context) error {
			<-ctx.Done()
			close(draining)
			<-finish
			return errWork
		})
	}()
	expectAnswer := func(path string, wantStatus int, wantBody string) {
		t.Helper()
		if status, body := get(t, base+path); status != wantStatus || !strings.Contains(body, wantBody) {
			t.Errorf("%s: got %d %s, want %d %s", path, status, body, wantStatus, wantBody)
		}
	}
	expectAnswer("/healthz", 200, `"ok"`)
	expectAnswer("/readyz", 200, `{"redis":"ok","status":"ready"}`)
	fault <- errors.New("away")
	expectAnswer("/readyz", 503, `{"redis":"unreachable","status":"not_ready"}`)
	expectAnswer("/metrics", 200, "flashsale_test_total 0")
	expectAnswer("/debug/pprof/cmdline", 403, "admin_disabled")
	expectAnswer("/v1/admin/audit", 404, "not_found")
	stop()
	receive(t, draining)
	expectAnswer("/readyz", 503, "draining")
	expectAnswer("/healthz", 200, `"ok"`)
	close(finish)
	if err := receive(t, ended); !errors.Is(err, errWork) {
		t.Errorf("Run returned %v, want the error of the work", err)
	}
}

// Protects a process from going on unwatched: it ends when its listener does.
func TestOps_ListenerFails(t *testing.T) {
	t.Parallel()
	ops, _ := newTestOps(t, func(context.Context) error { return nil })
	if err := ops.config.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	err := ops.Run(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run returned %v, want what befell the listener", err)
	}
}
