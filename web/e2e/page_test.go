package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// tab is a browser of its own, with a proxy between it and the shop that counts and can be told to
// fail.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu      sync.Mutex // guards what follows
	counts  map[string]int
	fail    func(*http.Request) int // the status to answer in the shop's place; 0: none
	sockets bool                    // are let through
	cuts    []context.CancelFunc
	wrong   []string
}

// lost is no status: the connection ends instead.
const lost = -1

// options of a tab.
type options struct {
	language string        // en unless given
	width    int64         // 1200 unless given
	dark     bool          // the device's colours
	ops      bool          // the operators' address
	device   time.Duration // by how much its clock is wrong
}

// open opens a tab at an address of the shop.
func open(t *testing.T, path string, o options) *tab {
	t.Helper()
	p := &tab{t: t, counts: make(map[string]int), sockets: true}
	at := shopTest.base
	if o.ops {
		at = shopTest.ops
	}
	target, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.pass(w, r, proxy) }))
	t.Cleanup(front.Close)
	t.Cleanup(p.cut) // before the server waits for its connections
	p.base = front.URL

	ctx, cancel := chromedp.NewContext(shopTest.browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.hear))
	t.Cleanup(cancel)
	p.ctx = ctx
	if err := chromedp.Do(ctx); err != nil { // with no bound, or the bound would be the tab's
		t.Fatal(err)
	}
	language, width := o.language, o.width
	if language == "" {
		language = "en"
	}
	if width == 0 {
		width = 1200
	}
	scheme := "light"
	if o.dark {
		scheme = "dark"
	}
	p.do(
		command(log.Enable, cdp.Empty{}),
		chromedp.EmulateViewport(width, 900),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}),
		command(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: fmt.Sprintf(`
			Object.defineProperty(navigator, 'languages', { value: ['%s'] });
			{ const real = Date.now; Date.now = () => real() + %d; }`, language, o.device.Milliseconds())}),
		chromedp.Navigate(p.base+path),
	)
	t.Cleanup(p.sound)
	return p
}

// pass lets a request through, or not.
func (p *tab) pass(w http.ResponseWriter, r *http.Request, proxy http.Handler) {
	socket := r.Header.Get("Upgrade") != ""
	p.mu.Lock()
	kind := r.Method
	if socket {
		kind = "socket"
	}
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		p.counts[kind]++
		p.counts[kind+" "+r.URL.Path]++
	}
	refused := socket && !p.sockets
	status := 0
	if p.fail != nil {
		status = p.fail(r)
	}
	ctx, cut := context.WithCancel(r.Context())
	if socket {
		p.cuts = append(p.cuts, cut)
	}
	p.mu.Unlock()
	defer cut()
	switch {
	case refused:
		w.WriteHeader(http.StatusForbidden)
	case status == lost:
		panic(http.ErrAbortHandler) // closes the connection
	case status != 0:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, `{"code":"overloaded"}`)
	default:
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}
}

// cut ends all sockets.
func (p *tab) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cut := range p.cuts {
		cut()
	}
	p.cuts = nil
}

func (p *tab) failing(fail func(*http.Request) int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = fail
}

func (p *tab) refuseSockets() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sockets = false
}

// online tells the browser whether it has a network. Requests on their way are another matter.
func (p *tab) online(is bool) {
	p.t.Helper()
	p.do(command(network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: !is, DownloadThroughput: -1, UploadThroughput: -1}))
}

func (p *tab) count(kind string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[kind]
}

// hear notes what the browser complains of: faults of the scripts, and what the policy forbids. Answers that
// refuse something are no complaint.
func (p *tab) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		wrong := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			wrong += " " + e.ExceptionDetails.Exception.Description
		}
		p.wrong = append(p.wrong, wrong)
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" {
			p.wrong = append(p.wrong, fmt.Sprint("console: ", string(e.Args[0].Value)))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != "network" && !strings.Contains(e.Entry.Text, "WebSocket") {
			p.wrong = append(p.wrong, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	}
}

func (p *tab) sound() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, wrong := range p.wrong {
		p.t.Error(wrong)
	}
	if p.t.Failed() {
		p.t.Log("requests: ", p.counts)
	}
}

// command sends one to the browser and leaves its result.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%v\n%s", err, p.text())
	}
}

// eval returns what an expression is on the page.
func eval[T any](p *tab, js string) T {
	p.t.Helper()
	value, err := try[T](p, js)
	if err != nil {
		p.t.Fatalf("%s: %v", js, err)
	}
	return value
}

func try[T any](p *tab, js string) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
}

// until waits until an expression is true of the page.
func (p *tab) until(js string) {
	p.t.Helper()
	eventually(p.t, func() error {
		if is, err := try[bool](p, "Boolean("+js+")"); err != nil || !is {
			return fmt.Errorf("not so: %s (%w)\n%s", js, err, p.text())
		}
		return nil
	})
}

func (p *tab) text() string {
	text, _ := try[string](p, "document.body?.innerText ?? ''")
	return text
}

// sees waits until somebody who looks at the page can read a text.
func (p *tab) sees(text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// press clicks an element that is on and visible, as a pointer does.
func (p *tab) press(selector string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`(e => e && e.checkVisibility() && e.getAttribute('aria-disabled') !== 'true')(document.querySelector(%q))`, selector))
	p.do(chromedp.ScrollIntoView(selector), chromedp.Click(selector))
}

// login logs a user in by the page's dialog.
func (p *tab) login(user string) {
	p.t.Helper()
	p.press("#login")
	p.do(chromedp.SendKeys("#user", user))
	p.press("#dialog .main")
	p.until("document.querySelector('#logout')")
}

// card is the selector of an item's card, and what is in it.
func (i item) card(inside string) string { return "#item-" + i.ID + " " + inside }

// shot keeps a picture of the state and holds it against the rules of accessibility.
func (p *tab) shot(name string) {
	p.t.Helper()
	p.accessible(name)
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.MkdirAll("out", 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("out", name+".png"), picture, 0o644); err != nil {
		p.t.Fatal(err)
	}
}
