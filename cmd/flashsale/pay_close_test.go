package main

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
	"flashsale/pay/alipay/sandbox"
	"flashsale/worker"
)

// manyPages is how many pay pages are due at once: FLASHSALE_PAGES asks for more.
func manyPages(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("FLASHSALE_PAGES"))
	if err != nil {
		return 600
	}
	return n
}

// charge hands out the pages of n new orders, and lets their deadlines pass long ago.
func (c *counter) charge(n int) (orders []flashsale.Order) {
	c.t.Helper()
	orders = make([]flashsale.Order, n)
	for k := range orders {
		number, err := c.rooms.engine.NextNumber()
		if err != nil {
			c.t.Fatal(err)
		}
		orders[k] = flashsale.Order{
			OrderNo: flashsale.OrderNo(number), ItemID: c.item.ID, User: "p" + strconv.FormatInt(number, 10), Quantity: 1,
			Sequence: number, ReservedAt: time.Now(),
		}
	}
	for first := 0; first < n; first += 1000 {
		if _, err := c.rooms.ledger.Persist(c.t.Context(), orders[first:min(first+1000, n)]); err != nil {
			c.t.Fatal(err)
		}
	}
	c.exec(`INSERT INTO charges (order_no, expires_at, next_at)
		SELECT order_no, now(), now() FROM orders WHERE user_id LIKE 'p%'`)
	c.exec(`UPDATE orders SET pay_deadline = now() - interval '1 hour' WHERE user_id LIKE 'p%'`)
	return orders
}

// Protects "already paid wins" when very many pay pages are due at once, and long over: no order is
// cancelled before its own trade was closed, the trades are closed many at a time, and what was
// paid meanwhile is paid.
func TestCloseDue_ManyAtOnce(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	paid := c.unpaid() // due like the others, and the last in the queue
	c.open(paid)
	pages := manyPages(t)
	orders := c.charge(pages)
	c.faults(sandbox.Faults{Lose: -1, CallDelayMS: 150})
	if err := c.box.Pay(paid.OrderNo.String()); err != nil {
		t.Fatal(err)
	}
	c.exec(`UPDATE orders SET pay_deadline = now() - interval '1 hour' WHERE order_no = $1`, paid.OrderNo)
	c.exec(`UPDATE charges SET next_at = now() - interval '1 second', expires_at = now() WHERE order_no = $1`, paid.OrderNo)
	c.exec(`UPDATE charges SET next_at = now() - interval '2 seconds' WHERE order_no <> $1`, paid.OrderNo)

	began := time.Now()
	ended, cancelled := 0, 0
	cancel := func() {
		results, err := c.rooms.ledger.CancelDue(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		cancelled += len(results)
		if cancelled > ended {
			t.Fatalf("%d orders are cancelled, %d trades have ended", cancelled, ended)
		}
	}
	cancel()
	for more := true; more; {
		n, again, err := c.desk.CloseDue(t.Context(), 1_000_000)
		if err != nil {
			t.Fatal(err)
		}
		ended, more = ended+n, again
		cancel()
	}
	if ended != pages+1 || cancelled != pages {
		t.Errorf("%d of %d trades have ended, %d orders are cancelled", ended, pages+1, cancelled)
	}
	c.wantStatus(paid, flashsale.Paid)
	c.wantStatus(orders[0], flashsale.Cancelled)
	if most := c.box.CallsMost(); most < 32 || most > 64 {
		t.Errorf("%d calls at the same time, want up to 64", most)
	}
	t.Logf("%d trades in %s", ended, time.Since(began).Round(time.Millisecond))
}

// Protects Alipay, and us, from more calls than it takes: the pace halves until they are taken, and
// no trade is given up meanwhile.
func TestCloseDue_AtThePaceThatIsTaken(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	orders := c.charge(100)
	c.faults(sandbox.Faults{CallDelayMS: 20, CallsMax: 10})
	var _ worker.Trades = c.desk
	stacktest.Eventually(t, patience, func() error {
		c.exec(`UPDATE charges SET next_at = now() WHERE state = 'open'`)
		if _, _, err := c.desk.CloseDue(t.Context(), 1000); err != nil {
			return err
		}
		left := 0
		for _, order := range orders {
			if open, err := c.rooms.ledger.ChargeOpen(t.Context(), order.OrderNo); err != nil || open {
				left++
			}
		}
		if left > 0 {
			return fmt.Errorf("%d trades are open", left)
		}
		return nil
	})
}
