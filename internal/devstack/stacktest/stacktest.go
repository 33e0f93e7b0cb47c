package stacktest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flashsale/internal/devstack"
)

// timeout bounds each step on the servers. Two cores under -race with every package's tests
// beside us are slow.
const timeout = 60 * time.Second

// shared holds the servers of this test process. Tests have no other common place to keep
// them: it is set by Main before the first test and cleared after the last.
var shared *servers

// servers are started by the first test that asks, each by itself.
type servers struct {
	redis     func() (*devstack.Stack, error)
	postgres  func() (*devstack.Stack, error)
	databases atomic.Int64 // numbers given to Redis databases and PostgreSQL databases

	mu     sync.Mutex
	stacks []*devstack.Stack
}

// Main runs the tests of a package and then stops what they shared. It does not return.
func Main(m *testing.M) { os.Exit(Suite(m).Run()) }

// Suite is Main for what runs the tests itself, such as goleak.VerifyTestMain.
func Suite(m *testing.M) interface{ Run() int } { return suite{m} }

type suite struct{ m *testing.M }

func (s suite) Run() int {
	shared = &servers{}
	shared.redis = sync.OnceValues(func() (*devstack.Stack, error) {
		return shared.start(devstack.Config{Redis: true})
	})
	shared.postgres = sync.OnceValues(func() (*devstack.Stack, error) {
		return shared.start(devstack.Config{Postgres: true})
	})
	code := s.m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	shared = nil
	return code
}

func (s *servers) start(config devstack.Config) (*devstack.Stack, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	stack, err := devstack.Start(ctx, config)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stacks = append(s.stacks, stack)
	return stack, nil
}

func (s *servers) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, stack := range s.stacks {
		errs = append(errs, stack.Stop())
	}
	return errors.Join(errs...)
}

// Redis returns the URL of the shared Redis with an empty logical database of the test's own.
func Redis(t testing.TB) string {
	t.Helper()
	stack := mustStart(t, func(s *servers) (*devstack.Stack, error) { return s.redis() })
	u, err := url.Parse(stack.RedisURL())
	if err != nil {
		t.Fatalf("URL of Redis: %v", err)
	}
	// After all numbers were used the first ones come again, long done with: empty them.
	db := 1 + (shared.databases.Add(1)-1)%(devstack.RedisDatabases-1)
	if err := emptyDatabase(t.Context(), u.Host, db); err != nil {
		t.Fatalf("empty database %d of Redis: %v", db, err)
	}
	u.Path = "/" + strconv.FormatInt(db, 10)
	return u.String()
}

// NewRedis starts a Redis for this test alone, with further arguments of redis-server.
func NewRedis(t testing.TB, args ...string) *devstack.Server {
	t.Helper()
	return newStack(t, devstack.Config{Redis: true, RedisArgs: args}).Redis
}

// NewCluster starts a Redis Cluster for this test alone: three primaries, each with a replica.
func NewCluster(t testing.TB, args ...string) *devstack.Stack {
	t.Helper()
	return newStack(t, devstack.Config{Redis: true, Cluster: 3, RedisArgs: args})
}

// NewSentinels starts a Redis with two replicas and three Sentinels for this test alone.
func NewSentinels(t testing.TB, args ...string) *devstack.Stack {
	t.Helper()
	return newStack(t, devstack.Config{Redis: true, Sentinels: 3, RedisArgs: args})
}

// Postgres returns the URL of an empty database of the test's own on the shared PostgreSQL.
// It is dropped at the end of the test, whoever is still connected.
func Postgres(t testing.TB) string {
	t.Helper()
	stack := mustStart(t, func(s *servers) (*devstack.Stack, error) { return s.postgres() })
	name := "test_" + strconv.FormatInt(shared.databases.Add(1), 10)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	databaseURL, err := stack.CreateDatabase(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := stack.DropDatabase(ctx, name); err != nil {
			t.Error(err)
		}
	})
	return databaseURL
}

// NewPostgres starts a PostgreSQL for this test alone.
func NewPostgres(t testing.TB) *devstack.Server {
	t.Helper()
	return newStack(t, devstack.Config{Postgres: true}).Postgres
}

// Tool runs a program of the machine beside the test until its end, and returns when it is ready.
func Tool(t testing.TB, ready func() error, name string, args ...string) *devstack.Tool {
	t.Helper()
	tool, err := devstack.StartTool(name, filepath.Join(t.TempDir(), name+".log"), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tool.Stop)
	Eventually(t, timeout, func() error {
		if err := tool.Running(); err != nil {
			t.Fatal(err)
		}
		return ready()
	})
	return tool
}

// FreeAddr returns an address of this host on which nobody listens.
func FreeAddr(t testing.TB) string {
	t.Helper()
	port, err := devstack.FreePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// Dir returns an empty folder for [devstack.Config.Dir], removed at the end of the test. Unlike
// t.TempDir it can be reached by the user that PostgreSQL runs as.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "flashsale-test-") //nolint:usetesting // See above.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // Another user must pass.
		t.Fatal(err)
	}
	return dir
}

// Eventually polls until the condition holds, and fails the test with its last error when the
// time is up. It is for what gives no signal to wait on.
func Eventually(t testing.TB, timeout time.Duration, condition func() error) {
	t.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("still not after %v: %v", timeout, err)
		case <-ticker.C:
		}
	}
}

func newStack(t testing.TB, config devstack.Config) *devstack.Stack {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	stack, err := devstack.Start(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Stop(); err != nil {
			t.Error(err)
		}
	})
	return stack
}

func mustStart(t testing.TB, start func(*servers) (*devstack.Stack, error)) *devstack.Stack {
	t.Helper()
	if shared == nil {
		t.Fatal("stacktest: the package needs func TestMain(m *testing.M) { stacktest.Main(m) }")
	}
	stack, err := start(shared)
	if err != nil {
		t.Fatal(err)
	}
	return stack
}

// emptyDatabase speaks the protocol by hand, so that no Redis library has a second home.
func emptyDatabase(ctx context.Context, addr string, db int64) error {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "SELECT %d\r\nFLUSHDB\r\n", db); err != nil {
		return err
	}
	replies := bufio.NewReader(conn)
	for range 2 {
		reply, err := replies.ReadString('\n')
		if err != nil {
			return err
		}
		if reply = strings.TrimSpace(reply); reply != "+OK" {
			return errors.New(reply)
		}
	}
	return nil
}
