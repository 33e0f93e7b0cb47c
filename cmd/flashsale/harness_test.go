package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// asCommand makes the test binary behave as the flashsale command, so that tests kill and
// restart real processes without building anything.
const asCommand = "FLASHSALE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		crash := os.Getenv(crashAt)
		if crash == "" {
			main()
			return
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := run(withSeams(ctx, newCrasher(crash).seams()), os.Args[1:], os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	stacktest.Main(m)
}

// patience bounds every wait of these tests; it is long because the machine may be busy.
const patience = 60 * time.Second

const adminToken = "test-admin-of-24-characters"

// installation is one Redis and one PostgreSQL with any number of processes on them.
type installation struct {
	t    *testing.T
	env  []string
	wrap []string // a command that runs ours, such as a shell that sets limits
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	return newInstallationOver(t, stacktest.Redis(t), stacktest.Postgres(t))
}

// newInstallationOn is for tests that do to Redis what would disturb the others.
func newInstallationOn(t *testing.T, redisURL string) *installation {
	t.Helper()
	return newInstallationOver(t, redisURL, stacktest.Postgres(t))
}

func newInstallationOver(t *testing.T, redisURL, databaseURL string) *installation {
	t.Helper()
	i := &installation{t: t, env: []string{
		"REDIS_URL=" + redisURL, "DATABASE_URL=" + databaseURL,
		"ADDR=127.0.0.1:0", "OPS_ADDR=127.0.0.1:0", "ADMIN_TOKEN=" + adminToken, "DEV_LOGIN=true",
		"WORK_OPS_ADDR=127.0.0.1:0", "DRAIN=0", // no balancer has to notice
	}}
	i.command(exitOK, "migrate")
	return i
}

// command runs a command to its end and returns what it printed.
func (i *installation) command(wantCode int, args ...string) string {
	i.t.Helper()
	cmd := i.exec(args...)
	var out, faults bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &faults
	err := cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != wantCode {
		i.t.Fatalf("flashsale %s: exit code %d (%v), want %d\n%s%s", strings.Join(args, " "), code, err, wantCode, &out, &faults)
	}
	return out.String() + faults.String()
}

func (i *installation) exec(args ...string) *exec.Cmd {
	line := slices.Concat(i.wrap, []string{os.Args[0]}, args)
	cmd := exec.CommandContext(context.WithoutCancel(i.t.Context()), line[0], line[1:]...)
	cmd.Env = append(append(os.Environ(), asCommand+"=1"), i.env...)
	// A process group of its own, so that a signal to the tests does not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// process is a running `serve`, `work` or `demo`.
type process struct {
	t         *testing.T
	cmd       *exec.Cmd
	base, ops string                // of a server; a worker has ops only
	ready     <-chan map[string]any // the line that says so
	exited    chan struct{}

	mu   sync.Mutex
	logs bytes.Buffer
}

// start runs a command until it says that it is ready.
func (i *installation) start(ready string, args ...string) *process {
	i.t.Helper()
	p := i.launch(ready, args...)
	p.await()
	return p
}

// launch runs a command, which says that it is ready some time later.
func (i *installation) launch(ready string, args ...string) *process {
	i.t.Helper()
	seen := make(chan map[string]any, 1)
	p := &process{t: i.t, cmd: i.exec(args...), ready: seen, exited: make(chan struct{})}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			p.mu.Lock()
			fmt.Fprintln(&p.logs, lines.Text())
			p.mu.Unlock()
			var line map[string]any
			if json.Unmarshal(lines.Bytes(), &line) == nil && line["msg"] == ready {
				select {
				case seen <- line:
				default:
				}
			}
		}
		_ = p.cmd.Wait()
	}()
	i.t.Cleanup(func() { p.kill() })
	return p
}

// await returns once the process has said that it is ready.
func (p *process) await() {
	p.t.Helper()
	select {
	case line := <-p.ready:
		if addr, ok := line["addr"].(string); ok {
			p.base = "http://" + addr
		}
		if addr, ok := line["ops_addr"].(string); ok {
			p.ops = "http://" + addr
		}
	case <-p.exited:
		p.t.Fatalf("%q ended:\n%s", p.cmd.Args, p.log())
	case <-time.After(patience):
		p.t.Fatalf("%q is not ready:\n%s", p.cmd.Args, p.log())
	}
}

func (i *installation) serve() *process { i.t.Helper(); return i.start("serving", "serve") }

func (i *installation) work(name string) *process {
	i.t.Helper()
	return i.start("working", "work", "--consumer", name)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.logs.String()
}

// kill ends the process as a crash does, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.exited
}

// stop ends the process as an operator does; it must succeed.
func (p *process) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("process ignores SIGTERM:\n%s", p.log())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
		p.t.Fatalf("exit code %d after SIGTERM:\n%s", code, p.log())
	}
}

// sell creates a sale of one item that is open now and loads it.
func (i *installation) sell(stock int, more string) flashsale.ItemID {
	i.t.Helper()
	item := fmt.Sprintf("product=thing %d,price_fen=100,stock=%d", time.Now().UnixNano(), stock)
	if more != "" {
		item += "," + more
	}
	i.command(exitOK, "sale", "create", "--name", "test", "--item", item, "--preheat")
	var out struct {
		Sales []struct {
			Items []struct{ ID flashsale.ItemID }
		}
	}
	r := i.rooms()
	defer r.close()
	sales, err := r.ledger.Sales(i.t.Context(), flashsale.SalesQuery{Limit: 1, Items: 1})
	if err != nil || len(sales) == 0 {
		i.t.Fatalf("no sale was created: %v %v", out, err)
	}
	return sales[0].Items[0].ID
}

// rooms opens the installation's stores in this process. Close them afterwards.
func (i *installation) rooms() *rooms {
	i.t.Helper()
	var c cli
	logger, err := c.logger(io.Discard, "test")
	if err != nil {
		i.t.Fatal(err)
	}
	r, err := openRooms(i.t.Context(), stores{
		RedisURL: i.value("REDIS_URL"), DatabaseURL: i.value("DATABASE_URL"), PointsURL: i.value("POINTS_DATABASE_URL"),
	}, logger, numbering)
	if err != nil {
		i.t.Fatal(err)
	}
	return r
}

// value is what a variable of the installation says.
func (i *installation) value(name string) string {
	for _, line := range i.env {
		if text, ok := strings.CutPrefix(line, name+"="); ok {
			return text
		}
	}
	return ""
}

// auditClean waits until everything is at rest and fails unless every invariant holds.
func (i *installation) auditClean() {
	i.t.Helper()
	r := i.rooms()
	defer r.close()
	report, err := r.auditAtRest(i.t.Context(), patience)
	if err != nil || !report.OK || report.Moving {
		i.t.Fatalf("audit: %v\n%s", err, report)
	}
}

// tokens logs n users in.
func (i *installation) tokens(prefix string, n int) []string {
	i.t.Helper()
	r := i.rooms()
	defer r.close()
	tokens := make([]string, n)
	err := parallel(n, 32, func(k int) (err error) {
		tokens[k], err = r.engine.CreateSession(i.t.Context(), flashsale.User{ID: shopper(prefix, k)}, time.Hour)
		return err
	})
	if err != nil {
		i.t.Fatal(err)
	}
	return tokens
}

// response is any answer of the API.
type response struct {
	status  int
	Code    string `json:"code"`
	OrderNo string `json:"order_no"`
	text    string
}

var httpClient = &http.Client{
	Timeout:   20 * time.Second,
	Transport: &http.Transport{MaxConnsPerHost: 256, MaxIdleConnsPerHost: 256},
}

// call sends one request; an error means that no answer came.
func call(ctx context.Context, method, url, token string, header map[string]string, body string) (response, error) {
	var r response
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return r, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	for name, value := range header {
		request.Header.Set(name, value)
	}
	answer, err := httpClient.Do(request)
	if err != nil {
		return r, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return r, err
	}
	r.status, r.text = answer.StatusCode, string(text)
	if len(text) > 0 && strings.Contains(answer.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(text, &r); err != nil && !errors.Is(err, io.EOF) {
			return r, fmt.Errorf("answer %q: %w", text, err)
		}
	}
	return r, nil
}

// insist asks as a shopper does who wants to know: with one idempotency key, again and again,
// on whichever node answers, until the answer is final.
func insist(ctx context.Context, bases func() []string, item flashsale.ItemID, token, key string) (response, error) {
	deadline := time.Now().Add(patience)
	for n := 0; ; n++ {
		nodes := bases()
		base := nodes[n%len(nodes)]
		r, err := call(ctx, http.MethodPost, fmt.Sprintf("%s/v1/items/%s/orders", base, item), token,
			map[string]string{"Idempotency-Key": key}, "")
		if err == nil && (r.status == http.StatusAccepted || r.status == http.StatusConflict) {
			return r, nil
		}
		if err == nil && r.status != http.StatusServiceUnavailable {
			return r, fmt.Errorf("unexpected answer %d %s", r.status, r.text)
		}
		if time.Now().After(deadline) {
			return r, fmt.Errorf("no final answer: %d %s %w", r.status, r.text, err)
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-timer.C:
		}
	}
}

// writeFile writes a file of the test's own and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
