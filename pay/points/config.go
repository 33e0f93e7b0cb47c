package points

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"flashsale"
)

// Defaults and bounds of [Config].
const (
	ApplicationNameDefault          = "flashsale-points"
	ConnectTimeoutDefault           = 5 * time.Second
	IdleInTransactionTimeoutDefault = 10 * time.Second
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
	// IdleInTransactionTimeout is how long a transaction may wait for us. A process that hangs
	// in a step gives up the account's row after it. Default: IdleInTransactionTimeoutDefault.
	IdleInTransactionTimeout time.Duration
	// LockTimeout is how long a statement waits for a row that another transaction holds
	// before it fails with a transient error. Default: LockTimeoutDefault.
	LockTimeout time.Duration
	// MaxConns bounds the pool; callers beyond it wait. Default: MaxConnsDefault.
	MaxConns int
	// NextTradeNo makes the trade numbers of grants, of refunds and of holds that bring none.
	// They must be positive and unique for ever, across all processes and together with the
	// numbers that callers bring: snowflake numbers of one family. It is called outside of
	// transactions. Default: none, which is enough to migrate, look up and audit; calls that
	// need a number then fail.
	NextTradeNo func() (int64, error)
	// StatementTimeout bounds each statement. Default: StatementTimeoutDefault.
	StatementTimeout time.Duration
	// URL is a PostgreSQL connection URL or keyword string, of a database that is not the
	// orders'. Behind a PgBouncer that pools transactions it needs
	// default_query_exec_mode=exec, as the order ledger does.
	URL string
}

// Terms are the bounds of an order that is to be paid with points.
func (c Config) Terms() flashsale.Terms {
	return flashsale.Terms{
		Method: flashsale.Points, AmountMax: PointsMax, PayTimeoutMin: flashsale.PayTimeoutMin, Offered: c.URL != "",
	}
}

func (c Config) withDefaults() Config {
	c.ApplicationName = cmp.Or(c.ApplicationName, ApplicationNameDefault)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, ConnectTimeoutDefault)
	c.IdleInTransactionTimeout = cmp.Or(c.IdleInTransactionTimeout, IdleInTransactionTimeoutDefault)
	c.LockTimeout = cmp.Or(c.LockTimeout, LockTimeoutDefault)
	c.MaxConns = cmp.Or(c.MaxConns, MaxConnsDefault)
	if c.NextTradeNo == nil {
		c.NextTradeNo = func() (int64, error) {
			return 0, errors.New("points config: NextTradeNo is not set")
		}
	}
	c.StatementTimeout = cmp.Or(c.StatementTimeout, StatementTimeoutDefault)
	return c
}

func (c Config) validate() error {
	if c.URL == "" {
		return errors.New("points config: URL is required")
	}
	if c.MaxConns < 1 || c.MaxConns > MaxConnsMax {
		return fmt.Errorf("points config: MaxConns must be from 1 to %d, is %d", MaxConnsMax, c.MaxConns)
	}
	for _, timeout := range []struct {
		name  string
		value time.Duration
	}{
		{"ConnectTimeout", c.ConnectTimeout},
		{"IdleInTransactionTimeout", c.IdleInTransactionTimeout},
		{"LockTimeout", c.LockTimeout},
		{"StatementTimeout", c.StatementTimeout},
	} {
		// PostgreSQL reads 0 ms as "no limit": a shorter timeout must not turn into none.
		if timeout.value < TimeoutMin {
			return fmt.Errorf("points config: %s must be at least %s, is %s",
				timeout.name, TimeoutMin, timeout.value)
		}
	}
	return nil
}
