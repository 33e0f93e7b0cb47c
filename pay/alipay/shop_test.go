package alipay_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"testing"
	"time"

	"flashsale"
	"flashsale/pay/alipay"
	"flashsale/pay/alipay/sandbox"
)

const patience = 20 * time.Second

// shop is a merchant at a local Alipay, with what it hears of it.
type shop struct {
	t       *testing.T
	box     *sandbox.Sandbox
	client  *alipay.Client
	browser *http.Client
	notices chan alipay.Notice // well received
	refused chan error
}

// openShop starts a sandbox and a merchant. Unanswered notices are sent again after
// milliseconds.
func openShop(t *testing.T, boxConfig sandbox.Config, change func(*alipay.Config)) *shop {
	t.Helper()
	boxConfig.Addr, boxConfig.Scale = "127.0.0.1:0", 1e-5
	boxConfig.AppKey, boxConfig.Key = private(t, "app"), private(t, "alipay")
	box, err := sandbox.New(boxConfig)
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{
		t: t, box: box, notices: make(chan alipay.Notice, 100), refused: make(chan error, 1000),
		browser: &http.Client{
			Transport:     &http.Transport{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	listener := httptest.NewServer(http.HandlerFunc(s.notify))
	t.Cleanup(listener.Close)
	s.client = newClient(t, func(c *alipay.Config) {
		c.GatewayURL, c.NotifyURL, c.ReturnURL = box.GatewayURL(), listener.URL, listener.URL+"/return"
		if boxConfig.Certificates {
			c.AlipayPublicKey = ""
			c.AppCertificate, c.AlipayCertificates = box.AppCertificate(), box.Certificate()
			c.RootCertificates = box.RootCertificate()
		}
		if change != nil {
			change(c)
		}
	})

	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- box.Run(ctx) }()
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		s.browser.CloseIdleConnections()
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *shop) notify(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	notice, err := s.client.ParseNotify(r.Context(), body, nil)
	if err != nil {
		s.refused <- err
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.notices <- notice
	_, _ = io.WriteString(w, "success")
}

// open lets the shopper open the pay page of an order over 1299.00.
func (s *shop) open(no flashsale.OrderNo) {
	s.t.Helper()
	page, err := s.client.PageURL(s.t.Context(), alipay.Charge{
		OrderNo: no, Subject: "手机 限量版", AmountFen: 129900, Expire: time.Now().Add(time.Hour),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if status, body := s.get(page); status != http.StatusOK {
		s.t.Fatalf("pay page of order %s: %d %s", no, status, body)
	}
}

func (s *shop) get(address string) (status int, body string) {
	s.t.Helper()
	response, err := s.browser.Get(address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

var hidden = regexp.MustCompile(`type="hidden" name="(\w+)" value="(\w+)">`)

// press opens the page and presses one of its buttons; it returns where the browser is sent.
func (s *shop) press(no flashsale.OrderNo, action string) (location string) {
	s.t.Helper()
	page, err := s.client.PageURL(s.t.Context(), alipay.Charge{
		OrderNo: no, Subject: "手机 限量版", AmountFen: 129900, Expire: time.Now().Add(time.Hour),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	_, body := s.get(page)
	form := url.Values{"action": {action}}
	for _, field := range hidden.FindAllStringSubmatch(body, -1) {
		form.Set(field[1], field[2])
	}
	response, err := s.browser.PostForm(s.box.URL()+"/cashier", form)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.Header.Get("Location")
}

func (s *shop) pay(no flashsale.OrderNo) {
	s.t.Helper()
	if err := s.box.Pay(no.String()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) faults(faults sandbox.Faults) {
	s.t.Helper()
	if err := s.box.SetFaults(faults); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) nextNotice() alipay.Notice {
	s.t.Helper()
	select {
	case notice := <-s.notices:
		return notice
	case <-time.After(patience):
		s.t.Fatal("no notice came")
		return alipay.Notice{}
	}
}

func (s *shop) nextRefused() error {
	s.t.Helper()
	select {
	case err := <-s.refused:
		return err
	case <-time.After(patience):
		s.t.Fatal("no notice was refused")
		return nil
	}
}

// settled waits until Alipay has no notice left to send.
func (s *shop) settled() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.box.Settled(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// serve returns the address of a gateway for this test alone.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL + "/gateway.do"
}
