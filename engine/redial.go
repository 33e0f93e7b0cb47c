package engine

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// redialEvery is the least time between two attempts to find another Redis at the same address.
const redialEvery = 500 * time.Millisecond

// demoted are the codes of a Redis that is not, or not yet, the one that decides. An address that has
// moved to another Redis leads there only on new connections: a demoted primary keeps its old ones.
var demoted = []string{"READONLY", "LOADING", "MASTERDOWN"}

// redialed is a client that closes its connections and opens new ones when a reply says that they
// lead to a Redis that was demoted.
type redialed struct {
	option rueidis.ClientOption
	logger *slog.Logger

	rueidis.Client // what builds commands, and whatever is not answered below
	current        atomic.Pointer[rueidis.Client]

	mu      sync.Mutex // guards what follows, and who replaces current
	tried   time.Time
	closed  bool
	running sync.WaitGroup
}

var _ rueidis.Client = (*redialed)(nil)

func newRedialed(option rueidis.ClientOption, logger *slog.Logger) (rueidis.Client, error) {
	client, err := rueidis.NewClient(option)
	if err != nil {
		return nil, err
	}
	r := &redialed{option: option, logger: logger, Client: client}
	r.current.Store(&client)
	return r, nil
}

func (r *redialed) client() rueidis.Client { return *r.current.Load() }

// Do implements [rueidis.Client].
func (r *redialed) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	client := r.client()
	return r.heed(client, client.Do(ctx, cmd))
}

// DoMulti implements [rueidis.Client].
func (r *redialed) DoMulti(ctx context.Context, cmds ...rueidis.Completed) []rueidis.RedisResult {
	client := r.client()
	results := client.DoMulti(ctx, cmds...)
	for _, result := range results {
		r.heed(client, result)
	}
	return results
}

// DoCache implements [rueidis.Client].
func (r *redialed) DoCache(ctx context.Context, cmd rueidis.Cacheable, ttl time.Duration) rueidis.RedisResult {
	client := r.client()
	return r.heed(client, client.DoCache(ctx, cmd, ttl))
}

// Receive implements [rueidis.Client].
func (r *redialed) Receive(ctx context.Context, subscribe rueidis.Completed, fn func(rueidis.PubSubMessage)) error {
	return r.client().Receive(ctx, subscribe, fn)
}

// Nodes implements [rueidis.Client].
func (r *redialed) Nodes() map[string]rueidis.Client { return r.client().Nodes() }

// Close implements [rueidis.Client].
func (r *redialed) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.running.Wait()
	r.client().Close()
}

// heed looks whether a reply is that of a demoted Redis.
func (r *redialed) heed(from rueidis.Client, result rueidis.RedisResult) rueidis.RedisResult {
	if err := result.Error(); err != nil {
		if reply, ok := rueidis.IsRedisErr(err); ok && hasCode(reply.Error(), demoted) {
			r.replace(from, reply.Error())
		}
	}
	return result
}

// replace opens another client in the background. The old one is closed when what is under way on it
// has been answered, or has failed.
func (r *redialed) replace(old rueidis.Client, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || old != r.client() || time.Since(r.tried) < redialEvery {
		return
	}
	r.tried = time.Now()
	r.running.Go(func() {
		client, err := rueidis.NewClient(r.option)
		if err != nil {
			r.logger.Warn("redis was demoted, and no other answers yet", "reply", why, "error", err)
			return
		}
		r.logger.Warn("redis was demoted: its connections are opened anew", "reply", why)
		r.mu.Lock()
		r.current.Store(&client)
		r.mu.Unlock()
		old.Close()
	})
}
