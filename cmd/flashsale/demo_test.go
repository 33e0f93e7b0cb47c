package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flashsale/internal/devstack/stacktest"
)

// demoProcess is a running `flashsale demo`.
type demoProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	exited chan struct{}

	mu   sync.Mutex
	text bytes.Buffer // both outputs, as a terminal shows them
}

func (d *demoProcess) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.Write(p)
}

func (d *demoProcess) output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

// startDemo starts a demo and waits until it has said what to type.
func startDemo(t *testing.T, dir string, args ...string) *demoProcess {
	t.Helper()
	i := &installation{t: t}
	d := &demoProcess{t: t, cmd: i.exec(append([]string{"demo", "--dir", dir, "--alipay-addr", "127.0.0.1:0"}, args...)...), exited: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = d, d
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.exited)
		_ = d.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.exited
		nothingRunsIn(t, dir)
	})
	stacktest.Eventually(t, patience, func() error {
		select {
		case <-d.exited:
			t.Fatalf("the demo ended:\n%s", d.output())
		default:
		}
		if text := d.output(); !strings.Contains(text, "/v1/admin/audit\n") {
			return fmt.Errorf("not all said:\n%s", text)
		}
		return nil
	})
	return d
}

// end signals the demo and returns its exit code.
func (d *demoProcess) end(signal syscall.Signal) int {
	d.t.Helper()
	_ = d.cmd.Process.Signal(signal)
	select {
	case <-d.exited:
	case <-time.After(patience):
		d.t.Fatalf("the demo ignores %s:\n%s", signal, d.output())
	}
	return d.cmd.ProcessState.ExitCode()
}

// nothingRunsIn waits until no process works in the folder any more.
func nothingRunsIn(t *testing.T, dir string) {
	t.Helper()
	stacktest.Eventually(t, patience, func() error {
		folders, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil || len(folders) == 0 {
			return fmt.Errorf("read /proc: %d processes, %w", len(folders), err)
		}
		for _, folder := range folders {
			where, err := os.Readlink(folder)
			if err == nil && strings.HasPrefix(strings.TrimSuffix(where, " (deleted)"), dir) {
				return fmt.Errorf("%s is still in %s", filepath.Dir(folder), where)
			}
		}
		return nil
	})
}

// pick returns what the first group of the pattern matches in the demo's text.
func (d *demoProcess) pick(pattern string) string {
	d.t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(d.output())
	if found == nil {
		d.t.Fatalf("the demo does not say %s:\n%s", pattern, d.output())
	}
	return found[1]
}

// lines are the commands that it says to type.
func (d *demoProcess) lines() []string {
	var lines []string
	for line := range strings.Lines(d.output()) {
		command, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "  ")
		if ok && (strings.HasPrefix(command, "curl ") || strings.HasPrefix(command, "redis-cli ")) {
			lines = append(lines, command)
		}
	}
	return lines
}

// session are the lines to be typed one after another in one shell: those about money.
func (d *demoProcess) session() []string {
	_, text, _ := strings.Cut(d.output(), "\nPay it, in one shell")
	text, _, _ = strings.Cut(text, "\nLog in as somebody else")
	var lines []string
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "  "); ok {
			lines = append(lines, command)
		}
	}
	return lines
}

// shell runs a line exactly as it was printed.
func shell(ctx context.Context, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", line, err, &out)
	}
	return out.String(), nil
}

func requireTools(t *testing.T) {
	t.Helper()
	for program, name := range map[string]string{"curl": "curl", "redis-cli": "redis-tools", "psql": "postgresql-client"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: install it: sudo apt-get install -y %s", program, name)
		}
	}
}

// Protects a newcomer's first minutes: every line that the demo prints works as it stands and
// shows what the text above it promises; the demo ends cleanly, starts again on what it left,
// also after a crash, and leaves no process behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	requireTools(t)
	dir := stacktest.Dir(t)
	d := startDemo(t, dir, "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0")

	order := ""
	expected := []struct {
		about, line string
		check       func(out string) error
	}{
		{"an item that is open", `^curl -s http://\S+/v1/items/\d+$`, has(`"product":"Headphones"`, `"state":"open"`)},
		{"a purchase", `^curl -s -X POST -H 'token: \w+' http://\S+/orders$`, func(out string) error {
			if found := regexp.MustCompile(`^\{"order_no":"(\d+)","status":"pending"}$`).FindStringSubmatch(out); found != nil {
				order = found[1]
				return nil
			}
			return errors.New("no order")
		}},
		{"a second try", `^curl -s -X POST -H 'token: \w+' http://\S+/orders$`, func(out string) error {
			return has(`"code":"duplicate_order"`, `"order_no":"`+order+`"`)(out)
		}},
		{"the order, persisted", `^curl -s -H 'token: \w+' http://\S+/v1/orders$`, func(out string) error {
			return has(`"order_no":"`+order+`"`, `"status":"unpaid"`)(out)
		}},
		{"a login", `^curl -s .*/v1/sessions$`, has(`"token":"`, `"user":"zoe"`)},
		{"the stream", `^redis-cli .* XINFO STREAM 'fs:\{0\}:orders'$`, has("length\n", "entries-added\n1\n")},
		{"the consumer group", `^redis-cli .* XINFO GROUPS 'fs:\{0\}:orders'$`, has("name\nworkers\n", "pending\n0\n")},
		{"the account", `^redis-cli .* HGETALL 'fs:\{0\}:item:\d+'$`, has("stock\n99\n", "limit\n1\n", "state\nopen\n")},
		{"readiness", `^curl -s http://\S+/readyz$`, has(`"status":"ready"`, `"durability":"aof everysec`)},
		{"the metrics", `^curl -s http://\S+/metrics \| grep \^flashsale_$`, has("flashsale_http_responses_total", "flashsale_")},
		{"the audit", `^curl -s -H 'Authorization: Bearer \S+' http://\S+/v1/admin/audit$`, has(`{"ok":true,`)},
	}
	lines := d.lines()
	if len(lines) != len(expected) {
		t.Fatalf("%d lines to type, %d expected:\n%s", len(lines), len(expected), d.output())
	}
	for n, e := range expected {
		if !regexp.MustCompile(e.line).MatchString(lines[n]) {
			t.Fatalf("line %q is not %s", lines[n], e.about)
		}
		// A person would look again, too: the worker is a moment behind.
		stacktest.Eventually(t, patience, func() error {
			out, err := shell(t.Context(), lines[n])
			if err == nil {
				err = e.check(out)
			}
			if err != nil {
				return fmt.Errorf("%s: %s printed %s: %w", e.about, lines[n], out, err)
			}
			return nil
		})
	}
	for _, line := range []string{
		d.pick(`redis +(redis-cli -p \d+)`) + " PING", d.pick(`postgresql +(psql '[^']+')`) + ` -c "SELECT status FROM orders"`,
	} {
		if out, err := shell(t.Context(), line); err != nil || !strings.Contains(out, "PONG") && !strings.Contains(out, "unpaid") {
			t.Errorf("%s printed %s: %v", line, out, err)
		}
	}

	// Paying, getting the money back, and paying with points, in one shell as the text says.
	out, err := shell(t.Context(), strings.Join(d.session(), "\n"))
	at := 0
	for _, want := range []string{`"status":"paid"`, `"status":"refund`, `"status":"paid"`, `"balance":`} {
		found := strings.Index(out[at:], want)
		if err != nil || found < 0 {
			t.Fatalf("payments printed %s: %v; no %s", out, err, want)
		}
		at += found + len(want)
	}

	// The item that opens in 5 s does; all tokens work.
	base := d.pick(`shoppers +(http://\S+)`)
	soon := d.pick(`item (\d+) +1000 units, opens in 5 s`)
	for _, user := range demoShoppers {
		token := d.pick(user + ` +(\w+)`)
		stacktest.Eventually(t, patience, func() error {
			r, err := call(t.Context(), http.MethodPost, base+"/v1/items/"+soon+"/orders", token, nil, "")
			if err != nil || r.status != http.StatusAccepted && r.Code != "not_started" {
				t.Fatalf("%s: %d %s %v", user, r.status, r.text, err)
			}
			if r.status != http.StatusAccepted {
				return errors.New(r.text)
			}
			return nil
		})
	}

	if code := d.end(syscall.SIGTERM); code != exitOK || !strings.Contains(d.output(), "stopped; the data stays in "+dir) {
		t.Fatalf("exit code %d after SIGTERM:\n%s", code, d.output())
	}
	nothingRunsIn(t, dir)

	// Again on the same folder, while its ports are taken: the first sale and order are still
	// there, and a second sale is open.
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	d = startDemo(t, dir, "--addr", busy.Addr().String(), "--ops-addr", busy.Addr().String())
	base = d.pick(`shoppers +(http://\S+)`)
	if strings.HasSuffix(base, busy.Addr().String()) {
		t.Errorf("%s is taken", base)
	}
	sales, err := call(t.Context(), http.MethodGet, base+"/v1/sales", "", nil, "")
	if err != nil || strings.Count(sales.text, `"name":"Demo sale"`) != 2 {
		t.Errorf("sales after a restart: %s %v", sales.text, err)
	}
	kept, err := call(t.Context(), http.MethodGet, base+"/v1/orders/"+order, d.pick(`ann +(\w+)`), nil, "")
	if err != nil || !strings.Contains(kept.text, `"status":"refunded"`) {
		t.Errorf("order after a restart: %s %v", kept.text, err)
	}

	// It sells, too: Redis has restarted, and is trusted again once it was compared with the ledger.
	stacktest.Eventually(t, patience, func() error {
		out, err := shell(t.Context(), d.lines()[1])
		if err == nil && !strings.Contains(out, `"status":"pending"`) {
			err = fmt.Errorf("buy after a restart: %s", out)
		}
		return err
	})

	// After a crash nothing is left over, and a rush runs on what it left.
	d.end(syscall.SIGKILL)
	nothingRunsIn(t, dir)
	out = (&installation{t: t}).command(exitOK, "demo", "--dir", dir, "--alipay-addr", "127.0.0.1:0", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--rush", "2000")
	// How many were told what is checked by the rush itself: on a busy machine some get no answer.
	for _, want := range []string{
		`2000 shoppers, 4000 requests in \d+\.\d\d s \(\d+ a second\)`,
		`\n  sold +100\n`, `\n  sold_out +\d+\n`, `\n  duplicate_order +\d+\n`, `\n  p50 +\S+s\n  p99 +\S+s\n`,
		`\n  units offered +100\n  orders persisted +100\n`,
		`1  ok      no item is oversold\n2  ok .*\n3  ok .*\n4  ok .*\n5  ok .*\n6  ok `,
		`\d: total 100 = redis 0 \+ live 100 \+ stream 0 \+ owed 0 \(gap 0, slack 0\)`,
		`stream 0, pending 0, outbox 0, dead 0\n`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the rush does not print %s:\n%s", want, out)
		}
	}
	nothingRunsIn(t, dir)
}

// has checks that a text holds each part.
func has(parts ...string) func(string) error {
	return func(text string) error {
		for _, part := range parts {
			if !strings.Contains(text, part) {
				return fmt.Errorf("no %q", part)
			}
		}
		return nil
	}
}

// Protects the folder of a demo from a second one, and the user from a riddle: it says what is
// wrong and leaves the first alone.
func TestDemo_Refusals(t *testing.T) {
	t.Parallel()
	dir := stacktest.Dir(t)
	d := startDemo(t, dir, "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0")
	i := &installation{t: t}
	if out := i.command(exitFailed, "demo", "--dir", dir); !strings.Contains(out, "data folder is in use by another stack") {
		t.Errorf("a second demo in one folder: %s", out)
	}
	for _, n := range []string{"-1", "200001"} {
		if out := i.command(exitFailed, "demo", "--dir", dir, "--alipay-addr", "127.0.0.1:0", "--rush="+n); !strings.Contains(out, "--rush must be from 1 to 200000") {
			t.Errorf("--rush=%s: %s", n, out)
		}
	}
	answer, err := httpClient.Get(d.pick(`operators +(http://\S+)`) + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("the first demo: %d %s %v", answer.StatusCode, text, err)
	}
	if code := d.end(syscall.SIGINT); code != exitOK {
		t.Errorf("exit code %d after Ctrl-C:\n%s", code, d.output())
	}
}
