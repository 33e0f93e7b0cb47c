package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
	"flashsale/pay"
	"flashsale/pay/alipay"
	"flashsale/pay/alipay/sandbox"
)

// testKeys are made once: making them takes longer than most tests.
var testKeys = sync.OnceValues(func() (*rsa.PrivateKey, *rsa.PrivateKey) {
	application, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return application, own
})

// newBox starts a local Alipay whose notices go through deliver. Scale shortens the waits before
// a notice is sent again, which are 25 h in all.
func newBox(t *testing.T, scale float64, deliver http.RoundTripper) *sandbox.Sandbox {
	t.Helper()
	application, own := testKeys()
	box, err := sandbox.New(sandbox.Config{
		Addr: "127.0.0.1:0", AppKey: application, Key: own, Scale: scale, Transport: deliver,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- box.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return box
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// counter is an installation whose desk runs in the test, on its real databases and a local
// Alipay that delivers its notices to it.
type counter struct {
	*installation
	rooms *rooms
	desk  *pay.Desk
	box   *sandbox.Sandbox
	item  flashsale.Item
	told  sync.Map // OrderNo → the last status that was published
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	c := &counter{installation: newInstallation(t)}
	c.withPoints()
	c.rooms = c.installation.rooms()
	t.Cleanup(c.rooms.close)
	c.box = newBox(t, 1e-6, roundTripper(func(request *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(request.Body)
		answer := "success"
		if err == nil {
			err = c.desk.Notify(request.Context(), loopback, body)
		}
		if err != nil {
			answer = "fail"
		}
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(answer))}, nil
	}))
	c.desk = c.newDesk(nil)
	now := time.Now()
	sale, err := c.rooms.ledger.CreateSale(t.Context(), flashsale.Sale{
		Name: "sale", OpensAt: now.Add(-time.Hour), ClosesAt: now.Add(time.Hour),
		Items: []flashsale.Item{{Product: "手机", PriceFen: 990, PointsPrice: 7, Total: 100_000, Limit: 1, PayTimeout: time.Hour}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.item = sale.Items[0]
	return c
}

// withPoints gives an installation a points database.
func (i *installation) withPoints() {
	i.t.Helper()
	i.env = append(i.env, "POINTS_DATABASE_URL="+stacktest.Postgres(i.t))
	i.command(exitOK, "migrate")
}

// newDesk is a further desk on the same databases, as another process has one.
func (c *counter) newDesk(pass func(point string) error) *pay.Desk {
	c.t.Helper()
	config := pay.Config{
		Alipay: c.newClient(), Ledger: c.rooms.ledger, Points: c.rooms.points, NextTradeNo: c.rooms.engine.NextNumber,
		RecoverEvery: 20 * time.Millisecond,
		Tell: func(_ context.Context, results []flashsale.Result) {
			for _, result := range results {
				c.told.Store(result.OrderNo, result.Status)
			}
		},
	}
	if pass != nil {
		standBetween(&config, pass)
	}
	desk, err := pay.New(config)
	if err != nil {
		c.t.Fatal(err)
	}
	return desk
}

// recovering runs the recovery until the test ends.
func (c *counter) recovering() {
	c.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- c.desk.Run(ctx) }()
	c.t.Cleanup(func() { stop(); <-ran })
}

// unpaid is a new order of a user of its own, who has enough points for it and no more.
func (c *counter) unpaid() flashsale.Order {
	c.t.Helper()
	number, err := c.rooms.engine.NextNumber()
	if err != nil {
		c.t.Fatal(err)
	}
	order := flashsale.Order{
		OrderNo: flashsale.OrderNo(number), ItemID: c.item.ID, User: "u" + strconv.FormatInt(number, 10), Quantity: 1,
		Sequence: number, ReservedAt: time.Now(),
	}
	results, err := c.rooms.ledger.Persist(c.t.Context(), []flashsale.Order{order})
	if err != nil || results[0].Status != flashsale.Unpaid {
		c.t.Fatal(results, err)
	}
	if granted, err := c.desk.Grant(c.t.Context(), order.User, 7, "welcome-"+order.User); err != nil || !granted {
		c.t.Fatal(granted, err)
	}
	return order
}

// open starts a payment with Alipay and opens the pay page, as the shopper's browser does.
func (c *counter) open(order flashsale.Order) {
	c.t.Helper()
	settlement, err := c.desk.Start(c.t.Context(), order.OrderNo, order.User, flashsale.Alipay)
	if err != nil || settlement.Outcome != flashsale.PayStarted {
		c.t.Fatalf("start: %+v, %v", settlement, err)
	}
	c.visit(settlement.PayURL)
}

func (i *installation) visit(page string) {
	i.t.Helper()
	answer, err := httpClient.Get(page)
	if err != nil {
		i.t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		i.t.Fatalf("pay page: %d %s %v", answer.StatusCode, text, err)
	}
}

// shopperPays presses the button and waits until all notices are acknowledged or given up.
func (c *counter) shopperPays(order flashsale.Order) {
	c.t.Helper()
	if err := c.box.Pay(order.OrderNo.String()); err != nil {
		c.t.Fatal(err)
	}
	c.settled()
}

func (c *counter) settled() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if err := c.box.Settled(ctx); err != nil {
		c.t.Fatal(err)
	}
}

func (c *counter) faults(faults sandbox.Faults) {
	c.t.Helper()
	if err := c.box.SetFaults(faults); err != nil {
		c.t.Fatal(err)
	}
}

func (c *counter) status(order flashsale.Order) flashsale.Status {
	c.t.Helper()
	stored, err := c.rooms.ledger.Order(c.t.Context(), order.OrderNo)
	if err != nil {
		c.t.Fatal(err)
	}
	return stored.Status
}

func (c *counter) wantStatus(order flashsale.Order, want flashsale.Status) {
	c.t.Helper()
	if got := c.status(order); got != want {
		c.t.Errorf("order %s is %s, want %s", order.OrderNo, got, want)
	}
}

// acknowledged tells how the notices about an order were answered, in order.
func (c *counter) acknowledged(order flashsale.OrderNo) (answers []bool) {
	for _, notice := range c.box.History() {
		if notice.OrderNo == order.String() {
			answers = append(answers, notice.Acknowledged)
		}
	}
	return answers
}

// sound waits until nothing is under way, and then proves invariant 5 and the ledger's own.
func (c *counter) sound() flashsale.MoneyReport {
	c.t.Helper()
	var report flashsale.MoneyReport
	stacktest.Eventually(c.t, patience, func() (err error) {
		if report, err = c.desk.Money(context.Background(), 0); err == nil && report.Open > 0 {
			err = fmt.Errorf("%d payments or refunds are under way", report.Open)
		}
		return err
	})
	for _, line := range report.Broken {
		c.t.Error(line)
	}
	for _, f := range report.Figures {
		if f.Received != f.Held+f.Refunding+f.Refunded {
			c.t.Errorf("%+v does not add up", f)
		}
	}
	figures, err := c.rooms.ledger.Figures(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range figures.Items {
		if f.Stock+f.LiveUnits != f.Total || f.UsersOverLimit != 0 {
			c.t.Errorf("item %s: stock %d + live %d is not %d; %d over the limit", f.ID, f.Stock, f.LiveUnits, f.Total, f.UsersOverLimit)
		}
	}
	return report
}

// balance is what the user has, and what of it is frozen.
func (c *counter) balance(order flashsale.Order) string {
	c.t.Helper()
	account, err := c.rooms.points.Account(c.t.Context(), order.User)
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf("%d/%d", account.Balance, account.Frozen)
}

// Protects the money from every kind of notice: only one that fits, about a trade that Alipay
// itself confirms, makes an order paid; each gets the right answer, and what it leaves adds up.
//
//nolint:tparallel // the cases switch the faults of one Alipay
func TestDesk_Notices(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	c.recovering()

	t.Run("valid, then replayed 8 times", func(t *testing.T) {
		order := c.unpaid()
		c.open(order)
		c.wantStatus(order, flashsale.Unpaid)
		c.faults(sandbox.Faults{Duplicate: 8})
		c.shopperPays(order)
		c.faults(sandbox.Faults{})
		c.wantStatus(order, flashsale.Paid)
		if told, _ := c.told.Load(order.OrderNo); told != flashsale.Paid {
			t.Errorf("told %v", told)
		}
		if got := fmt.Sprint(c.acknowledged(order.OrderNo)); got != "[true]" {
			t.Errorf("acknowledged %s", got)
		}
	})
	for _, delta := range []int64{-1, 1} {
		t.Run(fmt.Sprintf("amount %+d fen", delta), func(t *testing.T) {
			order := c.unpaid()
			c.open(order)
			c.faults(sandbox.Faults{AmountDeltaFen: delta})
			c.shopperPays(order)
			c.faults(sandbox.Faults{})
			c.wantStatus(order, flashsale.Unpaid)
			if answers := c.acknowledged(order.OrderNo); len(answers) != 8 || slices.Contains(answers, true) {
				t.Errorf("acknowledged %v", answers)
			}
		})
	}
	t.Run("forged, of another application, of another seller", func(*testing.T) {
		for _, faults := range []sandbox.Faults{{Forge: true}, {AppID: "9021000000000009"}, {SellerID: "2088000000000009"}, {ForgeAnswers: true}} {
			order := c.unpaid()
			c.open(order)
			c.faults(faults)
			c.shopperPays(order)
			c.faults(sandbox.Faults{})
			c.wantStatus(order, flashsale.Unpaid)
		}
	})
	t.Run("unknown order", func(t *testing.T) {
		number, err := c.rooms.engine.NextNumber()
		if err != nil {
			t.Fatal(err)
		}
		no := flashsale.OrderNo(number)
		page, err := c.newClient().PageURL(t.Context(), alipay.Charge{
			OrderNo: no, Subject: "x", AmountFen: 990, Expire: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		c.visit(page)
		c.shopperPays(flashsale.Order{OrderNo: no})
		if answers := c.acknowledged(no); len(answers) != 8 || answers[7] {
			t.Errorf("acknowledged %v", answers)
		}
	})
	t.Run("lost, then sent again", func(*testing.T) {
		order := c.unpaid()
		c.open(order)
		c.faults(sandbox.Faults{Lose: 3})
		c.shopperPays(order)
		c.wantStatus(order, flashsale.Paid)
	})
	t.Run("after the cancel: the money goes back, the order stays cancelled", func(t *testing.T) {
		order := c.unpaid()
		c.open(order)
		if _, err := c.rooms.ledger.Cancel(t.Context(), order.OrderNo, order.User); err != nil {
			t.Fatal(err)
		}
		if err := c.box.PayLate(order.OrderNo.String()); err != nil {
			t.Fatal(err)
		}
		c.settled()
		c.wantStatus(order, flashsale.Cancelled)
		if trade, err := c.box.Trade(order.OrderNo.String()); err != nil || trade.RefundedFen() != 990 {
			t.Errorf("trade %+v, %v", trade, err)
		}
	})
	t.Run("refund, and its notice before that of the payment", func(t *testing.T) {
		order := c.unpaid()
		c.open(order)
		c.faults(sandbox.Faults{Reorder: true})
		if err := c.box.Pay(order.OrderNo.String()); err != nil { // its notice is held back
			t.Fatal(err)
		}
		c.wantStatus(order, flashsale.Unpaid)
		c.due(order)
		if n, _, err := c.desk.CloseDue(t.Context(), 10); err != nil || n != 1 { // already paid wins
			t.Fatalf("close: %d, %v", n, err)
		}
		c.wantStatus(order, flashsale.Paid)
		settlement, err := c.desk.Refund(t.Context(), order.OrderNo, order.User, "不要了")
		if err != nil || settlement.Outcome != flashsale.RefundComplete {
			t.Fatalf("refund: %+v, %v", settlement, err)
		}
		c.faults(sandbox.Faults{})
		c.settled()
		c.wantStatus(order, flashsale.Refunded)
		if told, _ := c.told.Load(order.OrderNo); told != flashsale.Refunded {
			t.Errorf("told %v", told)
		}
		again, err := c.desk.Refund(t.Context(), order.OrderNo, order.User, "")
		if err != nil || again.Outcome != flashsale.RefundComplete {
			t.Errorf("refund again: %+v, %v", again, err)
		}
	})
	t.Run("a refund that takes its time", func(t *testing.T) {
		order := c.unpaid()
		c.open(order)
		c.shopperPays(order)
		c.faults(sandbox.Faults{RefundPending: true})
		settlement, err := c.desk.Refund(t.Context(), order.OrderNo, order.User, "")
		if err != nil || settlement.Outcome != flashsale.RefundStarted || settlement.Order.Status != flashsale.Refunding {
			t.Fatalf("refund: %+v, %v", settlement, err)
		}
		c.faults(sandbox.Faults{})
		stacktest.Eventually(t, patience, func() error {
			if got := c.status(order); got != flashsale.Refunded {
				return fmt.Errorf("order is %s", got)
			}
			return nil
		})
	})
	t.Run("the trade was closed by the shopper", func(t *testing.T) {
		order := c.unpaid()
		c.open(order)
		if err := c.box.Decline(order.OrderNo.String()); err != nil {
			t.Fatal(err)
		}
		c.settled()
		c.wantStatus(order, flashsale.Unpaid)
		if s, err := c.desk.Start(t.Context(), order.OrderNo, order.User, flashsale.Alipay); err != nil || s.Outcome != flashsale.PaymentClosed {
			t.Errorf("start again: %+v, %v", s, err)
		}
		if s, err := c.desk.Start(t.Context(), order.OrderNo, order.User, flashsale.Points); err != nil || s.Outcome != flashsale.PayDone {
			t.Errorf("start with points: %+v, %v", s, err)
		}
	})
	for name, body := range map[string]string{"nothing": "", "no form": "{}", "unsigned": "out_trade_no=1&trade_no=2"} {
		if err := c.desk.Notify(t.Context(), loopback, []byte(body)); !errors.Is(err, alipay.ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.sound()
}

// newClient speaks to the local Alipay as only the shop can.
func (c *counter) newClient() *alipay.Client {
	c.t.Helper()
	client, err := alipay.New(alipay.Config{
		AllowSandbox: true, GatewayURL: c.box.GatewayURL(), AppID: c.box.AppID(), SellerID: c.box.SellerID(),
		PrivateKey: alipay.Secret(c.box.AppPrivateKey()), AlipayPublicKey: c.box.PublicKey(),
		NotifyURL: "http://shop.example" + notifyPath, ReturnURL: "http://shop.example" + returnPath,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.CloseIdleConnections)
	return client
}

// due lets the deadline of an order pass.
func (c *counter) due(order flashsale.Order) {
	c.t.Helper()
	c.exec(`UPDATE orders SET pay_deadline = now() - interval '1 second' WHERE order_no = $1`, order.OrderNo)
	c.exec(`UPDATE charges SET next_at = now(), expires_at = now() WHERE order_no = $1`, order.OrderNo)
}

// exec runs SQL behind the ledger's back.
func (c *counter) exec(sql string, args ...any) {
	c.t.Helper()
	conn, err := pgx.Connect(c.t.Context(), c.value("DATABASE_URL"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(c.t.Context(), sql, args...); err != nil {
		c.t.Fatal(err)
	}
}

// Protects the timeout: the trade of an overdue order is closed before the order is cancelled,
// "already paid" wins, and a trade that nobody has opened holds nothing up.
func TestDesk_CloseDue(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	opened, paid, unseen := c.unpaid(), c.unpaid(), c.unpaid()
	c.open(opened)
	c.open(paid)
	if s, err := c.desk.Start(t.Context(), unseen.OrderNo, unseen.User, flashsale.Alipay); err != nil || s.Outcome != flashsale.PayStarted {
		t.Fatal(s, err)
	}
	c.faults(sandbox.Faults{Lose: -1}) // every notice
	if err := c.box.Pay(paid.OrderNo.String()); err != nil {
		t.Fatal(err)
	}
	for _, order := range []flashsale.Order{opened, paid, unseen} {
		c.due(order)
	}
	if results, err := c.rooms.ledger.CancelDue(t.Context(), 10); err != nil || len(results) != 0 {
		t.Fatalf("cancelled before their trades were closed: %v, %v", results, err)
	}
	if n, _, err := c.desk.CloseDue(t.Context(), 10); err != nil || n != 3 {
		t.Fatalf("close: %d, %v", n, err)
	}
	if results, err := c.rooms.ledger.CancelDue(t.Context(), 10); err != nil || len(results) != 2 {
		t.Fatalf("cancelled: %v, %v", results, err)
	}
	c.wantStatus(opened, flashsale.Cancelled)
	c.wantStatus(unseen, flashsale.Cancelled)
	c.wantStatus(paid, flashsale.Paid)
	if trade, err := c.box.Trade(opened.OrderNo.String()); err != nil || trade.Status != sandbox.TradeClosed {
		t.Errorf("trade %+v, %v", trade, err)
	}
	c.sound()
}

// Protects what a shopper may ask for: each answer has its code, none is an error, and nothing
// is left behind by a refusal.
func TestDesk_Outcomes(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	start := func(order flashsale.Order, user string, method flashsale.Method) string {
		s, err := c.desk.Start(t.Context(), order.OrderNo, user, method)
		if errors.Is(err, flashsale.ErrNotFound) {
			return "not found"
		}
		if err != nil {
			t.Fatal(err)
		}
		return s.Outcome.String()
	}
	order := c.unpaid()
	poor := c.unpaid()
	late := c.unpaid()
	c.exec(`UPDATE orders SET pay_deadline = now() + interval '1 minute' WHERE order_no = $1`, late.OrderNo)
	c.exec(`UPDATE orders SET amount_points = 8 WHERE order_no = $1`, poor.OrderNo)
	for _, step := range []struct{ got, want string }{
		{start(order, "somebody", flashsale.Points), "not found"},
		{start(flashsale.Order{OrderNo: 4711}, order.User, flashsale.Points), "not found"},
		{start(order, order.User, "cash"), "method_unavailable"},
		{start(late, late.User, flashsale.Alipay), "too_late"},
		{start(poor, poor.User, flashsale.Points), "insufficient_points"},
		{start(poor, poor.User, flashsale.Points), "insufficient_points"},
		{start(poor, poor.User, flashsale.Alipay), "started"},
		{start(order, order.User, flashsale.Points), "paid"},
		{start(order, order.User, flashsale.Points), "paid"},
		{start(order, order.User, flashsale.Alipay), "paid"},
	} {
		if step.got != step.want {
			t.Errorf("got %s, want %s", step.got, step.want)
		}
	}
	if got := c.balance(order); got != "0/0" {
		t.Errorf("balance %s", got)
	}
	if got := c.balance(poor); got != "7/0" {
		t.Errorf("a refusal leaves %s", got)
	}
	if granted, err := c.desk.Grant(t.Context(), poor.User, 1, "more-"+poor.User); err != nil || !granted {
		t.Fatal(granted, err)
	}
	if got := start(poor, poor.User, flashsale.Points); got != "paid" {
		t.Errorf("with enough points: %s", got)
	}
	s, err := c.desk.Refund(t.Context(), late.OrderNo, late.User, "")
	if err != nil || s.Outcome != flashsale.NotRefundable || s.Order.Status != flashsale.Unpaid {
		t.Errorf("refund of an unpaid order: %+v, %v", s, err)
	}
	if s, err = c.desk.Refund(t.Context(), order.OrderNo, order.User, ""); err != nil || s.Outcome != flashsale.RefundComplete {
		t.Errorf("refund: %+v, %v", s, err)
	}
	if got := c.balance(order); got != "7/0" {
		t.Errorf("balance after the refund %s", got)
	}
	if got := start(order, order.User, flashsale.Points); got != "not_payable" {
		t.Errorf("paying a refunded order: %s", got)
	}
	c.sound()
}

// Protects money that Alipay will not give back: the refund stops, the audit names it, and an
// operator settles it, which gives the unit back.
func TestRefund_Refused(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	order := c.unpaid()
	c.open(order)
	c.shopperPays(order)
	// Somebody has refunded half of it at Alipay, so our whole refund exceeds what is left; and the
	// notice that tells us is lost.
	c.faults(sandbox.Faults{Lose: -1})
	if err := c.box.RefundByHand(order.OrderNo.String(), "by-hand", 500); err != nil {
		t.Fatal(err)
	}
	s, err := c.desk.Refund(t.Context(), order.OrderNo, order.User, "")
	if err != nil || s.Outcome != flashsale.RefundStarted {
		t.Fatalf("refund: %+v, %v", s, err)
	}
	c.wantStatus(order, flashsale.Refunding)
	report, err := c.desk.Money(t.Context(), 0)
	if err != nil || len(report.Broken) != 1 || !strings.Contains(report.Broken[0], "was refused") {
		t.Errorf("money: %+v, %v", report, err)
	}
	number := "R" + order.OrderNo.String()
	if out := c.command(exitOK, "refund", "list"); !strings.Contains(out, "refused_refund") || !strings.Contains(out, number) {
		t.Errorf("list says %s", out)
	}
	if out := c.command(exitOK, "refund", "settle", number); !strings.Contains(out, "is refunded") {
		t.Errorf("settle says %s", out)
	}
	for _, again := range []string{"settle", "retry"} {
		if out := c.command(exitFailed, "refund", again, number); !strings.Contains(out, "refused") {
			t.Errorf("%s again says %s", again, out)
		}
	}
	c.wantStatus(order, flashsale.Refunded)
	c.sound()
}

// Protects a shopper from asking for ever: an amount that a provider will never take ends the attempt
// with an answer, leaves nothing behind, and the order can still be paid in the other way.
func TestDesk_NeverTaken(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	c.recovering()
	dear, rich := c.unpaid(), c.unpaid()
	c.exec(`UPDATE orders SET amount_fen = 10000000001 WHERE order_no = $1`, dear.OrderNo)
	c.exec(`UPDATE orders SET amount_points = 1000000000001 WHERE order_no = $1`, rich.OrderNo)
	for _, step := range []struct {
		order  flashsale.Order
		method flashsale.Method
		want   flashsale.PayOutcome
	}{
		{dear, flashsale.Alipay, flashsale.PaymentRefused},
		{dear, flashsale.Alipay, flashsale.PaymentRefused},
		{dear, flashsale.Points, flashsale.PayDone},
		{rich, flashsale.Points, flashsale.PaymentRefused},
		{rich, flashsale.Points, flashsale.PaymentClosed},
		{rich, flashsale.Alipay, flashsale.PayStarted},
	} {
		s, err := c.desk.Start(t.Context(), step.order.OrderNo, step.order.User, step.method)
		if err != nil || s.Outcome != step.want {
			t.Errorf("%s: %s, %v, want %s", step.method, s.Outcome, err, step.want)
		}
	}
	if got := c.balance(rich); got != "7/0" {
		t.Errorf("a refusal leaves %s", got)
	}
	c.sound()
}

var errInjected = errors.New("injected")

// once fails at one point, once.
func once(point string) (pass func(string) error, failed *atomic.Bool) {
	failed = new(atomic.Bool)
	return func(at string) error {
		if at == point && failed.CompareAndSwap(false, true) {
			return errInjected
		}
		return nil
	}, failed
}

// Protects payments and refunds from a fault before and after each of their steps: whether the
// shopper asks again or goes away, the recovery finishes it, and points and money add up.
//
//nolint:tparallel // the cases run in parallel within one that ends when they have
func TestDesk_FaultAtEachStep(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	c.recovering()
	run := func(t *testing.T, name, point string, method flashsale.Method, steps func(desk *pay.Desk, order flashsale.Order) error, end flashsale.Status) {
		t.Helper()
		for _, insist := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, %s, insisting %t", name, point, insist), func(t *testing.T) {
				t.Parallel()
				order := c.unpaid()
				if end == flashsale.Refunded && method == flashsale.Alipay {
					c.open(order)
					if err := c.box.Pay(order.OrderNo.String()); err != nil {
						t.Fatal(err)
					}
					c.await(t, order, flashsale.Paid)
				}
				if end == flashsale.Refunded && method == flashsale.Points {
					if s, err := c.desk.Start(t.Context(), order.OrderNo, order.User, method); err != nil || s.Outcome != flashsale.PayDone {
						t.Fatal(s, err)
					}
				}
				pass, failed := once(point)
				desk := c.newDesk(pass)
				err := steps(desk, order)
				if !failed.Load() {
					t.Fatalf("nothing failed: %v", err)
				}
				// A request that never reached the ledger is nobody's to finish but the shopper's.
				if insist || point == before(stepBegin) || point == before(stepRefund) {
					if err := steps(desk, order); err != nil {
						t.Error(err)
					}
				}
				c.await(t, order, end)
			})
		}
	}
	startPoints := func(desk *pay.Desk, order flashsale.Order) error {
		_, err := desk.Start(context.Background(), order.OrderNo, order.User, flashsale.Points)
		return err
	}
	refund := func(desk *pay.Desk, order flashsale.Order) error {
		_, err := desk.Refund(context.Background(), order.OrderNo, order.User, "")
		return err
	}
	t.Run("all", func(t *testing.T) { // ends when its parallel tests have
		for _, step := range []string{stepBegin, stepTry, stepDecide, stepConfirm, stepMove} {
			for _, point := range []string{before(step), after(step)} {
				run(t, "points", point, flashsale.Points, startPoints, flashsale.Paid)
			}
		}
		for _, step := range []string{stepRefund, stepGiveBack, stepFinish} {
			for _, point := range []string{before(step), after(step)} {
				run(t, "refund of points", point, flashsale.Points, refund, flashsale.Refunded)
				run(t, "refund of money", point, flashsale.Alipay, refund, flashsale.Refunded)
			}
		}
	})
	c.sound()
}

func (c *counter) await(t *testing.T, order flashsale.Order, want flashsale.Status) {
	t.Helper()
	stacktest.Eventually(t, patience, func() error {
		if got := c.status(order); got != want {
			return fmt.Errorf("order %s is %s, want %s", order.OrderNo, got, want)
		}
		return nil
	})
}

// Protects a shopper whose order is over when the recovery finds his payment half done: the
// points are free again, wherever the crash was, and a try that comes late freezes nothing.
func TestDesk_CancelledWhilePaying(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	var orders []flashsale.Order
	for _, point := range []string{after(stepBegin), before(stepTry), after(stepTry), before(stepDecide)} {
		order := c.unpaid()
		pass, failed := once(point)
		if _, err := c.newDesk(pass).Start(t.Context(), order.OrderNo, order.User, flashsale.Points); err == nil || !failed.Load() {
			t.Fatalf("%s: %v", point, err)
		}
		if _, err := c.rooms.ledger.Cancel(t.Context(), order.OrderNo, order.User); err != nil {
			t.Fatal(err)
		}
		orders = append(orders, order)
	}
	c.recovering()
	c.sound()
	for _, order := range orders {
		c.wantStatus(order, flashsale.Cancelled)
		if got := c.balance(order); got != "7/0" {
			t.Errorf("order %s: balance %s", order.OrderNo, got)
		}
		if s, err := c.desk.Start(t.Context(), order.OrderNo, order.User, flashsale.Points); err != nil || s.Outcome != flashsale.NotPayable {
			t.Errorf("start again: %+v, %v", s, err)
		}
	}
}

// Protects one order from everything at once: paid by Alipay and with points, cancelled by the
// shopper and by the timeout, refunded, all at the same time. It has one end and one unit, and
// every fen and point is held by it or given back. FLASHSALE_RACES says how many orders.
func TestDesk_Races(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	c.recovering()
	rounds := 60
	if text := os.Getenv("FLASHSALE_RACES"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	random := seeded(t)
	orders := make([]flashsale.Order, rounds)
	for n := range orders {
		order := c.unpaid()
		orders[n] = order
		c.open(order)
		steps := []func(){
			func() { _ = c.box.Pay(order.OrderNo.String()) }, // refused once the trade is closed
			func() { _, _ = c.box.Trade(order.OrderNo.String()); _ = c.box.PayLate(order.OrderNo.String()) },
			func() { c.try(c.desk.Start(t.Context(), order.OrderNo, order.User, flashsale.Points)) },
			func() {
				_, err := c.rooms.ledger.Cancel(t.Context(), order.OrderNo, order.User)
				if err != nil && !errors.Is(err, flashsale.ErrConflict) {
					t.Error(err)
				}
			},
			func() {
				c.due(order)
				if _, _, err := c.desk.CloseDue(t.Context(), 10); err != nil {
					t.Error(err)
				}
				if _, err := c.rooms.ledger.CancelDue(t.Context(), 10); err != nil {
					t.Error(err)
				}
			},
			func() { c.try(c.desk.Refund(t.Context(), order.OrderNo, order.User, "")) },
			func() { c.try(c.desk.Refund(t.Context(), order.OrderNo, order.User, "")) },
		}
		random.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		leave := random.IntN(len(steps))
		var all sync.WaitGroup
		for _, step := range steps[leave/2:] {
			all.Go(step)
		}
		all.Wait()
	}
	c.settled()
	c.closeAll()
	report := c.sound()
	ends := make(map[flashsale.Status]int)
	for _, order := range orders {
		status := c.status(order)
		ends[status]++
		if trade, err := c.box.Trade(order.OrderNo.String()); err != nil || status == flashsale.Unpaid && !trade.PaidAt.IsZero() {
			t.Errorf("order %s is %s, its trade %+v, %v", order.OrderNo, status, trade, err)
		}
	}
	t.Logf("ends: %v, money: %+v", ends, report.Figures)
	trades := int64(0)
	for _, trade := range c.box.Trades() {
		if !trade.PaidAt.IsZero() {
			trades += trade.AmountFen
		}
	}
	for _, f := range report.Figures {
		if f.Method == flashsale.Alipay && f.Received != trades {
			t.Errorf("Alipay has taken %d fen, the ledger has %d", trades, f.Received)
		}
	}
}

// try accepts every answer and no fault.
func (c *counter) try(_ flashsale.Settlement, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Error(err)
	}
}

// closeAll ends every trade that is still open for an order that is over.
func (c *counter) closeAll() {
	c.t.Helper()
	c.exec(`UPDATE charges SET next_at = now(), expires_at = now() WHERE state = 'open'`)
	if _, _, err := c.desk.CloseDue(c.t.Context(), 1_000_000); err != nil {
		c.t.Error(err)
	}
	c.settled()
}

// Protects the audit from being blind: each contradiction between the databases is found.
func TestDesk_MoneyFindsFaults(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	paid, unpaid := c.unpaid(), c.unpaid()
	for _, order := range []flashsale.Order{paid, unpaid} {
		if s, err := c.desk.Start(t.Context(), order.OrderNo, order.User, flashsale.Points); err != nil || s.Outcome != flashsale.PayDone {
			t.Fatal(s, err)
		}
	}
	byHand := c.unpaid()
	c.exec(`UPDATE orders SET status = 'paid' WHERE order_no = $1`, byHand.OrderNo)
	c.exec(`UPDATE orders SET status = 'cancelled' WHERE order_no = $1`, unpaid.OrderNo)
	frozen := c.unpaid()
	pass, _ := once(after(stepTry))
	if _, err := c.newDesk(pass).Start(t.Context(), frozen.OrderNo, frozen.User, flashsale.Points); err == nil {
		t.Fatal("nothing failed")
	}
	c.exec(`DELETE FROM points_intents WHERE order_no = $1`, frozen.OrderNo)
	c.exec(`UPDATE points_intents SET trade_no = trade_no + 1 WHERE order_no = $1`, paid.OrderNo)
	report, err := c.desk.Money(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, line := range report.Broken {
		fmt.Fprintln(&text, line)
	}
	for _, want := range []string{
		"order " + byHand.OrderNo.String() + " is paid without a payment",
		"order " + unpaid.OrderNo.String() + " is cancelled, but trade",
		"points of order " + frozen.OrderNo.String() + " are held, and no payment was begun",
		"points of order " + paid.OrderNo.String() + " were taken, and it is not paid with them",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("not found: %s\n%s", want, &text)
		}
	}
}
