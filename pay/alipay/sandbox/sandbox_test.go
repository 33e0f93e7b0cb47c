package sandbox_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"flashsale"
	"flashsale/pay/alipay"
	"flashsale/pay/alipay/sandbox"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newKeys are made once: that takes longer than all the rest.
var newKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	app, _ := rsa.GenerateKey(rand.Reader, 2048)
	own, _ := rsa.GenerateKey(rand.Reader, 2048)
	return [2]*rsa.PrivateKey{app, own}
})

// start makes a sandbox with retries after milliseconds and a merchant's client for it. The
// sandbox runs until stop or the end of the test.
func start(t *testing.T, config sandbox.Config, notifyURL string) (*sandbox.Sandbox, *alipay.Client, func()) {
	t.Helper()
	if config.StateFile == "" {
		config.AppKey, config.Key = newKeys()[0], newKeys()[1]
	}
	config.Addr = "127.0.0.1:0"
	if config.Scale == 0 {
		config.Scale = 1e-6
	}
	box, err := sandbox.New(config)
	if err != nil {
		t.Fatal(err)
	}
	client, err := alipay.New(alipay.Config{
		AllowSandbox: true, AppID: box.AppID(), SellerID: box.SellerID(), GatewayURL: box.GatewayURL(),
		PrivateKey: alipay.Secret(box.AppPrivateKey()), AlipayPublicKey: box.PublicKey(), NotifyURL: notifyURL,
		Now: config.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- box.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		client.CloseIdleConnections()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return box, client, stop
}

// merchant answers notices and tells of them.
type merchant struct {
	*httptest.Server
	forms chan url.Values
	deny  atomic.Int64 // how many more notices it does not acknowledge
}

func newMerchant(t *testing.T) *merchant {
	t.Helper()
	m := &merchant{forms: make(chan url.Values, 1000)}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			return
		}
		m.forms <- r.PostForm
		if m.deny.Add(-1) >= 0 {
			_, _ = io.WriteString(w, "SUCCESS ") // not what Alipay waits for
			return
		}
		_, _ = io.WriteString(w, "success")
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *merchant) next(t *testing.T) url.Values {
	t.Helper()
	select {
	case form := <-m.forms:
		return form
	case <-time.After(patience):
		t.Fatal("no notice came")
		return nil
	}
}

func page(t *testing.T, client *alipay.Client, no flashsale.OrderNo, subject string) string {
	t.Helper()
	address, err := client.PageURL(t.Context(), alipay.Charge{
		OrderNo: no, Subject: subject, AmountFen: 100, Expire: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func open(t *testing.T, client *alipay.Client, no flashsale.OrderNo) {
	t.Helper()
	if status, body := do(t, http.MethodGet, page(t, client, no, "手机"), ""); status != http.StatusOK {
		t.Fatalf("pay page: %d %s", status, body)
	}
}

func do(t *testing.T, method, address, body string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, until func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, until(ctx))
}

// It protects what the sandbox is for: like Alipay it sees that a request was altered or signed
// by somebody else, and makes no trade of it.
func TestGateway_VerifiesRequests(t *testing.T) {
	t.Parallel()
	box, client, _ := start(t, sandbox.Config{}, "http://127.0.0.1:1/")
	u, err := url.Parse(page(t, client, 1, "手机"))
	must(t, err)
	for name := range u.Query() {
		for what, change := range map[string]func(url.Values){
			"altered": func(q url.Values) { q.Set(name, q.Get(name)+"1") },
			"missing": func(q url.Values) { q.Del(name) },
			"twice":   func(q url.Values) { q.Add(name, q.Get(name)) },
		} {
			altered, query := *u, u.Query()
			change(query)
			altered.RawQuery = query.Encode()
			// Without the method it is no pay page, but a call, whose refusals are 200.
			status, body := do(t, http.MethodGet, altered.String(), "")
			if status == http.StatusOK && !strings.Contains(body, `"isv.`) {
				t.Errorf("%s %s: %d %s", name, what, status, body)
			}
		}
	}
	if trades := box.Trades(); len(trades) != 0 {
		t.Errorf("trades: %+v", trades)
	}
	for _, body := range []string{"", "method=alipay.trade.query", strings.Repeat("a=b&", 1<<15)} {
		if status, answer := do(t, http.MethodPost, box.GatewayURL(), body); status == http.StatusOK && !strings.Contains(answer, "isv.") {
			t.Errorf("a body of %d bytes: %d %s", len(body), status, answer)
		}
	}
}

// It protects the browser of whoever tries the demo: what a seller writes is text, not HTML, and
// the page loads nothing from elsewhere.
func TestPage_SelfContained(t *testing.T) {
	t.Parallel()
	_, client, _ := start(t, sandbox.Config{}, "http://127.0.0.1:1/")
	status, body := do(t, http.MethodGet, page(t, client, 1, `<script>alert("手机")</script>`), "")
	if status != http.StatusOK || strings.Contains(body, "<script") || !strings.Contains(body, "手机") || !strings.Contains(body, "1.00") {
		t.Errorf("page: %d %s", status, body)
	}
	if strings.Contains(body, "http://") || strings.Contains(body, "https://") || strings.Contains(body, "src=") {
		t.Errorf("the page loads something: %s", body)
	}
	for _, form := range []string{"", "order_no=1&trade_no=0&action=pay", "order_no=2&trade_no=&action=pay"} {
		if status, _ := do(t, http.MethodPost, cashier(t, client), form); status != http.StatusNotFound {
			t.Errorf("cashier with %q: %d, want 404", form, status)
		}
	}
}

func cashier(t *testing.T, client *alipay.Client) string {
	t.Helper()
	u, err := url.Parse(page(t, client, 1, "x"))
	must(t, err)
	return "http://" + u.Host + "/cashier"
}

// It protects merchants' tests: a notice is sent again, the same one, until it is acknowledged
// with exactly "success".
func TestNotify_UntilAcknowledged(t *testing.T) {
	t.Parallel()
	m := newMerchant(t)
	m.deny.Store(3)
	box, client, _ := start(t, sandbox.Config{}, m.URL)
	open(t, client, 1)
	must(t, box.Pay("1"))
	ids := make(map[string]bool)
	for range 4 {
		ids[m.next(t).Get("notify_id")] = true
	}
	wait(t, box.Settled)
	if len(ids) != 1 || len(m.forms) != 0 {
		t.Errorf("%d notices, %d more deliveries, want one notice in 4 deliveries", len(ids), len(m.forms))
	}
	history := box.History()
	if len(history) != 4 || history[2].Acknowledged || !history[3].Acknowledged {
		t.Errorf("history: %+v", history)
	}
}

// It protects the end of the schedule: 8 deliveries, then the notice is lost for good.
func TestNotify_GivesUp(t *testing.T) {
	t.Parallel()
	m := newMerchant(t)
	m.deny.Store(1000)
	box, client, _ := start(t, sandbox.Config{}, m.URL)
	open(t, client, 1)
	must(t, box.Pay("1"))
	wait(t, box.Settled)
	if n := len(m.forms); n != 8 {
		t.Errorf("%d deliveries, want 8", n)
	}
}

// It protects the tests that are built on misbehaviour: each kind does what it says.
func TestFaults(t *testing.T) {
	t.Parallel()
	t.Run("duplicate", func(t *testing.T) {
		t.Parallel()
		m := newMerchant(t)
		box, client, _ := start(t, sandbox.Config{}, m.URL)
		must(t, box.SetFaults(sandbox.Faults{Duplicate: 7}))
		open(t, client, 1)
		must(t, box.Pay("1"))
		first := m.next(t)
		for range 7 {
			if again := m.next(t); again.Get("notify_id") != first.Get("notify_id") || again.Get("sign") != first.Get("sign") {
				t.Errorf("another notice: %v", again)
			}
		}
		wait(t, box.Settled)
	})
	t.Run("lose", func(t *testing.T) {
		t.Parallel()
		m := newMerchant(t)
		box, client, _ := start(t, sandbox.Config{}, m.URL)
		must(t, box.SetFaults(sandbox.Faults{Lose: 2}))
		open(t, client, 1)
		must(t, box.Pay("1"))
		m.next(t)
		wait(t, box.Settled)
		if n := len(box.History()); n != 3 || box.Faults().Lose != 0 {
			t.Errorf("%d deliveries, %d left to lose, want 3 and 0", n, box.Faults().Lose)
		}
	})
	t.Run("lose all", func(t *testing.T) {
		t.Parallel()
		m := newMerchant(t)
		box, client, _ := start(t, sandbox.Config{}, m.URL)
		must(t, box.SetFaults(sandbox.Faults{Lose: -1}))
		open(t, client, 1)
		must(t, box.Pay("1"))
		wait(t, box.Settled)
		if len(m.forms) != 0 {
			t.Error("a notice arrived")
		}
	})
	t.Run("reorder", func(t *testing.T) {
		t.Parallel()
		m := newMerchant(t)
		box, client, _ := start(t, sandbox.Config{}, m.URL)
		must(t, box.SetFaults(sandbox.Faults{Reorder: true}))
		open(t, client, 1)
		must(t, box.Pay("1"))
		if done, err := client.Refund(t.Context(), 1, "R1", 100, ""); !done || err != nil {
			t.Fatalf("refund: %t, %v", done, err)
		}
		first, second := m.next(t), m.next(t)
		if first.Get("refund_fee") != "1.00" || second.Get("trade_status") != "TRADE_SUCCESS" {
			t.Errorf("first %v, then %v, want the refund before the payment", first, second)
		}
		wait(t, box.Settled)
	})
	t.Run("reorder ends", func(t *testing.T) {
		t.Parallel()
		m := newMerchant(t)
		box, client, _ := start(t, sandbox.Config{}, m.URL)
		must(t, box.SetFaults(sandbox.Faults{Reorder: true}))
		open(t, client, 1)
		must(t, box.Pay("1"))
		must(t, box.SetFaults(sandbox.Faults{}))
		m.next(t)
	})
	t.Run("delay", func(t *testing.T) {
		t.Parallel()
		m := newMerchant(t)
		box, client, _ := start(t, sandbox.Config{}, m.URL)
		must(t, box.SetFaults(sandbox.Faults{DelayMS: 20}))
		open(t, client, 1)
		started := time.Now()
		must(t, box.Pay("1"))
		m.next(t)
		if took := time.Since(started); took < 20*time.Millisecond {
			t.Errorf("delivered after %s", took)
		}
	})
}

// It protects the button "pay late": money comes after the trade expired, even when it was closed
// meanwhile.
func TestPayLate_Button(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[time.Time]
	at := time.Now()
	now.Store(&at)
	m := newMerchant(t)
	box, client, _ := start(t, sandbox.Config{Now: func() time.Time { return *now.Load() }}, m.URL)
	open(t, client, 1)
	trade, err := box.Trade("1")
	must(t, err)
	if status, body := do(t, http.MethodPost, box.URL()+"/cashier", "order_no=1&action=late&trade_no="+trade.TradeNo); status != http.StatusOK {
		t.Fatalf("late: %d %s", status, body)
	}
	if closed, err := client.Close(t.Context(), 1); !closed || err != nil {
		t.Fatalf("close: %t, %v", closed, err)
	}
	if form := m.next(t); form.Get("trade_status") != "TRADE_CLOSED" {
		t.Fatalf("notice: %v", form)
	}
	late := trade.ExpiresAt.Add(sandbox.DefaultLateBy)
	now.Store(&late)
	must(t, box.SetFaults(sandbox.Faults{})) // any change makes it look at the clock
	if form := m.next(t); form.Get("trade_status") != "TRADE_SUCCESS" {
		t.Errorf("notice: %v", form)
	}
	if trade, _ := box.Trade("1"); trade.Status != sandbox.TradeSuccess || !trade.PaidAt.Equal(late) {
		t.Errorf("trade: %+v", trade)
	}
}

// It protects the demo over a restart: keys, trades and the notices that are still owed.
func TestStateFile(t *testing.T) {
	t.Parallel()
	m := newMerchant(t)
	m.deny.Store(1)
	file := filepath.Join(t.TempDir(), "alipay.json")
	box, client, stop := start(t, sandbox.Config{StateFile: file, Scale: 1e6}, m.URL)
	open(t, client, 1)
	must(t, box.Pay("1"))
	first := m.next(t)
	wait(t, func(ctx context.Context) error { return box.Attempted(ctx, 1) })
	stop()

	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state file: %v, %v, want it readable by us alone", info.Mode(), err)
	}
	later := time.Now().Add(1e6 * time.Hour)
	again, client, _ := start(t, sandbox.Config{StateFile: file, Now: func() time.Time { return later }}, m.URL)
	if second := m.next(t); second.Get("notify_id") != first.Get("notify_id") {
		t.Errorf("notice %v, want %v again", second, first)
	}
	if again.PublicKey() != box.PublicKey() || again.AppPrivateKey() != box.AppPrivateKey() {
		t.Error("other keys after the restart")
	}
	if trade, err := client.Query(t.Context(), 1); err != nil || trade.Status != alipay.TradeSuccess {
		t.Errorf("trade after the restart: %+v, %v", trade, err)
	}

	bad := filepath.Join(t.TempDir(), "bad.json")
	must(t, os.WriteFile(bad, []byte("{"), 0o600))
	if _, err := sandbox.New(sandbox.Config{StateFile: bad}); err == nil {
		t.Error("a broken state file was taken")
	}
}

// It protects scripts that drive the demo over HTTP.
func TestKnobs(t *testing.T) {
	t.Parallel()
	m := newMerchant(t)
	box, client, _ := start(t, sandbox.Config{}, m.URL)
	knobs := box.URL() + "/sandbox/"
	for _, test := range []struct {
		method, path, body string
		want               int
	}{
		{http.MethodPut, "faults", `{"lose":1}`, http.StatusOK},
		{http.MethodPut, "faults", `{"loose":1}`, http.StatusBadRequest},
		{http.MethodPut, "faults", `{"lose":-2}`, http.StatusBadRequest},
		{http.MethodPut, "faults", `{}{}`, http.StatusBadRequest},
		{http.MethodPut, "faults", ``, http.StatusBadRequest},
		{http.MethodPost, "trades/1/pay", "", http.StatusNotFound},
		{http.MethodPost, "trades/1/refund", "", http.StatusNotFound},
		{http.MethodGet, "nothing", "", http.StatusNotFound},
	} {
		if status, body := do(t, test.method, knobs+test.path, test.body); status != test.want {
			t.Errorf("%s %s %s: %d %s, want %d", test.method, test.path, test.body, status, body, test.want)
		}
	}
	open(t, client, 1)
	if status, body := do(t, http.MethodPost, knobs+"trades/1/pay", ""); status != http.StatusOK {
		t.Errorf("pay: %d %s", status, body)
	}
	if status, body := do(t, http.MethodPost, knobs+"trades/1/decline", ""); status != http.StatusConflict {
		t.Errorf("decline a paid trade: %d %s", status, body)
	}
	m.next(t)
	wait(t, box.Settled)
	var trades []sandbox.Trade
	_, body := do(t, http.MethodGet, knobs+"trades", "")
	if err := json.Unmarshal([]byte(body), &trades); err != nil || len(trades) != 1 || trades[0].Status != sandbox.TradeSuccess {
		t.Errorf("trades: %s, %v", body, err)
	}
	var notices []sandbox.Notice
	_, body = do(t, http.MethodGet, knobs+"notices", "")
	if err := json.Unmarshal([]byte(body), &notices); err != nil || len(notices) != 2 || notices[0].Acknowledged {
		t.Errorf("notices: %s, %v, want one lost and one acknowledged", body, err)
	}
}

// It protects starts: mistakes are named, and an address is given back.
func TestNew(t *testing.T) {
	t.Parallel()
	keys := newKeys()
	for _, config := range []sandbox.Config{{Scale: -1}, {LateBy: -1}, {Addr: "nowhere"}, {NotifyTimeout: -1}} {
		config.AppKey, config.Key = keys[0], keys[1]
		if _, err := sandbox.New(config); err == nil {
			t.Errorf("New(%+v) succeeded", config)
		}
	}
	box, err := sandbox.New(sandbox.Config{Addr: "127.0.0.1:0", AppKey: keys[0], Key: keys[1]})
	must(t, err)
	must(t, box.Close())
	handler, err := sandbox.New(sandbox.Config{AppKey: keys[0], Key: keys[1]})
	must(t, err)
	must(t, handler.Close())
	if handler.GatewayURL() != "" || handler.URL() != "" {
		t.Errorf("addresses without one: %s", handler.GatewayURL())
	}
}
