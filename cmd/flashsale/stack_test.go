package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"flashsale/internal/devstack/stacktest"
)

// Protects whoever starts a stack for a load test: what it prints is all that a server and a
// worker need to sell and to be paid, its secrets stay off the log, and it ends with its standard
// input.
func TestStack_Alipay(t *testing.T) {
	t.Parallel()
	i := &installation{t: t}
	cmd := i.exec("stack", "--dir", stacktest.Dir(t), "--alipay")
	var log bytes.Buffer
	cmd.Stderr = &log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := sync.OnceValue(func() error {
		_ = stdin.Close()
		return cmd.Wait()
	})
	t.Cleanup(func() { _ = end() })
	var where stackAddresses
	if err := json.NewDecoder(stdout).Decode(&where); err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}

	addr := freeAddr("127.0.0.1:0")
	i.env = []string{
		"REDIS_URL=" + where.RedisURL, "DATABASE_URL=" + where.DatabaseURL, "POINTS_DATABASE_URL=" + where.PointsURL,
		"ADDR=" + addr, "PUBLIC_URL=http://" + addr, "OPS_ADDR=127.0.0.1:0", "WORK_OPS_ADDR=127.0.0.1:0",
	}
	for name, value := range where.Alipay {
		i.env = append(i.env, name+"="+value)
	}
	i.command(exitOK, "migrate")
	s := &shop{installation: i}
	item := i.sell(1, "")
	server, worker := i.serve(), i.work("w")
	b := buyer{user: shopper("ann", 0), token: i.tokens("ann", 1)[0]}
	bought, err := insist(t.Context(), func() []string { return []string{server.base} }, item, b.token, "once")
	if err != nil {
		t.Fatal(err)
	}
	b.order = bought.OrderNo
	waitStatus(t, server, b.token, b.order, "unpaid")
	started := settlementOf(t, s.demand(&keeper{current: server}, b, "payments", `{"method":"alipay"}`, http.StatusOK))
	i.visit(started.PayURL)
	pay := strings.TrimSuffix(where.Alipay["ALIPAY_GATEWAY"], "/gateway.do") + "/sandbox/trades/" + b.order + "/pay"
	if paid, err := call(t.Context(), http.MethodPost, pay, "", nil, ""); err != nil || paid.status != http.StatusOK {
		t.Fatalf("the shopper pays: %s %v", paid.text, err)
	}
	waitStatus(t, server, b.token, b.order, "paid")
	i.auditClean()
	server.stop()
	worker.stop()

	done := make(chan error, 1)
	go func() { done <- end() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("the end: %v\n%s", err, &log)
		}
	case <-time.After(patience):
		t.Fatal("the stack does not end with its standard input")
	}
	if strings.Contains(log.String(), "PRIVATE KEY") {
		t.Error("the log shows a key")
	}
}
