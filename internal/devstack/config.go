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

	// Cluster, unless 0, makes the Redis a cluster of so many primaries, at least 3, each with a
	// replica.
	Cluster int

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

	// Sentinels, unless 0, is how many Sentinels, at least 3, watch the Redis, which then has two
	// replicas.
	Sentinels int
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
	switch {
	case c.Cluster != 0 && (c.Cluster < 3 || !c.Redis):
		return fmt.Errorf("Config.Cluster: %d primaries: a cluster needs at least 3, and Redis", c.Cluster)
	case c.Sentinels != 0 && (c.Sentinels < 3 || !c.Redis || c.Cluster != 0):
		return fmt.Errorf("Config.Sentinels: %d: it takes at least 3 to agree, Redis, and no Cluster", c.Sentinels)
	}
	if !slices.Contains([]string{"always", "everysec", "no"}, c.AppendFsync) {
		return fmt.Errorf("Config.AppendFsync: %q is none of always, everysec, no", c.AppendFsync)
	}
	if c.Dir != "" && !filepath.IsAbs(c.Dir) {
		return fmt.Errorf("Config.Dir: %q must be an absolute path", c.Dir)
	}
	return nil
}
