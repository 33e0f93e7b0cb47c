// Package alipay takes payments through Alipay's page pay and gives them back. It is a
// provider: it knows an order only by its number, amount and deadline, keeps no state and
// decides nothing about orders.
//
//	client, err := alipay.New(alipay.Config{AppID: …, SellerID: …, PrivateKey: …, AlipayPublicKey: …, NotifyURL: …})
//	…
//	url, err := client.PageURL(ctx, alipay.Charge{OrderNo: no, Subject: "手机", AmountFen: 129900, Expire: deadline})
//
// # What is promised
//
//   - A [Notice] and a returned order number come only from a message that Alipay signed over
//     exactly these fields, for our app_id and our seller_id. Everything else is [ErrForged].
//   - What [Client.Query], [Client.Close], [Client.Refund] and [Client.RefundQuery] report
//     comes only from a signed answer about the order that was asked for. An answer that is
//     unsigned, even an error, proves nothing and is [ErrUnavailable].
//   - Amounts are fen, read and written digit by digit. No float is involved anywhere.
//   - No message from outside makes the client call anyone: see below.
//   - Keys appear in no error and no log.
//
// # What is not promised
//
// A notice is a hint that money has moved, at some time: Alipay sends one up to 8 times in 25
// hours, in any order. Whoever gets one asks [Client.Query] before an order is paid. A
// synchronous return proves only which order the shopper comes back from, never that it is
// paid.
//
// # Errors
//
// [ErrUnavailable] is transient and leaves the outcome unknown: ask again, with the same
// refund number. [ErrRefused] is final: the same request will be refused again.
// [ErrUnknownTrade] tells that Alipay has no such trade yet: it makes one when the shopper
// opens the pay page, so a pay page that is open in time may still make one after that answer.
// [APIError] carries Alipay's codes for the log.
//
// # The library underneath
//
// Requests are built, signed and verified by smartwalle/alipay. Three of its habits are
// minded here: it has no timeout of its own, so its http.Client is ours; it reads answers
// of any length, so ours are cut; and in production mode an unknown alipay_cert_sn in a
// message that is not verified yet makes it download a certificate while it holds its lock. It
// therefore never runs in that mode (the gateway is given to it instead), and serial numbers
// are checked against our own list before it sees a message. When Alipay replaces its
// certificate, add the new one to [Config.AlipayCertificates] beside the old one.
package alipay
