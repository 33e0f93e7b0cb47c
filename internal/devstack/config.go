package devstack

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
)

// AppendFsyncDefault is how often Redis flushes its append-only file unless told otherwise.
const AppendFsyncDefault = "everysec"

// Config tells which servers to run and where. The zero value runs nothing and is refused.
type Config struct {
	// AppendFsync is Redis' appendfsync: "always" loses no acknowledged write, "everysec"
	// (the default) about two seconds of them when the machine dies, "no" more than that.
	// None of them loses any when only Redis dies.
	AppendFsync string

	// Dir is the data folder; it is created when missing and kept by Stop. Empty means a
	// temporary one that Stop removes.
	Dir string

	// Logger hears of starts and stops. The default discards.
	Logger *slog.Logger

	// Postgres runs a PostgreSQL.
	Postgres bool

	// Redis runs a Redis.
	Redis bool

	// RedisArgs are further arguments of redis-server, such as "--maxmemory", "64mb". They
	// come last and win over ours.
	RedisArgs []string
}

func (c Config) withDefaults() Config {
	c.AppendFsync = cmp.Or(c.AppendFsync, AppendFsyncDefault)
	c.RedisArgs = slices.Clone(c.RedisArgs)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	if !c.Redis && !c.Postgres {
		return errors.New("Config: Redis, Postgres or both must be true")
	}
	if !slices.Contains([]string{"always", "everysec", "no"}, c.AppendFsync) {
		return fmt.Errorf("Config.AppendFsync: %q is none of always, everysec, no", c.AppendFsync)
	}
	if c.Dir != "" && !filepath.IsAbs(c.Dir) {
		return fmt.Errorf("Config.Dir: %q must be an absolute path", c.Dir)
	}
	return nil
}
