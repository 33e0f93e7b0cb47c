package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"flashsale"
)

// fakeJournal stands for the ledger's.
type fakeJournal struct {
	mu       sync.Mutex
	attempts map[string]*flashsale.Attempt
	replies  map[string]flashsale.Reply
	actions  []flashsale.Action
	err      error
}

func newFakeJournal() *fakeJournal {
	return &fakeJournal{attempts: map[string]*flashsale.Attempt{}, replies: map[string]flashsale.Reply{}}
}

func (f *fakeJournal) Claim(_ context.Context, a *flashsale.Attempt) (flashsale.Reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := a.Scope + " " + a.Key
	if first := f.attempts[key]; first != nil && !bytes.Equal(first.Fingerprint, a.Fingerprint) {
		return flashsale.Reply{}, flashsale.ErrConflict
	}
	f.attempts[key] = a
	return f.replies[key], f.err
}

func (f *fakeJournal) Answered(_ context.Context, a *flashsale.Attempt, reply flashsale.Reply) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replies[a.Scope+" "+a.Key] = reply
	return nil
}

func (f *fakeJournal) Begin(_ context.Context, a flashsale.Action) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	a.ID, a.At = int64(len(f.actions)+1), opens
	f.actions = append(f.actions, a)
	return a.ID, nil
}

func (f *fakeJournal) End(_ context.Context, id int64, outcome string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.actions[id-1].Outcome = outcome
	return nil
}

func (f *fakeJournal) Actions(_ context.Context, before int64, limit int) ([]flashsale.Action, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var page []flashsale.Action
	for _, a := range slices.Backward(f.actions) {
		if (before == 0 || a.ID < before) && len(page) < limit {
			page = append(page, a)
		}
	}
	return page, f.err
}

// Protects every change that takes an Idempotency-Key: what was done is answered again, another
// request under the key is refused, and what was refused may be tried again.
func TestOnce(t *testing.T) {
	t.Parallel()
	journal := newFakeJournal()
	b := setup(t, func(c *Config) { c.Journal = journal })
	ask := func(path, body, key string) (string, string) {
		t.Helper()
		response := b.callOps("POST", path, body, append([]string{"Idempotency-Key", key}, bearer...)...)
		return code(response) + " " + string(response.Header.Peek("Idempotent-Replayed")), string(response.Body())
	}
	sale := `{"name":"Night","opens_at_ms":1800000000000,"closes_at_ms":1800003600000,"items":[{"product":"Kettle","price_fen":100,"stock":5}]}`
	for _, c := range []struct{ path, body, other string }{
		{"/v1/admin/sales", sale, strings.Replace(sale, "Night", "Day", 1)},
		{"/v1/admin/items/7/stock", `{"add":5}`, `{"add":6}`},
		{"/v1/admin/items/7/pause", "", `{}`},
	} {
		key := strings.ReplaceAll(c.path, "/", "-")
		first, body := ask(c.path, c.body, key)
		again, replayed := ask(c.path, c.body, key)
		if first[0] != '2' || again != strings.TrimSpace(first)+" true" || replayed != body {
			t.Errorf("%s: %s, then %s\n%s\n%s", c.path, first, again, body, replayed)
		}
		if other, _ := ask(c.path, c.other, key); other != "422 idempotency_key_reused " {
			t.Errorf("%s with another body: %s", c.path, other)
		}
	}
	if len(b.ledger.sales) != 2 {
		t.Errorf("%d sales, want the first and a new one", len(b.ledger.sales))
	}
	if other, _ := ask("/v1/admin/items/8/pause", "", "-v1-admin-items-7-pause"); other != "422 idempotency_key_reused " {
		t.Errorf("another address under the key: %s", other)
	}
	if bad, _ := ask("/v1/admin/items/7/pause", "", "a b"); bad != "400 invalid_idempotency_key " {
		t.Errorf("a bad key: %s", bad)
	}
	if refused, _ := ask("/v1/admin/items/9999/pause", "", "k"); refused != "404 item_not_found " {
		t.Errorf("refused: %s", refused)
	}
	b.ledger.sales[0].Items[0].ID = 9999
	if tried, _ := ask("/v1/admin/items/9999/pause", "", "k"); tried != "200 " {
		t.Errorf("what was refused cannot be tried again: %s", tried)
	}
	journal.err = io.ErrUnexpectedEOF
	if away, _ := ask("/v1/admin/items/8/pause", "", "new"); away != "503 unavailable " {
		t.Errorf("without a journal nothing is changed: %s", away)
	}
}

// Protects the log of actions: who did what, when, with what outcome, in pages.
func TestActions(t *testing.T) {
	t.Parallel()
	journal := newFakeJournal()
	b := setup(t, func(c *Config) { c.Journal = journal })
	b.callOps("POST", "/v1/admin/items/7/stock", "{\"add\":5}", append([]string{"X-Request-Id", "r-1", "Idempotency-Key", "k"}, bearer...)...)
	b.callOps("POST", "/v1/admin/items/7/stock", "{\"add\":5}", append([]string{"X-Request-Id", "r-2", "Idempotency-Key", "k"}, bearer...)...)
	b.callOps("POST", "/v1/admin/items/7%00/stock", "\x00\xff", bearer...)
	b.callOps("POST", "/v1/admin/items/7/stock", `{"add":5}`) // nobody
	b.callOps("GET", "/v1/admin/items/7", "", bearer...)      // no change
	want := []string{
		"admin POST /v1/admin/items/{item}/stock /v1/admin/items/7 /stock  \uFFFD 400 invalid_item_id",
		`admin POST /v1/admin/items/{item}/stock /v1/admin/items/7/stock {"add":5} 200 replayed`,
		`admin POST /v1/admin/items/{item}/stock /v1/admin/items/7/stock {"add":5} 200`,
	}
	var got []string
	for _, a := range slices.Backward(journal.actions) {
		got = append(got, strings.Join([]string{a.Who, a.Action, a.Target, a.Detail, a.Outcome}, " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	body := string(b.callOps("GET", "/v1/admin/actions?limit=1", "", bearer...).Body())
	if !strings.HasSuffix(body, `}],"next_cursor":"3"}`) || !strings.Contains(body, `"id":"3","at_ms":1800000000000,"who":"admin"`) {
		t.Errorf("first page: %s", body)
	}
	body = string(b.callOps("GET", "/v1/admin/actions?before=3", "", bearer...).Body())
	if strings.Contains(body, "next_cursor") || !strings.Contains(body, `"request_id":"r-1"`) || strings.Contains(body, `"id":"3"`) {
		t.Errorf("second page: %s", body)
	}
}

const viewerSecret = "what-the-viewers-may-see"

// Protects what may be changed from those who may only look, and the session of a browser from
// other pages, from being made up, and from lasting for ever.
func TestOperators(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.ViewerToken, c.Journal = viewerSecret, newFakeJournal() })
	viewer := []string{"Authorization", "Bearer " + viewerSecret}
	for route, want := range map[string]string{
		"GET /v1/admin/items/7": "200", "GET /v1/admin/actions": "200", "POST /v1/admin/items/7/pause": "403 read_only",
		"POST /v1/admin/sales": "403 read_only", "DELETE /v1/admin/sales/1": "403 read_only", "GET /debug/pprof/cmdline": "403 read_only",
		"POST /v1/admin/items/7/stock": "403 read_only", "POST /v1/admin/orders/1/cancel": "403 read_only",
	} {
		method, path, _ := strings.Cut(route, " ")
		if got := code(b.callOps(method, path, "", viewer...)); got != want {
			t.Errorf("viewer %s: %s, want %s", route, got, want)
		}
	}

	logIn := func(token, name string, headers ...string) (string, string) {
		response := b.callOps("POST", "/v1/admin/session", fmt.Sprintf(`{"token":%q,"name":%q}`, token, name), headers...)
		cookie, _, _ := strings.Cut(string(response.Header.PeekCookie(opsCookie)), ";")
		if cookie != "" {
			whole := string(response.Header.PeekCookie(opsCookie))
			for _, part := range []string{"HttpOnly", "SameSite=Strict", "path=/", "max-age=43200"} {
				if !strings.Contains(whole, part) {
					t.Errorf("the cookie lacks %s: %s", part, whole)
				}
			}
		}
		return code(response), cookie
	}
	status, cookie := logIn(adminSecret, "kim")
	if status != "201" {
		t.Fatalf("log in: %s", status)
	}
	for want, made := range map[string]string{"401 invalid_token": "wrong", "422 invalid_field": adminSecret} {
		name := "kim"
		if made == adminSecret {
			name = "k i m"
		}
		if status, cookie := logIn(made, name); status != want || cookie != "" {
			t.Errorf("log in: %s %q, want %s", status, cookie, want)
		}
	}
	if status, _ := logIn(adminSecret, "kim", "Origin", "https://evil.example"); status != "403 origin_not_allowed" {
		t.Errorf("log in from another page: %s", status)
	}
	_, watching := logIn(viewerSecret, "lee")
	for _, c := range []struct {
		route, want string
		headers     []string
	}{
		{"GET /v1/admin/session", "200", []string{"Cookie", cookie}},
		{"POST /v1/admin/items/7/pause", "200", []string{"Cookie", cookie, "Sec-Fetch-Site", "same-origin"}},
		{"POST /v1/admin/items/7/pause", "200", []string{"Cookie", cookie, "Origin", "http://127.0.0.1:9090"}},
		{"POST /v1/admin/items/7/pause", "403 origin_not_allowed", []string{"Cookie", cookie, "Sec-Fetch-Site", "cross-site"}},
		{"POST /v1/admin/items/7/pause", "403 origin_not_allowed", []string{"Cookie", cookie}},
		{"POST /v1/admin/items/7/pause", "403 read_only", []string{"Cookie", watching, "Sec-Fetch-Site", "same-origin"}},
		{"GET /v1/admin/session", "401 invalid_token", []string{"Cookie", strings.Replace(watching, "viewer", "admin", 1)}},
		{"GET /v1/admin/session", "401 invalid_token", []string{"Cookie", cookie + "0"}},
		{"GET /v1/admin/session", "401 invalid_token", []string{"Cookie", opsCookie + "=:::"}},
	} {
		method, path, _ := strings.Cut(c.route, " ")
		if got := code(b.callOps(method, path, "", c.headers...)); got != c.want {
			t.Errorf("%s with %v: %s, want %s", c.route, c.headers, got, c.want)
		}
	}
	if got := string(b.callOps("GET", "/v1/admin/session", "", "Cookie", cookie).Body()); got != `{"name":"kim","role":"admin"}` {
		t.Errorf("who asks: %s", got)
	}
	if out := b.callOps("DELETE", "/v1/admin/session", ""); out.StatusCode() != 204 || len(out.Header.PeekCookie(opsCookie)) == 0 {
		t.Errorf("log out: %d", out.StatusCode())
	}
	o := newOperators(adminSecret, viewerSecret, 0, b.faults)
	session := o.seal(operator{"kim", roleAdmin}, o.now().Add(time.Minute))
	if who, ok := o.open(session); !ok || who.name != "kim" {
		t.Errorf("open: %v %t", who, ok)
	}
	o.now = func() time.Time { return time.Now().Add(2 * time.Minute) }
	if _, ok := o.open(session); ok {
		t.Error("a session does not end")
	}
	if _, ok := newOperators("another-token-of-the-admins", viewerSecret, 0, b.faults).open(session); ok {
		t.Error("a session outlives its token")
	}
}

// Protects a start from tokens that could be guessed.
func TestAdminTokens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		admin, viewer string
		ok            bool
	}{
		{"", "", true},
		{adminSecret, viewerSecret, true},
		{"", viewerSecret, true},
		{adminSecret[:23], "", false},
		{adminSecret, "short", false},
		{adminSecret, adminSecret, false},
	} {
		if err := checkAdminTokens(c.admin, c.viewer); (err == nil) != c.ok {
			t.Errorf("%q, %q: %v", c.admin, c.viewer, err)
		}
	}
}

// Protects what is served on 127.0.0.1 from pages whose names lead there.
func TestAddressed(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.OpsAddr, c.OpsHosts = "ops.example:9090", []string{"board.example", "[::1]"} })
	for host, want := range map[string]string{
		"127.0.0.1:9090": "200", "localhost": "200", "LOCALHOST.:9090": "200", "[::1]:9090": "200", "10.1.2.3:80": "200", "": "200",
		"ops.example:1": "200", "board.example": "200", "x.localhost": "200",
		"evil.example": "421 misdirected_request", "127.0.0.1.evil.example:9090": "421 misdirected_request",
		"localhost.evil.example": "421 misdirected_request", "board.example.evil": "421 misdirected_request",
	} {
		for _, path := range []string{"/healthz", "/metrics", "/v1/admin/items/7", "/debug/pprof/"} {
			got := code(b.callOps("GET", path, "", append([]string{"Host", host}, bearer...)...))
			if got != want {
				t.Errorf("%q %s: %s, want %s", host, path, got, want)
			}
		}
	}
}
