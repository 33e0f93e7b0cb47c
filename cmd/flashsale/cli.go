package main

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// cli is every command with its flags. Each flag can be given as an environment variable.
type cli struct {
	LogLevel string `help:"Least level to log: debug, info, warn, error. Default: info, and warn for the demo." env:"LOG_LEVEL"`

	Demo       demoCommand       `cmd:"" help:"Run everything at once: a private Redis and PostgreSQL, a demo sale, server and worker."`
	Serve      serveCommand      `cmd:"" help:"Serve shoppers and operators."`
	Work       workCommand       `cmd:"" help:"Persist orders, cancel unpaid ones, carry out what the ledger owes Redis."`
	Migrate    migrateCommand    `cmd:"" help:"Create the schema in an empty database; a current one is left as it is."`
	Audit      auditCommand      `cmd:"" help:"Prove the invariants; exit 1 and a line for each that is broken."`
	Sale       saleCommand       `cmd:"" help:"Create, list, show, preheat and rebuild sales."`
	Dead       deadCommand       `cmd:"" help:"Look at, re-drive or discard entries that could not be persisted."`
	Refund     refundCommand     `cmd:"" help:"Settle refunds that the provider has refused."`
	Pages      pagesCommand      `cmd:"" help:"Write the shop's pages into a folder, for a content delivery network."`
	Partitions partitionsCommand `cmd:"" help:"Show over how many partitions the items are spread in Redis, and which key tag an item has."`
	Version    versionCommand    `cmd:"" help:"Tell which build this is."`
	Stack      stackCommand      `cmd:"" help:"Run only a private Redis and PostgreSQL, and a local Alipay on demand, for development and load tests."`
}

// stores is where an installation keeps its data.
type stores struct {
	RedisURL       string `name:"redis-url" env:"REDIS_URL" required:"" placeholder:"$REDIS_URL" help:"${redis_form}"`
	DatabaseURL    string `name:"database-url" env:"DATABASE_URL" required:"" placeholder:"$DATABASE_URL" help:"postgres://user:password@host:port/database"`
	PointsURL      string `name:"points-database-url" env:"POINTS_DATABASE_URL" placeholder:"$POINTS_DATABASE_URL" help:"The points' own database; without it orders cannot be paid with points."`
	databaseLimits `embed:""`
	Partitions     int `env:"PARTITIONS" default:"0" help:"Hash tags over which items are spread; 0 takes what the database has stored, else 1, or 64 on a cluster."`
}

// serving is how a server is reached and bounded.
type serving struct {
	Addr       string        `env:"ADDR" default:"127.0.0.1:8080" help:"Where shoppers connect."`
	OpsAddr    string        `env:"OPS_ADDR" default:"127.0.0.1:9090" help:"Where operators connect: health, metrics, admin."`
	AdminToken string        `env:"ADMIN_TOKEN" help:"Opens the admin calls, at least 24 characters; without it they are disabled."`
	Viewer     string        `name:"admin-viewer-token" env:"ADMIN_VIEWER_TOKEN" help:"Opens the admin calls that change nothing."`
	OpsHosts   []string      `env:"OPS_HOSTS" help:"Names under which operators reach OPS_ADDR, beside localhost, this host's name and addresses."`
	DevLogin   bool          `env:"DEV_LOGIN" help:"Let anybody log in as anybody (POST /v1/sessions). For demos only: refused where ADDR is not loopback."`
	DevAnyway  bool          `name:"dev-login-anywhere" env:"DEV_LOGIN_ANYWHERE" help:"Let DEV_LOGIN be reached from other machines."`
	LoginURL   string        `env:"LOGIN_URL" help:"Where a shopper's browser logs in; told to whoever lacks a valid token."`
	Origins    []string      `env:"ORIGINS" help:"Origins whose pages may use the API, such as https://shop.example; * allows all, without cookies."`
	Pages      bool          `env:"PAGES" default:"true" negatable:"" help:"Serve the shop's pages beside the API."`
	FlagTTL    time.Duration `env:"FLAG_TTL" default:"500ms" help:"How long a sold-out flag answers before one request asks Redis."`
	BatchMax   int           `env:"BATCH_MAX" default:"512" help:"Requests that one script call decides at most; 1 turns group commit off."`
	InFlight   int           `env:"IN_FLIGHT" default:"2" help:"Script calls of one item at once."`
	limits     `embed:""`
}

// working is how a worker batches.
type working struct {
	Consumer        string        `env:"CONSUMER" help:"Name among the consumers, stable over restarts. Default: the host's name."`
	BatchSize       int           `env:"BATCH_SIZE" default:"1000" help:"Orders that one transaction persists at most."`
	BatchAge        time.Duration `env:"BATCH_AGE" default:"5ms" help:"How long a batch that is not full waits for more."`
	AuditEvery      time.Duration `env:"AUDIT_EVERY" default:"1m" help:"How often the invariants are proved, for the metrics; negative: never."`
	PauseOnOversell bool          `env:"PAUSE_ON_OVERSELL" default:"true" negatable:"" help:"Pause an item that the audit finds oversold."`
	PreheatBefore   time.Duration `env:"PREHEAT_BEFORE" default:"5m" help:"How long before it opens a sale is loaded into Redis; negative: never."`
}

// logger logs JSON lines. The demo talks to a person, who wants to hear of trouble only.
func (c *cli) logger(w io.Writer, command string) (*slog.Logger, error) {
	if c.LogLevel == "" {
		c.LogLevel = "info"
		if command == "demo" {
			c.LogLevel = "warn"
		}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q is none of debug, info, warn, error", c.LogLevel)
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})), nil
}
