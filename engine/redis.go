package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// scanCount is how many fields one HSCAN asks for: about half a millisecond of Redis' time.
const scanCount = 1000

// checkRedis refuses a Redis that may not be trusted with stock: too old for the scripts, or
// set to evict keys when memory is short. Of a cluster the primaries that answer are asked; what is
// away, or a replica, must not keep a process from starting. It reports whether this is a cluster.
func checkRedis(ctx context.Context, client rueidis.Client, logger *slog.Logger) (cluster bool, err error) {
	var faults []error
	checked := 0
	for addr, node := range client.Nodes() {
		info, err := readInfo(ctx, node)
		if err != nil {
			logger.Warn("a redis node does not answer", "addr", addr, "error", err)
			faults = append(faults, err)
			continue
		}
		if info["role"] == "slave" {
			continue
		}
		if err := checkNode(info, logger); err != nil {
			return false, err
		}
		cluster = info["cluster_enabled"] == "1"
		checked++
	}
	if checked == 0 {
		return false, errors.Join(append(faults, errors.New("engine: no redis that could be written to answers"))...)
	}
	return cluster, nil
}

func checkNode(info map[string]string, logger *slog.Logger) error {
	major, _ := strconv.Atoi(strings.Split(info["redis_version"], ".")[0])
	if major < 7 {
		return fmt.Errorf("engine: redis %s is too old: 7.0 or newer is needed", info["redis_version"])
	}
	if info["run_id"] == "" {
		return errors.New("engine: redis does not say its run_id (INFO server), so a restart that brings an older " +
			"state back could not be told: use a Redis that says it")
	}
	if policy := info["maxmemory_policy"]; policy != "noeviction" {
		return fmt.Errorf("engine: redis maxmemory-policy is %q and could evict the stock: "+
			"set it with CONFIG SET maxmemory-policy noeviction", policy)
	}
	if info["aof_enabled"] != "1" {
		logger.Warn("redis keeps no append-only file: a restart loses every pending order; set appendonly yes")
	}
	return nil
}

// isTrackingDenied reports whether an ACL forbids client-side caching; rueidis keeps only the words
// of Redis' refusal.
func isTrackingDenied(err error) bool {
	return errors.Is(err, rueidis.ErrNoCache) && strings.Contains(err.Error(), "NOPERM")
}

// Durability tells in words what a crash of Redis may lose. What PostgreSQL has confirmed is
// never lost.
func (e *Engine) Durability(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	info, err := readInfo(ctx, e.client)
	if err != nil {
		return "", err
	}
	if info["aof_enabled"] != "1" {
		return "aof off: a redis crash loses every pending order", nil
	}
	config, err := e.client.Do(ctx, e.client.B().ConfigGet().Parameter("appendfsync").Build()).AsStrMap()
	if err != nil {
		return "aof on, appendfsync unknown: a redis crash may lose pending orders", nil // managed Redis forbids CONFIG; that is an answer
	}
	switch fsync := config["appendfsync"]; fsync {
	case "always":
		return "aof always: a redis crash loses no pending order", nil
	case "everysec":
		return "aof everysec: a redis crash may lose about 2 s of pending orders", nil
	default:
		return "aof " + fsync + ": a redis crash may lose what the system had not written, about 30 s of pending orders", nil
	}
}

func readInfo(ctx context.Context, client rueidis.Client) (map[string]string, error) {
	text, err := client.Do(ctx, client.B().Info().Build()).ToString()
	if err != nil {
		return nil, fmt.Errorf("engine: redis info: %w", err)
	}
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info, nil
}

func (e *Engine) scanPage(ctx context.Context, key string, cursor uint64) (rueidis.ScanEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	return e.client.Do(ctx, e.client.B().Hscan().Key(key).Cursor(cursor).Count(scanCount).Build()).AsScanEntry()
}

// passing are the codes with which Redis refuses what it will take in a while.
var passing = []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "NOREPLICAS", "BUSY", "MISCONF"}

// Away reports whether Redis could not be reached or would not serve for the moment, so that the
// same may succeed in a while: it starts, loads its data, or fails over.
func Away(err error) bool {
	if reply, ok := errors.AsType[*rueidis.RedisError](err); ok {
		code, _, _ := strings.Cut(reply.Error(), " ")
		return slices.Contains(passing, code)
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func isNil(result rueidis.RedisResult) bool { return rueidis.IsRedisNil(result.Error()) }
