package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"

	"flashsale/internal/devstack"
	"flashsale/pay/alipay/sandbox"
)

// pointsDatabase is the points' own database on the server of a stack.
const pointsDatabase = "points"

// topology is how the private Redis is laid out.
type topology struct {
	Cluster   int `env:"STACK_CLUSTER" placeholder:"N" xor:"topology" help:"Run a Redis Cluster of N primaries, at least 3, each with a replica. Default: one Redis."`
	Sentinels int `env:"STACK_SENTINELS" placeholder:"N" xor:"topology" help:"Run a Redis with two replicas, watched by N Sentinels, at least 3."`
}

// config is that of a stack with a Redis and a PostgreSQL.
func (t topology) config(dir string, logger *slog.Logger) devstack.Config {
	return devstack.Config{
		Dir: dir, Redis: true, Cluster: t.Cluster, Sentinels: t.Sentinels, Postgres: true, Logger: logger,
	}
}

// single tells whether the Redis is just one.
func (t topology) single() bool { return t == topology{} }

type stackCommand struct {
	topology    `embed:""`
	Dir         string `env:"STACK_DIR" help:"Data folder to keep. Default: a temporary one, removed at the end."`
	AppendFsync string `env:"APPEND_FSYNC" default:"everysec" enum:"always,everysec,no" help:"How often Redis flushes its append-only file: always, everysec, no."`
	Alipay      bool   `env:"STACK_ALIPAY" help:"Run a local Alipay too, without real money, and print the settings with which servers and workers use it."`
}

// stackAddresses is the line in which a stack tells where it is.
type stackAddresses struct {
	RedisURL    string `json:"redis_url"`
	DatabaseURL string `json:"database_url"`
	PointsURL   string `json:"points_database_url"`

	// Environment of `serve` and `work`; PUBLIC_URL is missing, for only who starts them knows it.
	Alipay map[string]string `json:"alipay,omitempty"`
}

// Run starts the stores, tells where they are, and stops them when it is interrupted or when
// whoever started it closes its standard input.
func (c *stackCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) (err error) {
	config := c.config(c.Dir, logger)
	config.AppendFsync = c.AppendFsync
	stack, err := devstack.Start(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stack.Stop()) }()
	addresses := stackAddresses{RedisURL: stack.RedisURL(), DatabaseURL: stack.DatabaseURL()}
	if addresses.PointsURL, err = stack.EnsureDatabase(ctx, pointsDatabase); err != nil {
		return err
	}
	if c.Alipay {
		box, err := sandbox.New(sandbox.Config{Addr: "127.0.0.1:0", Logger: logger, Scale: demoNotices})
		if err != nil {
			return err
		}
		addresses.Alipay = stackAlipay(box)
		boxCtx, closeBox := context.WithCancel(context.WithoutCancel(ctx))
		boxed := make(chan error, 1)
		go func() { boxed <- box.Run(boxCtx) }()
		defer func() { closeBox(); err = errors.Join(err, <-boxed) }()
	}
	if err := json.NewEncoder(out).Encode(addresses); err != nil {
		return err
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	select {
	case <-ctx.Done():
	case <-closed:
	}
	return nil
}

// stackAlipay is the application at a stack's own Alipay. Its key opens nothing but that, and is
// printed all the same only to whoever started the stack, never logged.
func stackAlipay(box *sandbox.Sandbox) map[string]string {
	return map[string]string{
		"ALIPAY_APP_ID": box.AppID(), "ALIPAY_SELLER_ID": box.SellerID(), "ALIPAY_GATEWAY": box.GatewayURL(),
		"ALIPAY_PRIVATE_KEY": box.AppPrivateKey(), "ALIPAY_PUBLIC_KEY": box.PublicKey(), "ALIPAY_SANDBOX": "true",
	}
}
