package e2e

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
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// shopTest is what all tests share: one shop, one browser.
var shopTest struct {
	base, ops, alipay string
	browser           context.Context
}

const (
	patience   = 30 * time.Second
	adminToken = "an-admin-token-for-the-tests"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "flashsale-e2e-")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL's user must reach into it
		return fail(err)
	}
	stop, err := startDemo(dir)
	if err != nil {
		return fail(err)
	}
	defer stop()
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(filepath.Join(dir, "browser")),
		chromedp.WindowSize(1200, 900),
	)...)
	defer cancel()
	browser, cancel := chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Do(browser); err != nil {
		return fail(fmt.Errorf("start chromium, which `make test` installs: %w", err))
	}
	shopTest.browser = browser //nolint:fatcontext // one browser for all tests
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "e2e:", err)
	return 1
}

var addresses = regexp.MustCompile(`(?m)^ {2}(shoppers|operators|alipay) +(http://\S+)`)

// startDemo builds the program and runs its demo on free ports.
func startDemo(dir string) (stop func(), err error) {
	program := filepath.Join(dir, "flashsale")
	build := exec.Command("go", "build", "-o", program, "./cmd/flashsale")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the program: %w\n%s", err, out)
	}
	demo := exec.Command(program, "demo", "--dir", filepath.Join(dir, "data"), "--admin-token", adminToken, "--admin-viewer-token", viewerToken,
		"--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--alipay-addr", "127.0.0.1:0")
	out, err := demo.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var faults bytes.Buffer
	demo.Stderr = &faults
	if err := demo.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = demo.Process.Signal(os.Interrupt)
		_ = demo.Wait()
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if found := addresses.FindStringSubmatch(lines.Text()); found != nil {
			switch found[1] {
			case "shoppers":
				shopTest.base = found[2]
			case "operators":
				shopTest.ops = found[2]
			case "alipay":
				shopTest.alipay = found[2]
			}
		}
		if strings.HasPrefix(lines.Text(), "Operate:") {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return stop, nil
		}
	}
	stop()
	return nil, fmt.Errorf("the demo did not start: %s", faults.Bytes())
}

// item is one that a test sells.
type item struct {
	ID      string `json:"id"`
	OpensAt int64  `json:"-"`
}

// sell puts an item on sale that opens after a while.
func sell(t *testing.T, opens time.Duration, product string, more map[string]any) item {
	t.Helper()
	now := time.Now().Add(-time.Second)
	fields := map[string]any{
		"product": product, "price_fen": 990, "points_price": 10, "stock": 5, "limit": 1, "pay_timeout_s": 600,
		"names": map[string]string{"zh": product + "（中文）"}, "image_url": "/a/0/demo/mug.svg", "list_price_fen": 1990,
	}
	for name, value := range more {
		fields[name] = value
	}
	var sale struct {
		ID    string `json:"id"`
		Items []item `json:"items"`
	}
	admin(t, http.MethodPost, "/v1/admin/sales", map[string]any{
		"name": product, "opens_at_ms": now.Add(opens).UnixMilli(), "closes_at_ms": now.Add(time.Hour).UnixMilli(),
		"items": []any{fields},
	}, &sale)
	admin(t, http.MethodPost, "/v1/admin/sales/"+sale.ID+"/preheat", nil, nil)
	sold := sale.Items[0]
	sold.OpensAt = now.Add(opens).UnixMilli()
	return sold
}

func admin(t *testing.T, method, path string, body, into any) {
	t.Helper()
	call(t, method, shopTest.ops+path, map[string]string{"Authorization": "Bearer " + adminToken}, body, into)
}

func call(t *testing.T, method, url string, headers map[string]string, body, into any) int {
	t.Helper()
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		send = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, send)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= http.StatusMultipleChoices {
		t.Fatalf("%s %s: %d %s %v", method, url, response.StatusCode, text, err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s %s: %s: %v", method, url, text, err)
		}
	}
	return response.StatusCode
}

// other is a shopper without a browser.
type other struct{ headers map[string]string }

func newOther(t *testing.T, user string) other {
	t.Helper()
	var session struct {
		Token string `json:"token"`
	}
	call(t, http.MethodPost, shopTest.base+"/v1/sessions", nil, map[string]string{"user": user}, &session)
	return other{map[string]string{"Authorization": "Bearer " + session.Token}}
}

func (o other) buy(t *testing.T, item string) (order string) {
	t.Helper()
	var told struct {
		OrderNo string `json:"order_no"`
	}
	call(t, http.MethodPost, shopTest.base+"/v1/items/"+item+"/orders", o.headers, nil, &told)
	o.await(t, told.OrderNo, "unpaid")
	return told.OrderNo
}

func (o other) await(t *testing.T, order, want string) {
	t.Helper()
	eventually(t, func() error {
		var told struct {
			Status string `json:"status"`
		}
		call(t, http.MethodGet, shopTest.base+"/v1/orders/"+order, o.headers, nil, &told)
		if told.Status != want {
			return fmt.Errorf("order %s is %s, not %s", order, told.Status, want)
		}
		return nil
	})
}

func (o other) cancel(t *testing.T, order string) {
	t.Helper()
	call(t, http.MethodDelete, shopTest.base+"/v1/orders/"+order, o.headers, nil, nil)
}

// eventually waits for something that nobody signals.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(errors.Join(err, t.Context().Err()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
