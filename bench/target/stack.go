package target

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/rueidis"

	"flashsale/bench/proc"
)

const (
	startTimeout = 2 * time.Minute
	sessionTTL   = 2 * time.Hour // longer than any run
	pipelineMax  = 1000
)

// Stack is a private Redis and PostgreSQL, with the schema applied.
type Stack struct {
	Redis       rueidis.Client
	RedisURL    string
	DatabaseURL string
	PointsURL   string   // "" where orders cannot be paid
	Alipay      []string // how servers and workers use the stack's own Alipay, beside their PUBLIC_URL

	binary  string
	dir     string
	process *proc.Process
	stdin   *os.File // closing it ends the stack
}

// StartStack starts the stores on a new folder below dir, so that they are durable: Redis
// with its append-only file flushed every second, PostgreSQL with fsync. Further flags are those
// of `flashsale stack`; with --alipay orders can be paid, with points too.
func StartStack(ctx context.Context, binary, dir string, flags ...string) (_ *Stack, err error) {
	s := &Stack{binary: binary}
	if s.dir, err = os.MkdirTemp(dir, "stack-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	// PostgreSQL runs as another user when we are root: it must be able to pass.
	if err := os.Chmod(s.dir, 0o711); err != nil { //nolint:gosec // others may pass, not read
		return nil, err
	}
	if err := s.start(ctx, flags); err != nil {
		return nil, err
	}
	option, err := rueidis.ParseURL(s.RedisURL)
	if err != nil {
		return nil, fmt.Errorf("redis url of the stack: %w", err)
	}
	option.DisableCache, option.ForceSingleClient = true, true
	option.ConnWriteTimeout = time.Minute // it waits behind long pipelines of our own
	if s.Redis, err = rueidis.NewClient(option); err != nil {
		return nil, fmt.Errorf("connect to the stack's redis: %w", err)
	}
	if _, err := s.Run(ctx, "migrate"); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, flags []string) error {
	stdin, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	s.stdin = ours
	stdout, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdout.Close()
	log, err := os.Create(filepath.Join(s.dir, "stack.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{"stack", "--dir", filepath.Join(s.dir, "data")}, flags...)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.binary, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, theirs, log
	s.process, err = proc.Start(cmd)
	_ = theirs.Close()
	if err != nil {
		return err
	}
	if err := stdout.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return err
	}
	var where struct {
		RedisURL    string `json:"redis_url"`
		DatabaseURL string `json:"database_url"`

		PointsURL string            `json:"points_database_url"`
		Alipay    map[string]string `json:"alipay"`
	}
	if err := json.NewDecoder(bufio.NewReader(stdout)).Decode(&where); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("start the stack: %w\n%s", err, text)
	}
	s.RedisURL, s.DatabaseURL = where.RedisURL, where.DatabaseURL
	if where.Alipay != nil {
		s.PointsURL = where.PointsURL
		for name, value := range where.Alipay {
			s.Alipay = append(s.Alipay, name+"="+value)
		}
	}
	return nil
}

// Stop ends the stores and removes their data. It is safe to stop twice.
func (s *Stack) Stop() error {
	if s.Redis != nil {
		s.Redis.Close()
		s.Redis = nil
	}
	var err error
	if s.process != nil {
		_ = s.stdin.Close()
		if stopErr := s.process.Stop(); stopErr != nil && !signalled(stopErr) {
			err = fmt.Errorf("stop the stack: %w", stopErr)
		}
		s.process = nil
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Environment tells the engine's commands where the stores are.
func (s *Stack) Environment(more ...string) []string {
	env := append(os.Environ(), "REDIS_URL="+s.RedisURL, "DATABASE_URL="+s.DatabaseURL, "POINTS_DATABASE_URL="+s.PointsURL)
	return append(env, more...)
}

// Run runs one of the engine's commands to its end and returns what it printed.
func (s *Stack) Run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env = s.Environment("LOG_LEVEL=warn")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("flashsale %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Token is the token of the user with a number; wrk/wrk.lua builds the same. It is as long as
// a real one.
func Token(user int) string { return fmt.Sprintf("bench-%020d", user) }

// User is the name of the user with a number.
func User(user int) string { return fmt.Sprintf("user%07d", user) }

// CreateSessions writes the sessions of users as a login system does.
func (s *Stack) CreateSessions(ctx context.Context, first, count int) error {
	for done := 0; done < count; done += pipelineMax {
		commands := make(rueidis.Commands, 0, pipelineMax)
		for n := done; n < min(done+pipelineMax, count); n++ {
			sum := sha256.Sum256([]byte(Token(first + n)))
			commands = append(commands, s.Redis.B().Set().
				Key("fs:session:"+hex.EncodeToString(sum[:])).
				Value(`{"user":"`+User(first+n)+`"}`).Ex(sessionTTL).Build())
		}
		for _, result := range s.Redis.DoMulti(ctx, commands...) {
			if err := result.Error(); err != nil {
				return fmt.Errorf("create sessions: %w", err)
			}
		}
	}
	return nil
}

// Item is what Redis holds of an item.
type Item struct {
	Sequence int64 // orders accepted so far
	Stock    int64
	Buyers   int64 // users who hold one
	Waiting  int64 // orders in the stream, of all items
}

// Item reads an item. There is one partition: the stack's Redis is a single one.
func (s *Stack) Item(ctx context.Context, item string) (Item, error) {
	b := s.Redis.B
	results := s.Redis.DoMulti(ctx,
		b().Hget().Key(itemKey(item)).Field("seq").Build(),
		b().Hget().Key(itemKey(item)).Field("stock").Build(),
		b().Hlen().Key(buyersKey(item)).Build(),
		b().Xlen().Key(ordersKey).Build(),
		b().Get().Key(waitingKey).Build(),
	)
	var figures [5]int64
	for n, result := range results {
		var err error
		figures[n], err = result.AsInt64()
		if rueidis.IsRedisNil(err) && n == 4 {
			figures[4], err = figures[3], nil // an engine that writes an entry an order counts none
		}
		if err != nil {
			return Item{}, fmt.Errorf("read item %s: %w", item, err)
		}
	}
	return Item{Sequence: figures[0], Stock: figures[1], Buyers: figures[2], Waiting: figures[4]}, nil
}

// Items adds up what Redis holds of items; Waiting is that of all.
func (s *Stack) Items(ctx context.Context, items []string) (sum Item, err error) {
	for _, item := range items {
		held, err := s.Item(ctx, item)
		if err != nil {
			return Item{}, err
		}
		sum.Sequence, sum.Stock, sum.Buyers = sum.Sequence+held.Sequence, sum.Stock+held.Stock, sum.Buyers+held.Buyers
		sum.Waiting = held.Waiting
	}
	return sum, nil
}

// Orders tells each order of an item that waits in the stream, in the form of lua/reserve.lua.
func (s *Stack) Orders(ctx context.Context, item string, each func(user string, number int64)) error {
	const page, header = 1000, 4
	for from := "-"; ; {
		read := s.Redis.B().Xrange().Key(ordersKey).Start(from).End("+").Count(page).Build()
		entries, err := s.Redis.Do(ctx, read).AsXRangeSlices()
		if err != nil {
			return fmt.Errorf("read %s: %w", ordersKey, err)
		}
		for _, entry := range entries {
			if len(entry.FieldValues) < header || entry.FieldValues[0].Value != item {
				continue
			}
			for _, order := range entry.FieldValues[header:] {
				text, _, _ := strings.Cut(order.Value, " ")
				number, err := strconv.ParseInt(text, 10, 64)
				if err != nil {
					return fmt.Errorf("read entry %s of %s: %w", entry.ID, ordersKey, err)
				}
				each(order.Field, number)
			}
		}
		if len(entries) < page {
			return nil
		}
		from = "(" + entries[len(entries)-1].ID
	}
}

// StreamBytes is the memory that Redis uses for the stream of orders.
func (s *Stack) StreamBytes(ctx context.Context) (int64, error) {
	usage := s.Redis.B().MemoryUsage().Key(ordersKey).Samples(0).Build() // 0: all of it
	used, err := s.Redis.Do(ctx, usage).AsInt64()
	if err != nil {
		return 0, fmt.Errorf("memory of the stream: %w", err)
	}
	return used, nil
}

// Keys of the only partition of a single Redis.
const (
	ordersKey  = "fs:{0}:orders"
	waitingKey = "fs:{0}:waiting"
)

func itemKey(item string) string   { return "fs:{0}:item:" + item }
func buyersKey(item string) string { return "fs:{0}:buyers:" + item }

// Forget drops items and the stream behind them, where no worker runs that could want them.
func (s *Stack) Forget(ctx context.Context, items ...string) error {
	keys := []string{ordersKey, waitingKey}
	for _, item := range items {
		keys = append(keys, itemKey(item), buyersKey(item))
	}
	if err := s.Redis.Do(ctx, s.Redis.B().Unlink().Key(keys...).Build()).Error(); err != nil {
		return fmt.Errorf("forget %d items: %w", len(items), err)
	}
	return nil
}

// Tidy shrinks the append-only file between measurements. Redis would otherwise choose its
// own moment, and the rewrite would fall into some measurements and not into others.
func (s *Stack) Tidy(ctx context.Context) error {
	b := s.Redis.B
	for _, command := range []rueidis.Completed{
		b().ConfigSet().ParameterValue().ParameterValue("auto-aof-rewrite-percentage", "0").Build(),
		b().Bgrewriteaof().Build(),
	} {
		if err := s.Redis.Do(ctx, command).Error(); err != nil {
			return fmt.Errorf("rewrite the append-only file: %w", err)
		}
	}
	return Await(ctx, time.Minute, "the append-only file's rewrite", func() (bool, error) {
		info, err := s.RedisInfo(ctx)
		return info["aof_rewrite_in_progress"] == "0" && info["aof_rewrite_scheduled"] == "0", err
	})
}

// RedisInfo is INFO, by name.
func (s *Stack) RedisInfo(ctx context.Context) (map[string]string, error) {
	text, err := s.Redis.Do(ctx, s.Redis.B().Info().Section("everything").Build()).ToString()
	if err != nil {
		return nil, fmt.Errorf("redis info: %w", err)
	}
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info, nil
}

// RedisPID is the process id of the stack's Redis.
func (s *Stack) RedisPID(ctx context.Context) (int, error) {
	info, err := s.RedisInfo(ctx)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(info["process_id"])
	if err != nil {
		return 0, fmt.Errorf("redis process id: %w", err)
	}
	return pid, nil
}

// Await polls for what has no signal.
func Await(ctx context.Context, atMost time.Duration, what string, ready func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, atMost, fmt.Errorf("%s took longer than %s", what, atMost))
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := ready()
		if ok || (err != nil && ctx.Err() == nil) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// signalled tells a process that ended by the signal that it was sent.
func signalled(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM
}
