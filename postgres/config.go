package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Defaults and bounds of [Config].
const (
	ApplicationNameDefault          = "flashsale"
	ConnectTimeoutDefault           = 5 * time.Second
	IdleInTransactionTimeoutDefault = 30 * time.Second
	LockTimeoutDefault              = 5 * time.Second
	MaxConnsDefault                 = 8
	MaxConnsMax                     = 1_000
	StatementTimeoutDefault         = 30 * time.Second
	TimeoutMin                      = 10 * time.Millisecond
)

// Config is what [Open] needs. Only URL is required.
type Config struct {
	// ApplicationName is shown in pg_stat_activity. Default: ApplicationNameDefault.
	ApplicationName string
	// ConnectTimeout bounds each attempt to connect. Default: ConnectTimeoutDefault.
	ConnectTimeout time.Duration
	// IdleInTransactionTimeout is how long a transaction may wait for us. It must exceed the
	// time that the relay needs for one page of the outbox and the preheater for one item.
	// Default: IdleInTransactionTimeoutDefault.
	IdleInTransactionTimeout time.Duration
	// LockTimeout is how long a statement waits for a row that another transaction holds
	// before it fails with a transient error. Default: LockTimeoutDefault.
	LockTimeout time.Duration
	// Logger hears of batches that had to be admitted order by order. Default: discards.
	Logger *slog.Logger
	// MaxConns bounds the pool. Keep it at or above the number of callers that work at the
	// same time: those beyond it wait. Default: MaxConnsDefault.
	MaxConns int
	// StatementTimeout bounds each statement. Default: StatementTimeoutDefault.
	StatementTimeout time.Duration
	// URL is a PostgreSQL connection URL or keyword string. Behind a PgBouncer that pools
	// transactions add default_query_exec_mode=exec, because prepared statements stay with a
	// server connection, set the session settings of [Open] on the role and list them in
	// PgBouncer's ignore_startup_parameters, because it refuses what it does not know.
	URL string
}

func (c Config) withDefaults() Config {
	c.ApplicationName = cmp.Or(c.ApplicationName, ApplicationNameDefault)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, ConnectTimeoutDefault)
	c.IdleInTransactionTimeout = cmp.Or(c.IdleInTransactionTimeout, IdleInTransactionTimeoutDefault)
	c.LockTimeout = cmp.Or(c.LockTimeout, LockTimeoutDefault)
	c.MaxConns = cmp.Or(c.MaxConns, MaxConnsDefault)
	c.StatementTimeout = cmp.Or(c.StatementTimeout, StatementTimeoutDefault)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	if c.URL == "" {
		return errors.New("postgres config: URL is required")
	}
	if c.MaxConns < 1 || c.MaxConns > MaxConnsMax {
		return fmt.Errorf("postgres config: MaxConns must be from 1 to %d, is %d", MaxConnsMax, c.MaxConns)
	}
	for name, timeout := range map[string]time.Duration{
		"ConnectTimeout":           c.ConnectTimeout,
		"IdleInTransactionTimeout": c.IdleInTransactionTimeout,
		"LockTimeout":              c.LockTimeout,
		"StatementTimeout":         c.StatementTimeout,
	} {
		// PostgreSQL reads 0 ms as "no limit": a shorter timeout must not turn into none.
		if timeout < TimeoutMin {
			return fmt.Errorf("postgres config: %s must be at least %s, is %s", name, TimeoutMin, timeout)
		}
	}
	return nil
}
