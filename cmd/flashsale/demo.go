package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack"
	"flashsale/pay/alipay"
	"flashsale/pay/alipay/sandbox"
	"flashsale/worker"
)

type demoCommand struct {
	serving  `embed:""`
	working  `embed:""`
	topology `embed:""`
	Dir      string        `env:"DEMO_DIR" help:"Data folder; what it holds survives restarts. Default: ${demo_dir}"`
	Rush     int           `placeholder:"N" help:"Send N shoppers over HTTP, each trying twice, then report, audit and exit."`
	Cashier  string        `name:"alipay-addr" env:"ALIPAY_ADDR" default:"127.0.0.1:8090" help:"Where the demo's own Alipay listens."`
	Pay      time.Duration `name:"pay-timeout" default:"15m" help:"How long the demo's orders may stay unpaid."`
}

// The demo's sale.
const (
	demoSoon     = 5 * time.Second
	demoLater    = time.Minute
	demoDuration = 24 * time.Hour
	demoLogin    = "demo-admin-of-this-machine"
	demoVouching = time.Minute // for the worker to compare a Redis that was started again with the ledger
	demoInterval = 20 * time.Millisecond
	demoPoints   = 10_000 // for each of the shoppers
	demoNotices  = 0.01   // of Alipay's waits before it sends a notice again
)

// demoShoppers have a token each, ready to type.
var demoShoppers = []string{"ann", "bob", "eve"}

// Run starts everything on private stores, and ends it in the reverse order.
func (c *demoCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) (err error) {
	if c.Rush < 0 || c.Rush > rushMax {
		return fmt.Errorf("--rush must be from 1 to %d", rushMax)
	}
	c.DevLogin, c.Drain = true, 0 // nobody balances here
	if c.AdminToken == "" {
		c.AdminToken = demoLogin
	}
	if c.Dir == "" {
		c.Dir = devstack.DefaultDir()
		if !c.single() { // a ledger's items lie in one Redis
			c.Dir = filepath.Join(c.Dir, fmt.Sprintf("cluster-%d-sentinels-%d", c.Cluster, c.Sentinels))
		}
	}
	fmt.Fprintln(out, "starting a private Redis and PostgreSQL in", c.Dir, "…")
	stack, err := devstack.Start(ctx, c.config(c.Dir, logger))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stack.Stop()) }()
	pointsURL, err := stack.EnsureDatabase(ctx, pointsDatabase)
	if err != nil {
		return err
	}
	if _, err := migrate(ctx, stack.DatabaseURL(), logger); err != nil {
		return err
	}
	if _, err := migratePoints(ctx, pointsURL); err != nil {
		return err
	}
	r, err := openRooms(ctx, stores{
		RedisURL: stack.RedisURL(), DatabaseURL: stack.DatabaseURL(), PointsURL: pointsURL,
	}, logger, c.tune)
	if err != nil {
		return err
	}
	defer r.close()

	sale, err := r.createDemoSale(ctx, c.Pay)
	if err != nil {
		return err
	}
	c.Addr, c.OpsAddr = freeAddr(c.Addr), freeAddr(c.OpsAddr)
	box, err := sandbox.New(sandbox.Config{
		Addr: freeAddr(c.Cashier), Logger: logger, Scale: demoNotices,
		StateFile: filepath.Join(c.Dir, "alipay.json"),
	})
	if err != nil {
		return err
	}
	boxCtx, closeBox := context.WithCancel(context.WithoutCancel(ctx))
	boxed := make(chan error, 1)
	go func() { boxed <- box.Run(boxCtx) }()
	defer func() { closeBox(); err = errors.Join(err, <-boxed) }()
	var w *worker.Worker
	if err := r.openDesk(demoPaying(box, c.Addr), func() { w.Wake() }); err != nil {
		return err
	}
	if err := r.grantDemoPoints(ctx); err != nil {
		return err
	}
	r.kind = "serve+work" // one process does both
	s, err := r.newServer(c.serving)
	if err != nil {
		return err
	}
	if w, err = r.newWorker(c.working); err != nil {
		return err
	}

	// The server stops first, then the worker: what was accepted is persisted before we go.
	serveCtx, stopServer := context.WithCancel(ctx)
	workCtx, stopWorker := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorker()
	defer stopServer()
	served, worked := make(chan error, 1), make(chan error, 1)
	go func() { served <- s.Run(serveCtx) }()
	go func() { worked <- r.work(w)(workCtx) }()
	shutdown := func() error {
		stopServer()
		serverErr := <-served
		stopWorker()
		return errors.Join(serverErr, <-worked)
	}

	if err := r.awaitVouched(ctx, sale.Items); err != nil {
		return errors.Join(err, shutdown())
	}
	if c.Rush > 0 {
		err := r.rush(ctx, out, s.base, sale.Items[1], c.Rush)
		return errors.Join(err, shutdown())
	}
	if err := r.printDemo(ctx, out, stack, s.base, s.ops, box.URL(), c.AdminToken, sale); err != nil {
		return errors.Join(err, shutdown())
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nstopping: answering what is in flight, persisting what was accepted …")
	case err = <-served:
		served <- err // ended by itself: a fault
	case err = <-worked:
		worked <- err
	}
	err = shutdown()
	fmt.Fprintln(out, "stopped; the data stays in", c.Dir)
	return err
}

// demoPaying is the application at the demo's own Alipay.
func demoPaying(box *sandbox.Sandbox, addr string) paying {
	return paying{OrderPage: orderPage, PublicURL: "http://" + addr, Alipay: alipayFlags{
		AppID: box.AppID(), SellerID: box.SellerID(), Gateway: box.GatewayURL(),
		PrivateKey: alipay.Secret(box.AppPrivateKey()), PublicKey: box.PublicKey(), Sandbox: true,
	}}
}

// grantDemoPoints gives each shopper points, once: a restart adds none.
func (r *rooms) grantDemoPoints(ctx context.Context) error {
	for _, user := range demoShoppers {
		if _, err := r.points.Grant(ctx, user, demoPoints, "demo-welcome-"+user); err != nil {
			return err
		}
	}
	return nil
}

// createDemoSale makes one item that opens in a moment, one that is open, one with ten units.
// Every start makes a new sale: the earlier ones stay as they ended.
func (r *rooms) createDemoSale(ctx context.Context, payTimeout time.Duration) (flashsale.Sale, error) {
	now, err := r.engine.Now(ctx)
	if err != nil {
		return flashsale.Sale{}, err
	}
	var items []flashsale.Item
	for _, i := range []flashsale.Item{
		{
			Product: "Phone", PriceFen: 399900, PointsPrice: 4000, Total: 1000, OpensAt: now.Add(demoSoon),
			Details: demoDetails("phone", "手机", 499900, "A phone that opens first.", "最先开抢的手机。"),
		},
		{
			Product: "Headphones", PriceFen: 19900, PointsPrice: 200, Total: 100, OpensAt: now,
			Details: demoDetails("headphones", "耳机", 29900, "They keep the crowd out.", "隔绝喧嚣。"),
		},
		{
			Product: "Mug", PriceFen: 1900, PointsPrice: 20, Total: 10, OpensAt: now,
			Details: demoDetails("mug", "马克杯", 3900, "Ten of them, and no more.", "仅十只。"),
		},
		{
			Product: "Desk lamp", PriceFen: 9900, PointsPrice: 100, Total: 5, OpensAt: now.Add(demoLater),
			Details: demoDetails("lamp", "台灯", 15900, "It opens in a minute: watch the countdown.", "一分钟后开抢，请看倒计时。"),
		},
	} {
		i.Stock, i.Limit, i.PayTimeout, i.ClosesAt = i.Total, 1, payTimeout, now.Add(demoDuration)
		items = append(items, i)
	}
	sale, err := r.ledger.CreateSale(ctx, flashsale.Sale{
		Name: "Demo sale", Names: map[string]string{"zh": "演示活动"}, OpensAt: now, ClosesAt: now.Add(demoDuration), Items: items,
	})
	if err != nil {
		return flashsale.Sale{}, err
	}
	return sale, r.preheat(ctx, sale.ID)
}

// demoDetails is what the shop's page shows of a product, whose picture is in package web.
func demoDetails(picture, zh string, elsewhere int64, about, aboutZH string) *flashsale.Details {
	return &flashsale.Details{
		Description: about, ImageURL: "/a/0/demo/" + picture + ".svg", ListPriceFen: elsewhere,
		Names: map[string]string{"zh": zh}, Descriptions: map[string]string{"zh": aboutZH},
	}
}

// awaitVouched waits until Redis may sell: one that was started again, on the data of an earlier
// demo, may not before the worker has compared it with the ledger.
func (r *rooms) awaitVouched(ctx context.Context, items []flashsale.Item) error {
	ctx, cancel := context.WithTimeout(ctx, demoVouching)
	defer cancel()
	ticker := time.NewTicker(demoInterval)
	defer ticker.Stop()
	for _, item := range items {
		for {
			vouched, err := r.engine.Vouched(ctx, item.ID)
			if err != nil {
				return err
			}
			if vouched {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for redis to be compared with the ledger: %w", ctx.Err())
			case <-ticker.C:
			}
		}
	}
	return nil
}

// freeAddr returns the address with its port, or with a free one when it is taken.
func freeAddr(addr string) string {
	listener, err := listen(addr)
	if err != nil {
		host, _, splitErr := net.SplitHostPort(addr)
		if splitErr != nil {
			return addr // the server's own error says more
		}
		return net.JoinHostPort(host, "0")
	}
	_ = listener.Close()
	return listener.Addr().String()
}

var demoText = template.Must(template.New("demo").Parse(`
flashsale demo is running. Press Ctrl-C to stop it.

  shoppers    {{.Base}}   (open it in a browser; log in as {{range $n, $s := .Shoppers}}{{if $n}}, {{end}}{{$s.User}}{{end}}, or anybody)
  operators   {{.Ops}}   (admin token: {{.AdminToken}})
  alipay      {{.Alipay}}   (this demo's own, without real money)
  redis       {{.RedisCLI}}
  postgresql  psql '{{.DatabaseURL}}'

  item {{(index .Items 0).ID}}   {{(index .Items 0).Total}} units, opens in 5 s
  item {{(index .Items 1).ID}}   {{(index .Items 1).Total}} units, open
  item {{(index .Items 2).ID}}   {{(index .Items 2).Total}} units, open
  item {{(index .Items 3).ID}}   {{(index .Items 3).Total}} units, opens in a minute

  tokens{{range .Shoppers}}
    {{.User}}  {{.Token}}{{end}}

Look at an item, buy it, try again, see the order:
  curl -s {{.Base}}/v1/items/{{(index .Items 1).ID}}
  curl -s -X POST -H 'token: {{(index .Shoppers 0).Token}}' {{.Base}}/v1/items/{{(index .Items 1).ID}}/orders
  curl -s -X POST -H 'token: {{(index .Shoppers 0).Token}}' {{.Base}}/v1/items/{{(index .Items 1).ID}}/orders
  curl -s -H 'token: {{(index .Shoppers 0).Token}}' {{.Base}}/v1/orders

Pay it, in one shell: open the page in a browser and press Pay, or let curl do both:
  T='token: {{(index .Shoppers 0).Token}}' J='Content-Type: application/json' O={{.Base}}/v1/orders
  order=$(curl -s -H "$T" $O | grep -o '[0-9]\{16,\}' | head -1)
  page=$(curl -s -X POST -H "$T" -H "$J" -d '{"method":"alipay"}' $O/$order/payments | sed 's/.*"pay_url":"//; s/".*//'); echo "$page"
  echo "$(curl -s -o /dev/null "$page"; curl -s -X POST {{.Alipay}}/sandbox/trades/$order/pay)"
  echo "$(curl -s -H "$T" "$O/$order?wait=1s")"

Get the money back, buy again, and pay with points:
  echo "$(curl -s -X POST -H "$T" $O/$order/refunds)"
  sleep 1; order=$(curl -s -X POST -H "$T" {{.Base}}/v1/items/{{(index .Items 1).ID}}/orders | grep -o '[0-9]\{16,\}' | head -1)
  echo "$(curl -s -H "$T" "$O/$order?wait=1s")"
  echo "$(curl -s -X POST -H "$T" -H "$J" -d '{"method":"points"}' $O/$order/payments)"
  echo "$(curl -s -H "$T" {{.Base}}/v1/points)"

Log in as somebody else:
  curl -s -X POST -H 'Content-Type: application/json' -d '{"user":"zoe"}' {{.Base}}/v1/sessions

See the stream, its consumer group, and an item's account in Redis:
  {{.RedisCLI}} XINFO STREAM '{{.OrdersKey}}'
  {{.RedisCLI}} XINFO GROUPS '{{.OrdersKey}}'
  {{.RedisCLI}} HGETALL '{{.ItemKey}}'

Operate:
  curl -s {{.Ops}}/readyz
  curl -s {{.Ops}}/metrics | grep ^flashsale_
  curl -s -H 'Authorization: Bearer {{.AdminToken}}' {{.Ops}}/v1/admin/audit
`))

// printDemo says what to type next; every line works as it stands.
func (r *rooms) printDemo(ctx context.Context, out io.Writer, stack *devstack.Stack,
	base, ops, alipayURL, adminToken string, sale flashsale.Sale,
) error {
	type shopper struct{ User, Token string }
	var shoppers []shopper
	for _, user := range demoShoppers {
		token, err := r.engine.CreateSession(ctx, flashsale.User{ID: user}, demoDuration)
		if err != nil {
			return err
		}
		shoppers = append(shoppers, shopper{user, token})
	}
	cli, err := redisCommand(stack)
	if err != nil {
		return err
	}
	open := sale.Items[1]
	partition := r.engine.Partition(open.ID)
	var text strings.Builder
	err = demoText.Execute(&text, map[string]any{
		"Base": base, "Ops": ops, "Alipay": alipayURL, "AdminToken": adminToken,
		"RedisCLI": cli, "DatabaseURL": stack.DatabaseURL(),
		"Items": sale.Items, "Shoppers": shoppers,
		"OrdersKey": engine.OrdersKey(partition), "ItemKey": engine.ItemKey(partition, open.ID),
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, text.String())
	return err
}

// redisCommand is how a person looks at the Redis of a stack: in a cluster by any node, since -c follows
// a key to its owner.
func redisCommand(stack *devstack.Stack) (string, error) {
	server, follow := stack.Redis, ""
	if server == nil {
		server, follow = stack.Nodes[0], " -c"
	}
	redisURL, err := url.Parse(server.URL())
	if err != nil {
		return "", err
	}
	return "redis-cli" + follow + " -p " + redisURL.Port(), nil
}
