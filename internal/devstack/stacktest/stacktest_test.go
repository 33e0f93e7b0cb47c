package stacktest_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"flashsale/internal/devstack/stacktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(stacktest.Suite(m)) }

// It protects tests from each other: same server, different databases.
func TestRedis_DatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	a, b := parse(t, stacktest.Redis(t)), parse(t, stacktest.Redis(t))
	if a.Host != b.Host {
		t.Errorf("servers %s and %s, want one that is shared", a.Host, b.Host)
	}
	if a.Path == b.Path || a.Path == "/0" || b.Path == "/0" {
		t.Errorf("databases %s and %s, want two, neither of them the default", a.Path, b.Path)
	}
}

// It protects tests that break a Redis: it is theirs alone and set as they ask.
func TestNewRedis_PrivateWithArgs(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t, "--maxmemory", "64mb")
	u := parse(t, server.URL())
	if u.Host == parse(t, stacktest.Redis(t)).Host {
		t.Error("the private Redis is the shared one")
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "CONFIG GET maxmemory\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for replies := bufio.NewScanner(conn); replies.Scan(); {
		lines = append(lines, replies.Text())
	}
	if got := strings.Join(lines, " "); !strings.Contains(got, " 67108864 ") {
		t.Errorf("CONFIG GET maxmemory = %s, want 64 MiB", got)
	}
}

// It protects tests from each other, and the server from being filled by them: each has a
// database, which is dropped under whoever is still connected.
func TestPostgres_DatabaseOfItsOwn(t *testing.T) { //nolint:tparallel // The lender must end before we go on.
	t.Parallel()
	other := stacktest.Postgres(t)
	var gone string
	t.Run("lender", func(t *testing.T) {
		gone = stacktest.Postgres(t)
		if gone == other {
			t.Fatal("two tests got one database")
		}
		if out, err := psql(gone, "CREATE TABLE mine ()"); err != nil {
			t.Fatal(out)
		}
	})
	if out, err := psql(gone, "SELECT 1"); err == nil || !strings.Contains(out, "does not exist") {
		t.Errorf("psql after the test: %v %s, want the database gone", err, out)
	}
	if out, err := psql(other, "SELECT to_regclass('mine') IS NULL"); err != nil || out != "t" {
		t.Errorf("the other database: %v %s, want it empty", err, out)
	}
}

// It protects tests that kill a PostgreSQL: it is theirs alone.
func TestNewPostgres_Private(t *testing.T) {
	t.Parallel()
	server := stacktest.NewPostgres(t)
	if parse(t, server.URL()).Host == parse(t, stacktest.Postgres(t)).Host {
		t.Error("the private PostgreSQL is the shared one")
	}
	if out, err := psql(server.URL(), "SELECT 1"); err != nil || out != "1" {
		t.Errorf("SELECT 1: %v %s", err, out)
	}
}

// It protects every test that polls: success ends it at once, the deadline with the last error.
func TestEventually(t *testing.T) {
	t.Parallel()
	calls := 0
	stacktest.Eventually(t, time.Minute, func() error {
		calls++
		if calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if calls != 3 {
		t.Errorf("calls = %d, want 3", calls)
	}

	fake := &fakeTB{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		stacktest.Eventually(fake, time.Millisecond, func() error { return errors.New("never") })
	}()
	<-done
	if !strings.Contains(fake.fatal, "never") {
		t.Errorf("Fatalf(%q), want the last error", fake.fatal)
	}
}

// fakeTB records the failure that it is to see.
type fakeTB struct {
	testing.TB
	fatal string
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func parse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func psql(databaseURL, statement string) (string, error) {
	out, err := exec.Command("psql", "-X", "-q", "-A", "-t", "-c", statement, databaseURL).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
