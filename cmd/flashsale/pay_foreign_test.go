package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
	"flashsale/pay/alipay"
	"flashsale/pay/alipay/sandbox"
)

// paidOrder is an order that was paid at the local Alipay.
func (c *counter) paidOrder() flashsale.Order {
	c.t.Helper()
	order := c.unpaid()
	c.open(order)
	c.shopperPays(order)
	c.wantStatus(order, flashsale.Paid)
	return order
}

// byHand refunds in Alipay's console, and waits until all notices were taken.
func (c *counter) byHand(order flashsale.Order, number string, fen int64) {
	c.t.Helper()
	before := len(c.acknowledged(order.OrderNo))
	if err := c.box.RefundByHand(order.OrderNo.String(), number, fen); err != nil {
		c.t.Fatal(err)
	}
	c.settled()
	for _, acknowledged := range c.acknowledged(order.OrderNo)[before:] {
		if !acknowledged {
			c.t.Errorf("the notice of refund %q was not acknowledged", number)
		}
	}
}

// foreign shows an order's refunds that were not ours: "number amount", and "settled".
func (c *counter) foreign(order flashsale.Order) string {
	c.t.Helper()
	history, err := c.desk.History(c.t.Context(), order.OrderNo)
	if err != nil {
		c.t.Fatal(err)
	}
	var shown []string
	for _, f := range history.Foreign {
		line := fmt.Sprintf("%s %d", f.ProviderNo, f.Amount)
		if !f.SettledAt.IsZero() {
			line += " settled"
		}
		shown = append(shown, line)
	}
	return strings.Join(shown, ", ")
}

// broken counts what invariant 5 says about an order, and proves that the sums hold all the same.
func (c *counter) broken(order flashsale.Order) (lines int) {
	c.t.Helper()
	report, err := c.desk.Money(c.t.Context(), 0)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range report.Figures {
		if f.Received != f.Held+f.Refunding+f.Refunded {
			c.t.Errorf("%+v does not add up", f)
		}
	}
	for _, line := range report.Broken {
		if strings.Contains(line, order.OrderNo.String()) {
			lines++
		}
	}
	return lines
}

func (c *counter) settle(number string) {
	c.t.Helper()
	if _, err := c.desk.SettleRefund(c.t.Context(), number); err != nil {
		c.t.Errorf("settle %s: %v", number, err)
	}
}

// Protects the books from refunds that are made without us, in Alipay's console: each is on
// record however often its notice comes, breaks invariant 5 until an operator has settled it, and a
// refund of ours is for the rest.
//
//nolint:tparallel // the cases switch the faults of one Alipay
func TestForeignRefunds(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	c.recovering()
	want := func(t *testing.T, order flashsale.Order, status flashsale.Status, foreign string, broken int) {
		t.Helper()
		c.wantStatus(order, status)
		if got := c.foreign(order); got != foreign {
			t.Errorf("refunds that were not ours: %q, want %q", got, foreign)
		}
		if got := c.broken(order); got != broken {
			t.Errorf("%d lines of invariant 5, want %d", got, broken)
		}
	}

	t.Run("a part, its notice 8 times, then settled", func(t *testing.T) {
		order := c.paidOrder()
		c.faults(sandbox.Faults{Duplicate: 7})
		c.byHand(order, "console/客服 7", 300)
		c.faults(sandbox.Faults{})
		want(t, order, flashsale.Paid, "console/客服 7 300", 1)
		c.settle("console/客服 7")
		want(t, order, flashsale.Paid, "console/客服 7 300 settled", 0)
		if _, err := c.desk.SettleRefund(t.Context(), "F"+order.OrderNo.String()+"-1"); err == nil {
			t.Error("settled twice")
		}
		// The shopper gets the rest.
		s, err := c.desk.Refund(t.Context(), order.OrderNo, order.User, "")
		if err != nil || s.Outcome != flashsale.RefundComplete {
			t.Fatalf("refund: %+v, %v", s, err)
		}
		if trade, err := c.box.Trade(order.OrderNo.String()); err != nil || trade.RefundedFen() != 990 {
			t.Errorf("trade %+v, %v", trade, err)
		}
		want(t, order, flashsale.Refunded, "console/客服 7 300 settled", 0)
	})
	t.Run("several parts until nothing is left, some without a number", func(t *testing.T) {
		order := c.paidOrder()
		c.byHand(order, "A-"+order.OrderNo.String(), 300)
		c.byHand(order, "", 200)
		c.byHand(order, "C-"+order.OrderNo.String(), 490)
		want(t, order, flashsale.Paid, fmt.Sprintf("A-%s 300,  200, C-%[1]s 490", order.OrderNo), 3)
		c.settle("A-" + order.OrderNo.String())
		c.settle("F" + order.OrderNo.String() + "-2")
		c.wantStatus(order, flashsale.Paid)
		c.settle("C-" + order.OrderNo.String())
		want(t, order, flashsale.Refunded, fmt.Sprintf("A-%s 300 settled,  200 settled, C-%[1]s 490 settled", order.OrderNo), 0)
		if told, _ := c.told.Load(order.OrderNo); told != flashsale.Refunded {
			t.Errorf("told %v", told)
		}
	})
	t.Run("all of it, and the shopper asks before it is settled", func(t *testing.T) {
		order := c.paidOrder()
		c.byHand(order, "all-"+order.OrderNo.String(), 990)
		s, err := c.desk.Refund(t.Context(), order.OrderNo, order.User, "")
		if err != nil || s.Outcome != flashsale.RefundComplete {
			t.Fatalf("refund: %+v, %v", s, err)
		}
		want(t, order, flashsale.Refunded, "all-"+order.OrderNo.String()+" 990", 1)
		c.settle("all-" + order.OrderNo.String())
		want(t, order, flashsale.Refunded, "all-"+order.OrderNo.String()+" 990 settled", 0)
	})
	t.Run("a part, while all of it is owed by us", func(t *testing.T) {
		order := c.paidOrder()
		if _, err := c.rooms.ledger.StartRefund(t.Context(), order.OrderNo, order.User, ""); err != nil {
			t.Fatal(err)
		}
		number := "part-" + order.OrderNo.String()
		c.byHand(order, number, 300)
		stacktest.Eventually(t, patience, func() error { // the recovery asks for the rest
			if got := c.status(order); got != flashsale.Refunded {
				return fmt.Errorf("order is %s", got)
			}
			return nil
		})
		if trade, err := c.box.Trade(order.OrderNo.String()); err != nil || trade.RefundedFen() != 990 {
			t.Errorf("trade %+v, %v", trade, err)
		}
		c.settle(number)
		want(t, order, flashsale.Refunded, number+" 300 settled", 0)
	})
	t.Run("of an order that nobody has paid as far as we know", func(t *testing.T) {
		order := c.unpaid()
		c.open(order)
		c.faults(sandbox.Faults{Lose: -1})
		c.shopperPays(order)
		c.faults(sandbox.Faults{})
		number := "early-" + order.OrderNo.String()
		c.byHand(order, number, 990)
		want(t, order, flashsale.Unpaid, number+" 990", 1)
		c.settle(number)
		want(t, order, flashsale.Unpaid, number+" 990 settled", 0)
	})
	t.Run("in part, of a payment whose notices were all lost", func(t *testing.T) {
		order := c.unpaid()
		c.open(order)
		c.faults(sandbox.Faults{Lose: -1})
		c.shopperPays(order)
		c.faults(sandbox.Faults{})
		number := "half-" + order.OrderNo.String()
		c.byHand(order, number, 490)
		want(t, order, flashsale.Paid, number+" 490", 1)
		c.settle(number)
	})
	t.Run("all of it, every notice lost", func(t *testing.T) {
		order := c.unpaid()
		c.open(order)
		c.faults(sandbox.Faults{Lose: -1})
		c.shopperPays(order)
		if err := c.box.RefundByHand(order.OrderNo.String(), "lost", 990); err != nil {
			t.Fatal(err)
		}
		c.settled()
		c.faults(sandbox.Faults{})
		c.due(order)
		if _, _, err := c.desk.CloseDue(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		want(t, order, flashsale.Unpaid, " 990", 1)
		c.settle("F" + order.OrderNo.String() + "-1")
	})
	t.Run("of an order that is not ours", func(t *testing.T) {
		number, err := c.rooms.engine.NextNumber()
		if err != nil {
			t.Fatal(err)
		}
		order := flashsale.Order{OrderNo: flashsale.OrderNo(number)}
		page, err := c.newClient().PageURL(t.Context(), alipay.Charge{
			OrderNo: order.OrderNo, Subject: "x", AmountFen: 990, Expire: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		c.visit(page)
		c.shopperPays(order)
		c.byHand(order, "elsewhere", 490)
		c.byHand(order, "elsewhere too", 500)
	})
	c.sound()
}
