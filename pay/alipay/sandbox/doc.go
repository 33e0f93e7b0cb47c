// Package sandbox is a local Alipay for the demo and for tests: a gateway that speaks the same
// protocol over HTTP, with keys of its own and no real money.
//
//	box, err := sandbox.New(sandbox.Config{Addr: "127.0.0.1:0"})
//	…
//	go box.Run(ctx)
//	client, err := alipay.New(alipay.Config{
//		AllowSandbox: true, GatewayURL: box.GatewayURL(), AppID: box.AppID(), SellerID: box.SellerID(),
//		PrivateKey: alipay.Secret(box.AppPrivateKey()), AlipayPublicKey: box.PublicKey(), …
//	})
//
// # What it does as Alipay does
//
//   - It verifies the signature of every request and signs every answer.
//   - alipay.trade.page.pay shows a page on which the shopper pays or declines, and makes the
//     trade when the page is opened. Later the browser is sent to return_url, signed.
//   - Notices of payments, refunds and closes are posted to notify_url until it answers
//     "success": 8 times in 25 hours, or faster by [Config.Scale].
//   - alipay.trade.query, close, refund and fastpay.refund.query answer with Alipay's codes. A
//     refund happens once for each out_request_no; a payment is not taken after time_expire, nor
//     after a close.
//
// # What it does worse on demand
//
// [Faults] duplicate, delay, reorder, lose, forge and falsify notices, and make calls fail;
// [Sandbox.PayLate] and the button "pay late" bring money for a trade that has expired or was
// closed. Tests call the Go API; everybody else has /sandbox/: see [Sandbox.ServeHTTP].
//
// # What is not promised
//
// It is a stand-in for one application and one seller, kept in memory, for a demo's number of
// trades: with [Config.StateFile] each change rewrites the file. Its knobs ask for no password:
// it listens on this machine, and configurations for production refuse to start with it.
package sandbox
