package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
	"flashsale/pay"
	"flashsale/pay/alipay"
	"flashsale/pay/alipay/sandbox"
)

// loopback is where the messages of tests come from.
var loopback = netip.MustParsePrefix("127.0.0.1/32")

// Protects payments from garbage: while messages without end come from the very address of Alipay,
// some with all that a shopper can know of a genuine one, every notice is acknowledged the first time.
func TestNotices_AmongGarbage(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	const payments = 20
	known := c.unpaid() // the forger's own order
	orders := make([]flashsale.Order, payments)
	for n := range orders {
		orders[n] = c.unpaid()
		c.open(orders[n])
	}
	forgery := func(order string) string {
		return url.Values{
			"app_id": {c.box.AppID()}, "seller_id": {c.box.SellerID()}, "out_trade_no": {order}, "sign_type": {"RSA2"},
			"sign": {strings.Repeat("AAAA", 85) + "AA=="}, "total_amount": {"9.90"}, "trade_no": {"1"},
			"trade_status": {"TRADE_SUCCESS"}, "notify_type": {"trade_status_sync"}, "notify_id": {"1"}, "charset": {"utf-8"},
		}.Encode()
	}
	ctx, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	for n := range 4 {
		flood.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				body := "garbage"
				switch (k + n) % 3 {
				case 0:
					body = forgery(known.OrderNo.String())
				case 1:
					body = forgery(strconv.Itoa(1_000_000_000_000_000_000 + k))
				}
				if err := c.desk.Notify(ctx, loopback, []byte(body)); !errors.Is(err, alipay.ErrForged) && !errors.Is(err, pay.ErrBusy) && ctx.Err() == nil {
					t.Errorf("garbage: %v", err)
					return
				}
			}
		})
	}
	for _, order := range orders {
		if err := c.box.Pay(order.OrderNo.String()); err != nil {
			t.Error(err)
		}
	}
	c.settled()
	stop()
	flood.Wait()
	for _, order := range orders {
		if got := fmt.Sprint(c.acknowledged(order.OrderNo)); got != "[true]" {
			t.Errorf("acknowledged %s", got)
		}
		c.wantStatus(order, flashsale.Paid)
	}
}

// Protects a shopper who has paid from lost notices: coming back from the pay page, or waiting for
// the order, makes us ask Alipay, and not more often than once in two seconds.
func TestDesk_Look(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	c.faults(sandbox.Faults{Lose: -1})
	waiting, idle := c.unpaid(), c.unpaid()
	c.open(waiting)
	look := func(order flashsale.Order) {
		t.Helper()
		if err := c.desk.Look(t.Context(), order.OrderNo); err != nil {
			t.Error(err)
		}
	}
	look(idle) // nothing was started
	if err := c.box.Pay(waiting.OrderNo.String()); err != nil {
		t.Fatal(err)
	}
	look(waiting)
	c.wantStatus(waiting, flashsale.Paid)
	if told, _ := c.told.Load(waiting.OrderNo); told != flashsale.Paid {
		t.Errorf("told %v", told)
	}

	second := c.unpaid()
	c.open(second)
	look(second)
	if err := c.box.Pay(second.OrderNo.String()); err != nil {
		t.Fatal(err)
	}
	look(second) // too soon
	c.wantStatus(second, flashsale.Unpaid)
	stacktest.Eventually(t, patience, func() error {
		look(second)
		if got := c.status(second); got != flashsale.Paid {
			return fmt.Errorf("order is %s", got)
		}
		return nil
	})
	if _, err := c.desk.Return(t.Context(), loopback, []byte("out_trade_no=1")); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("a forged return: %v", err)
	}
}
