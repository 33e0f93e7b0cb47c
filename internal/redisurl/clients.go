package redisurl

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/redis/rueidis"
)

// keepAlive is how often rueidis pings a connection: one that died is found before a request needs it,
// and none is idle for the second that is the least "timeout" of a Redis.
const keepAlive = 500 * time.Millisecond

// Rueidis is the option of a rueidis client, which finds out itself whether it is a cluster.
func (t Target) Rueidis() rueidis.ClientOption {
	option := rueidis.ClientOption{
		InitAddress: t.Addrs, Username: t.Username, Password: t.Password, SelectDB: t.DB, TLSConfig: t.TLS,
		DialCtxFn: func(ctx context.Context, addr string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return t.Dial(ctx, addr, dialer)
		},
		Sentinel: rueidis.SentinelOption{
			MasterSet: t.MasterSet, Username: t.SentinelUsername, Password: t.SentinelPassword, TLSConfig: t.TLS,
		},
	}
	option.Dialer.KeepAlive = keepAlive
	return option
}

// Options are what the go-redis clients of the rooms differ in.
type Options struct {
	Name                                                string // shown in CLIENT LIST
	PoolSize                                            int
	DialTimeout, PoolTimeout, ReadTimeout, WriteTimeout time.Duration
}

// Universal makes a go-redis client. Nothing is ever sent twice by itself: a command whose reply is
// lost may have been carried out, and only its caller knows what that means. RESP2 has one shape for
// replies that are walked as bytes.
//
// One address may be a node of a cluster, which is asked for here; the connections themselves are
// opened when they are needed.
func (t Target) Universal(options Options) (redis.UniversalClient, error) {
	universal := &redis.UniversalOptions{
		Addrs: t.Addrs, Username: t.Username, Password: t.Password, DB: t.DB, TLSConfig: t.TLS,
		MasterName: t.MasterSet, SentinelUsername: t.SentinelUsername, SentinelPassword: t.SentinelPassword,
		ClientName: options.Name, PoolSize: options.PoolSize,
		DialTimeout: options.DialTimeout, PoolTimeout: options.PoolTimeout,
		ReadTimeout: options.ReadTimeout, WriteTimeout: options.WriteTimeout,
		Protocol: 2, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if t.Unix {
		universal.Dialer = func(ctx context.Context, _, addr string) (net.Conn, error) {
			return t.Dial(ctx, addr, &net.Dialer{Timeout: options.DialTimeout})
		}
	}
	if t.MasterSet != "" {
		return redis.NewUniversalClient(universal), nil
	}
	cluster, err := t.isCluster(universal)
	if err != nil {
		return nil, err
	}
	if !cluster && len(t.Addrs) > 1 {
		return nil, errors.New("several addresses of a Redis that is no cluster: Sentinels need master_set")
	}
	universal.IsClusterMode = cluster
	return redis.NewUniversalClient(universal), nil
}

// isCluster asks the first address that answers.
func (t Target) isCluster(universal *redis.UniversalOptions) (bool, error) {
	var faults []error
	for _, addr := range t.Addrs {
		simple := universal.Simple()
		simple.Addr, simple.PoolSize = addr, 1
		client := redis.NewClient(simple)
		ctx, cancel := context.WithTimeout(context.Background(), universal.DialTimeout+universal.ReadTimeout)
		info, err := client.Info(ctx, "cluster").Result()
		cancel()
		_ = client.Close()
		if err == nil {
			return strings.Contains(info, "cluster_enabled:1"), nil
		}
		faults = append(faults, fmt.Errorf("ask redis at %s whether it is a cluster: %w", addr, err))
	}
	return false, errors.Join(faults...)
}
