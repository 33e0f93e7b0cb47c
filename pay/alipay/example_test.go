package alipay_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"flashsale/pay/alipay"
	"flashsale/pay/alipay/sandbox"
)

// An order is charged, paid at a local Alipay, and refunded.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	box, err := sandbox.New(sandbox.Config{Addr: "127.0.0.1:0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ran := make(chan error, 1)
	go func() { ran <- box.Run(ctx) }()
	defer func() {
		stop()
		<-ran
	}()

	client, err := alipay.New(alipay.Config{
		AllowSandbox: true, GatewayURL: box.GatewayURL(), AppID: box.AppID(), SellerID: box.SellerID(),
		PrivateKey: alipay.Secret(box.AppPrivateKey()), AlipayPublicKey: box.PublicKey(),
		NotifyURL: "http://127.0.0.1:8080/v1/payments/alipay/notify",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()

	page, err := client.PageURL(ctx, alipay.Charge{
		OrderNo: 42, Subject: "手机", AmountFen: 129900, Expire: time.Now().Add(15 * time.Minute),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// The shopper opens the page and pays.
	if request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, http.NoBody); err == nil {
		transport := &http.Transport{DisableKeepAlives: true}
		if response, err := transport.RoundTrip(request); err == nil {
			_ = response.Body.Close()
		}
	}
	if err := box.Pay("42"); err != nil {
		fmt.Println(err)
	}

	trade, err := client.Query(ctx, 42)
	fmt.Println(trade.Status, trade.AmountFen, err)
	closed, err := client.Close(ctx, 42)
	fmt.Println("closed:", closed, err)
	done, err := client.Refund(ctx, 42, "R42", trade.AmountFen, "the shopper changed his mind")
	fmt.Println("refunded:", done, err)
	// Output:
	// TRADE_SUCCESS 129900 <nil>
	// closed: false <nil>
	// refunded: true <nil>
}
