package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale/internal/redisurl"
)

// Bounds of every call to Redis. The read timeout exceeds BlockMax.
const (
	dialTimeout  = 2 * time.Second
	readTimeout  = 3 * time.Second
	writeTimeout = 2 * time.Second
	poolTimeout  = 2 * time.Second
	poolSpare    = 6 // connections beside one a partition: canceller, sampler, auditor, jobs and their locks
)

var _ redis.Error = replyError("")

// errReply is returned for a reply whose shape is not what the command promises.
var errReply = errors.New("unexpected shape of the reply")

func newClient(redisURL string, poolSize int) (redis.UniversalClient, error) {
	target, err := redisurl.Parse(redisURL)
	if err != nil {
		return nil, fmt.Errorf("worker: RedisURL: %w", err)
	}
	return target.Universal(redisurl.Options{
		Name: "flashsale-worker", PoolSize: poolSize,
		DialTimeout: dialTimeout, PoolTimeout: poolTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
	})
}

// replyError is an error reply of Redis to a command that was sent raw.
type replyError string

func (e replyError) Error() string { return string(e) }

// RedisError makes it one of go-redis' own.
func (e replyError) RedisError() {}

// do sends a command and returns its reply as it came: go-redis would box each text of an entry and
// build a map, in which the order of the fields and a user's second order of the entry are lost.
func do(ctx context.Context, client redis.UniversalClient, args ...any) (reply, error) {
	cmd := redis.NewRawCmd(ctx, args...)
	if err := client.Process(ctx, cmd); err != nil {
		return reply{}, err
	}
	raw := cmd.Val()
	if len(raw) > 0 && raw[0] == '-' {
		err := replyError(bytes.TrimRight(raw[1:], "\r\n"))
		if cluster, ok := client.(*redis.ClusterClient); ok && isMoved(err) {
			cluster.ReloadState(ctx) // go-redis follows only what it has parsed itself
		}
		return reply{}, err
	}
	return reply{rest: string(raw)}, nil
}

// isNoGroup reports whether the stream or its group is gone.
func isNoGroup(err error) bool { return hasCode(err, "NOGROUP") || hasCode(err, "UNBLOCKED") }

// isBusyGroup reports whether the group is there already.
func isBusyGroup(err error) bool { return hasCode(err, "BUSYGROUP") }

// isNoScript reports whether Redis has forgotten a script.
func isNoScript(err error) bool { return hasCode(err, "NOSCRIPT") }

func isMoved(err error) bool { return hasCode(err, "MOVED") || hasCode(err, "ASK") }

func hasCode(err error, code string) bool {
	var reply redis.Error
	return errors.As(err, &reply) && strings.HasPrefix(reply.Error(), code+" ")
}

// reply walks a RESP2 reply. What it returns shares the memory of the whole.
type reply struct{ rest string }

// array reads the head of an array and returns its length; a nil array has -1.
func (r *reply) array() (int, error) { return r.head('*') }

// text reads a bulk string.
func (r *reply) text() (string, error) {
	n, err := r.head('$')
	if err != nil {
		return "", err
	}
	if n < 0 || n+2 > len(r.rest) {
		return "", errReply
	}
	text := r.rest[:n]
	r.rest = r.rest[n+2:]
	return text, nil
}

// head reads "<kind><length>\r\n".
func (r *reply) head(kind byte) (int, error) {
	if len(r.rest) < 4 || r.rest[0] != kind {
		return 0, errReply
	}
	if r.rest[1] == '-' { // nil: "-1\r\n"
		if len(r.rest) < 5 || r.rest[2] != '1' {
			return 0, errReply
		}
		r.rest = r.rest[5:]
		return -1, nil
	}
	n := 0
	for i := 1; i < len(r.rest)-1; i++ {
		c := r.rest[i]
		if c == '\r' {
			r.rest = r.rest[i+2:]
			return n, nil
		}
		if c < '0' || c > '9' || n > 1<<30 {
			return 0, errReply
		}
		n = n*10 + int(c-'0')
	}
	return 0, errReply
}
