package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"flashsale"
	"flashsale/pay"
	"flashsale/pay/alipay"
	"flashsale/pay/points"
	"flashsale/worker"
)

// paying is how orders are paid with Alipay.
type paying struct {
	PublicURL  string      `env:"PUBLIC_URL" placeholder:"$PUBLIC_URL" help:"Where the outside reaches the shoppers' address, such as https://shop.example: Alipay's notices and returning browsers come there. Required with Alipay."`
	OrderPage  string      `env:"ORDER_PAGE" default:"${order_page}" help:"Where browsers that return from Alipay go, such as https://shop.example/orders/{order_no}; empty: they are shown the order's state."`
	NoticesMax int         `env:"NOTICES_MAX" default:"2000" help:"Questions a second that Alipay is asked because of its notices and of shoppers who wait."`
	Alipay     alipayFlags `embed:"" prefix:"alipay-"`
}

// alipayFlags are the application at Alipay. A key or certificate is PEM text, base64 or a path.
type alipayFlags struct {
	AppID            string        `env:"ALIPAY_APP_ID" help:"The application's id; without it orders cannot be paid with Alipay."`
	SellerID         string        `env:"ALIPAY_SELLER_ID" help:"The account that is paid: 16 digits from 2088."`
	Gateway          string        `env:"ALIPAY_GATEWAY" help:"Default: Alipay's own."`
	PrivateKey       alipay.Secret `env:"ALIPAY_PRIVATE_KEY" help:"The application's private key: PEM text, base64, or a file."`
	PublicKey        string        `env:"ALIPAY_PUBLIC_KEY" help:"Key mode: Alipay's public key for this application."`
	AppCertificate   string        `env:"ALIPAY_APP_CERTIFICATE" help:"Certificate mode: appCertPublicKey_<app id>.crt."`
	Certificates     string        `env:"ALIPAY_CERTIFICATES" help:"Certificate mode: alipayCertPublicKey_RSA2.crt, several one after another."`
	RootCertificates string        `env:"ALIPAY_ROOT_CERTIFICATES" help:"Certificate mode: alipayRootCert.crt."`
	AtOnce           int           `env:"ALIPAY_AT_ONCE" default:"64" help:"Trades that a worker ends, or refunds that it asks for, at the same time, while Alipay takes as many."`
	Sandbox          bool          `env:"ALIPAY_SANDBOX" help:"Permit a sandbox, with no real money. Never in production."`
}

// Paths that Alipay calls, below the public URL.
const (
	notifyPath = "/v1/payments/alipay/notify"
	returnPath = "/v1/payments/alipay/return"
	orderPage  = "/orders/{order_no}" // of the built-in shop
)

// openDesk makes rooms ready to take payments. wake is called when units were given back.
func (r *rooms) openDesk(p paying, wake func()) (err error) {
	r.orderPage, r.paying = p.OrderPage, p
	if r.alipay, err = r.newAlipay(p); err != nil {
		return err
	}
	if r.herald, err = worker.NewHerald(r.redisURL, r.logger); err != nil {
		return err
	}
	r.desk, err = r.newDesk(r.alipay, r.herald, wake)
	return err
}

func (r *rooms) newAlipay(p paying) (*alipay.Client, error) {
	a := p.Alipay
	if a.AppID == "" {
		if a.PrivateKey != "" || a.SellerID != "" {
			return nil, errors.New("ALIPAY_APP_ID is missing, though other settings of Alipay are there")
		}
		return nil, nil
	}
	if p.PublicURL == "" {
		return nil, errors.New("PUBLIC_URL is required with Alipay: its notices come there")
	}
	base := strings.TrimSuffix(p.PublicURL, "/")
	client, err := alipay.New(alipay.Config{
		AlipayCertificates: a.Certificates,
		AlipayPublicKey:    a.PublicKey,
		AllowSandbox:       a.Sandbox,
		AppCertificate:     a.AppCertificate,
		AppID:              a.AppID,
		ConnsMax:           a.AtOnce + pay.DefaultAtOnce, // recovery's, and those of notices
		GatewayURL:         a.Gateway,
		Logger:             r.logger,
		NotifyURL:          base + notifyPath,
		PrivateKey:         a.PrivateKey,
		Registerer:         r.metrics,
		ReturnURL:          base + returnPath,
		RootCertificates:   a.RootCertificates,
		SellerID:           a.SellerID,
	})
	if err != nil {
		return nil, fmt.Errorf("payments: %w", err)
	}
	return client, nil
}

// ways are all ways to pay, and whether this shop takes them.
func ways(withAlipay, withPoints bool) []flashsale.Terms {
	all := []flashsale.Terms{alipay.Config{}.Terms(), points.Config{}.Terms()}
	all[0].Offered, all[1].Offered = withAlipay, withPoints
	return all
}

// newDesk joins the desk with what is there. Without a client and a herald it only looks.
func (r *rooms) newDesk(client *alipay.Client, herald *worker.Herald, wake func()) (*pay.Desk, error) {
	config := pay.Config{
		AtOnce: r.paying.Alipay.AtOnce, NoticesMax: r.paying.NoticesMax,
		Ledger: r.ledger, Logger: r.logger, NextTradeNo: r.engine.NextNumber, Wake: wake,
	}
	if client != nil {
		config.Alipay = client
	}
	if r.points != nil {
		config.Points = r.points
	}
	if herald != nil {
		config.Registerer, config.Tell = r.metrics, herald.Tell
	}
	if r.seams.desk != nil {
		r.seams.desk(&config)
	}
	return pay.New(config)
}

func (r *rooms) closeDesk() {
	if r.alipay != nil {
		r.alipay.CloseIdleConnections()
	}
	if r.herald != nil {
		_ = r.herald.Close() // of a connection that only published
	}
}

// work runs a worker and, beside it, the recovery of payments, until ctx ends and both are done.
func (r *rooms) work(w *worker.Worker) func(context.Context) error {
	return func(ctx context.Context) error {
		recovery, stop := context.WithCancel(ctx)
		recovered := make(chan error, 1)
		go func() { recovered <- r.desk.Run(recovery) }()
		err := w.Run(ctx)
		stop()
		return errors.Join(err, <-recovered)
	}
}
