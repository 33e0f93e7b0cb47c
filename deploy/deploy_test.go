// Package deploy holds what a real installation starts from: a package, units, an image, a balancer's
// configuration, alert rules, a dashboard. Each is tried here with the program that reads it.
package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flashsale/internal/devstack/stacktest"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

const patience = 30 * time.Second

// run runs a program of the machine.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir = dir
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Protects who is woken at night: the rules are valid, each alert fires on what deserves it, says where
// to read on, and none fires on a good day.
func TestAlerts(t *testing.T) {
	t.Parallel()
	run(t, "prometheus", "promtool", "check", "rules", "alerts.yml")
	run(t, "prometheus", "promtool", "test", "rules", "alerts_test.yml")
	rules, tests := read(t, "prometheus/alerts.yml"), read(t, "prometheus/alerts_test.yml")
	for _, alert := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
		if n := strings.Count(tests, "alertname: "+alert[1]); n != 2 {
			t.Errorf("%s is tried %d times, not on a good day and on a bad one", alert[1], n)
		}
	}
	headings := make(map[string]bool)
	for _, line := range strings.Split(read(t, "../docs/operations.md"), "\n") {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			slug := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(title), "")
			headings[strings.ReplaceAll(slug, " ", "-")] = true
		}
	}
	for _, link := range regexp.MustCompile(`runbook: docs/operations\.md#(\S+)`).FindAllStringSubmatch(rules, -1) {
		if !headings[link[1]] {
			t.Errorf("the runbook has no section %s", link[1])
		}
	}
}

// Protects the dashboard and the rules from figures that nobody exports: the table of metrics in
// docs/operations.md is held against the running program.
func TestMetricsExist(t *testing.T) {
	t.Parallel()
	known := read(t, "../docs/operations.md")
	for _, path := range []string{"grafana/flashsale.json", "prometheus/alerts.yml"} {
		names := regexp.MustCompile(`flashsale_[a-z_]+`).FindAllString(read(t, path), -1)
		if len(names) < 8 {
			t.Errorf("%s names %d metrics only", path, len(names))
		}
		for _, name := range names {
			if !strings.Contains(known, "`"+strings.TrimSuffix(name, "_bucket")+"`") {
				t.Errorf("%s names %s, which is none of ours", path, name)
			}
		}
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/flashsale.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	taken := make(map[[2]int]string)
	for _, panel := range dashboard.Panels {
		for x := range panel.GridPos.W {
			for y := range panel.GridPos.H {
				at := [2]int{panel.GridPos.X + x, panel.GridPos.Y + y}
				if taken[at] != "" || at[0] >= 24 {
					t.Fatalf("%q lies over %q", panel.Title, taken[at])
				}
				taken[at] = panel.Title
			}
		}
	}
}

// Protects the units: systemd understands all of them, and nothing in them is beyond it.
func TestUnits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"flashsale-serve.service", "flashsale-work.service"} {
		// The program need not be installed here.
		text := strings.ReplaceAll(read(t, filepath.Join("systemd", name)), "/usr/bin/flashsale", "/bin/true")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := run(t, dir, "systemd-analyze", "verify", "--man=no", name); strings.Contains(out, name) {
			t.Errorf("%s", out)
		}
	}
}

// Protects the settings that are handed out: the program knows every one of them.
func TestSettings(t *testing.T) {
	t.Parallel()
	var known string
	for _, path := range []string{"cli.go", "desk.go", "limits.go", "serve.go", "wire.go", "start.go"} {
		if text, err := os.ReadFile(filepath.Join("..", "cmd", "flashsale", path)); err == nil {
			known += string(text)
		}
	}
	for path, pattern := range map[string]string{
		"flashsale.env":        `(?m)^#?([A-Z_]+)=`,
		"compose/compose.yaml": `(?m)^    ([A-Z_]+): `,
	} {
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, path), -1)
		if len(found) < 5 {
			t.Errorf("%s has %d settings", path, len(found))
		}
		for _, setting := range found {
			if !strings.Contains(known, `env:"`+setting[1]+`"`) {
				t.Errorf("%s sets %s, which the program does not know", path, setting[1])
			}
		}
	}
}

// Protects the balancer's configuration, as HAProxy runs it: a server that says it is not ready gets
// no more requests and breaks none, and websockets pass.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	type node struct {
		ready     atomic.Bool
		served    atomic.Int64
		shop, ops *httptest.Server
	}
	nodes := make([]*node, 2)
	for n := range nodes {
		each := &node{}
		each.ready.Store(true)
		each.shop = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					return
				}
				defer func() { _ = conn.Close() }()
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
					"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
				_, _ = io.Copy(conn, conn)
				return
			}
			each.served.Add(1)
			_, _ = fmt.Fprint(w, r.Header.Get("X-Forwarded-For"))
		}))
		t.Cleanup(each.shop.Close)
		each.ops = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" || !each.ready.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		t.Cleanup(each.ops.Close)
		nodes[n] = each
	}
	front := stacktest.FreeAddr(t)
	at := func(server *httptest.Server) string { return server.Listener.Addr().String() }
	port := func(server *httptest.Server) string { _, p, _ := strings.Cut(at(server), ":"); return p }
	text := strings.ReplaceAll(read(t, "compose/haproxy.cfg"), "maxconn 100000", "maxconn 1000") // of files for tests
	for name, value := range map[string]string{                                                  // which the environment sets
		"SHOP_BIND": front, "SERVE_1": at(nodes[0].shop), "SERVE_2": at(nodes[1].shop),
		"OPS_1": port(nodes[0].ops), "OPS_2": port(nodes[1].ops),
	} {
		text = strings.ReplaceAll(text, `"$`+name+`"`, value)
	}
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	get := func() (string, error) {
		response, err := http.Get("http://" + front + "/v1/sales")
		if err != nil {
			return "", err
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusOK {
			err = errors.Join(err, errors.New(response.Status))
		}
		return string(text), err
	}
	stacktest.Tool(t, func() error { _, err := get(); return err }, "haproxy", "-db", "-f", config)
	if from, err := get(); err != nil || from != "127.0.0.1" {
		t.Errorf("the server is told %q, %v", from, err)
	}

	broken, done := atomic.Int64{}, make(chan struct{})
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := get(); err != nil {
					broken.Add(1)
				}
			}
		})
	}
	nodes[0].ready.Store(false)
	stacktest.Eventually(t, patience, func() error {
		before := nodes[0].served.Load()
		time.Sleep(500 * time.Millisecond)
		if after := nodes[0].served.Load(); after != before {
			return fmt.Errorf("%d requests still reach a server that is not ready", after-before)
		}
		return nil
	})
	close(done)
	load.Wait()
	if broken.Load() > 0 || nodes[1].served.Load() == 0 {
		t.Errorf("%d requests broke, %d reached the other server", broken.Load(), nodes[1].served.Load())
	}

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+front+"/v1/orders/1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "websocket")
	request.Header.Set("Sec-WebSocket-Version", "13")
	request.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==") // of RFC 6455
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	socket, ok := response.Body.(io.ReadWriteCloser)
	if response.StatusCode != http.StatusSwitchingProtocols || !ok {
		t.Fatalf("websocket: %s", response.Status)
	}
	defer func() { _ = socket.Close() }()
	said := []byte("hello")
	if _, err := socket.Write(said); err != nil {
		t.Fatal(err)
	}
	heard := make([]byte, len(said))
	if _, err := io.ReadFull(socket, heard); err != nil || !bytes.Equal(heard, said) {
		t.Errorf("through the websocket came %q, %v", heard, err)
	}
}

// Protects the package: it is made, and holds the program, its units, its settings, and what it says it does.
func TestPackage(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "deploy"), os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(root, "docs"), os.DirFS("../docs")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "LICENSE"), []byte(read(t, "../LICENSE")), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "..", "go", "build", "-trimpath", "-o", filepath.Join(root, "bin", "flashsale"), "./cmd/flashsale")
	run(t, "package", "go", "build", "-o", filepath.Join(root, "bin", "package"), ".")
	if err := os.Mkdir(filepath.Join(root, "dist"), 0o755); err != nil {
		t.Fatal(err)
	}
	made := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "package"))
	made.Dir, made.Env = root, append(os.Environ(), "VERSION=1.2.3", "ARCH=amd64")
	out, err := made.CombinedOutput()
	if err != nil {
		t.Fatalf("package: %v\n%s", err, out)
	}
	deb := strings.TrimSpace(string(out))
	if fields := run(t, root, "dpkg-deb", "--field", deb, "Package", "Version"); fields != "Package: flashsale\nVersion: 1.2.3\n" {
		t.Errorf("fields %q", fields)
	}
	run(t, root, "dpkg-deb", "--extract", deb, "installed")
	run(t, root, "dpkg-deb", "--control", deb, "control")
	if out := run(t, root, filepath.Join(root, "installed", "usr", "bin", "flashsale"), "version"); !strings.HasPrefix(out, "flashsale ") {
		t.Errorf("it says it is %q", out)
	}
	for path, mode := range map[string]os.FileMode{
		"lib/systemd/system/flashsale-serve.service": 0o644, "lib/systemd/system/flashsale-work.service": 0o644,
		"etc/flashsale/flashsale.env": 0o640, "usr/share/doc/flashsale/operations.md": 0o644,
		"usr/share/doc/flashsale/prometheus/alerts.yml": 0o644,
	} {
		if info, err := os.Stat(filepath.Join(root, "installed", path)); err != nil || info.Mode().Perm()&^0o020 != mode&^0o020 {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
	if conffiles := read(t, filepath.Join(root, "control", "conffiles")); strings.TrimSpace(conffiles) != "/etc/flashsale/flashsale.env" {
		t.Errorf("an upgrade keeps %q", conffiles)
	}
	for _, script := range []string{"postinst", "prerm"} {
		run(t, root, "sh", "-n", filepath.Join("control", script))
	}
}
