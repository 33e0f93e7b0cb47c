package devstack_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"flashsale/internal/devstack"
	"flashsale/internal/devstack/stacktest"
)

// parentDirEnv makes the test binary play a program that runs a stack and is killed.
const parentDirEnv = "DEVSTACK_TEST_PARENT_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentDirEnv); dir != "" {
		playParent(dir)
		return
	}
	goleak.VerifyTestMain(stacktest.Suite(m))
}

// It protects the least that everything else builds on: both servers answer, are empty and
// configured as promised, and are gone with all their data after Stop.
func TestStart_Temporary(t *testing.T) {
	t.Parallel()
	stack := start(t, devstack.Config{Redis: true, Postgres: true})

	if got := redis(t, stack.RedisURL(), "DBSIZE"); got != ":0" {
		t.Errorf("DBSIZE = %s, want :0", got)
	}
	for name, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction",
		"databases": "10000", "protected-mode": "yes", "bind": "127.0.0.1", "save": "",
	} {
		if got := redisConfig(t, stack.RedisURL(), name); got != want {
			t.Errorf("CONFIG GET %s = %q, want %q", name, got, want)
		}
	}
	if got := sql(t, stack.DatabaseURL(), "SELECT count(*) FROM pg_stat_user_tables"); got != "0" {
		t.Errorf("tables = %s, want 0", got)
	}
	for name, want := range map[string]string{
		"max_connections": "200", "listen_addresses": "127.0.0.1", "fsync": "off", "TimeZone": "UTC",
		"server_encoding": "UTF8", "synchronous_commit": "on",
	} {
		if got := sql(t, stack.DatabaseURL(), "SHOW "+name); got != want {
			t.Errorf("SHOW %s = %q, want %q", name, got, want)
		}
	}

	dir := sql(t, stack.DatabaseURL(), "SHOW data_directory")
	pids := []int{stack.Redis.PID(), stack.Postgres.PID()}
	if err := stack.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := stack.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d is alive after Stop", pid)
		}
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat %s after Stop: %v, want it gone", filepath.Dir(dir), err)
	}
	if got := stack.Redis.PID(); got != 0 {
		t.Errorf("PID after Stop = %d, want 0", got)
	}
}

// It protects the demo's data: what was written is there after a stop and a new start, and the
// PostgreSQL that keeps it waits for the disk.
func TestStart_DirSurvivesRestart(t *testing.T) {
	t.Parallel()
	dir := stacktest.Dir(t)
	config := devstack.Config{Dir: dir, Redis: true, Postgres: true}
	stack := start(t, config)
	redis(t, stack.RedisURL(), "SET k kept")
	sql(t, stack.DatabaseURL(), "CREATE TABLE kept AS SELECT 42 AS n")
	if got := sql(t, stack.DatabaseURL(), "SHOW fsync"); got != "on" {
		t.Errorf("SHOW fsync = %s, want on: this data is to last", got)
	}
	if err := stack.Stop(); err != nil {
		t.Fatal(err)
	}

	stack = start(t, config)
	if got := redis(t, stack.RedisURL(), "GET k"); got != "kept" {
		t.Errorf("GET k = %q, want kept", got)
	}
	if got := sql(t, stack.DatabaseURL(), "SELECT n FROM kept"); got != "42" {
		t.Errorf("n = %q, want 42", got)
	}
}

// It protects a data folder from two stacks at once, which would destroy it.
func TestStart_DirInUse(t *testing.T) {
	t.Parallel()
	dir := stacktest.Dir(t)
	start(t, devstack.Config{Dir: dir, Redis: true})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := devstack.Start(ctx, devstack.Config{Dir: dir, Redis: true})
	if !errors.Is(err, devstack.ErrInUse) {
		t.Fatalf("second Start: %v, want ErrInUse", err)
	}
}

// It protects tests that run side by side: two stacks share nothing.
func TestStart_TwoAtOnce(t *testing.T) {
	t.Parallel()
	a := start(t, devstack.Config{Redis: true, Postgres: true})
	b := start(t, devstack.Config{Redis: true, Postgres: true})
	redis(t, a.RedisURL(), "SET k a")
	sql(t, a.DatabaseURL(), "CREATE TABLE only_a ()")
	if got := redis(t, b.RedisURL(), "DBSIZE"); got != ":0" {
		t.Errorf("DBSIZE of the other = %s, want :0", got)
	}
	if got := sql(t, b.DatabaseURL(), "SELECT to_regclass('only_a') IS NULL"); got != "t" {
		t.Errorf("the other knows the table")
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := redis(t, b.RedisURL(), "PING"); got != "+PONG" {
		t.Errorf("PING after the other stopped = %s", got)
	}
}

// It protects fault tests: a killed server comes back on the same URL with everything that was
// acknowledged, however often, also when it runs at the time.
func TestServer_KillAndRestart(t *testing.T) {
	t.Parallel()
	stack := start(t, devstack.Config{Redis: true, Postgres: true})
	redisURL, databaseURL := stack.RedisURL(), stack.DatabaseURL()
	sql(t, databaseURL, "CREATE TABLE kept (n int)")
	for i := range 3 {
		redis(t, redisURL, fmt.Sprintf("RPUSH kept %d", i))
		sql(t, databaseURL, fmt.Sprintf("INSERT INTO kept VALUES (%d)", i))
		for _, server := range []*devstack.Server{stack.Redis, stack.Postgres} {
			pid := server.PID()
			if i < 2 {
				server.Kill()
				server.Kill() // Nothing to kill is no fault.
				if alive(pid) {
					t.Fatalf("process %d is alive after Kill", pid)
				}
			}
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if server.PID() == pid || server.PID() == 0 {
				t.Fatalf("PID after Restart = %d, was %d", server.PID(), pid)
			}
		}
		if got, want := redis(t, redisURL, "LLEN kept"), ":"+strconv.Itoa(i+1); got != want {
			t.Errorf("LLEN kept = %s, want %s", got, want)
		}
		if got, want := sql(t, databaseURL, "SELECT count(*) FROM kept"), strconv.Itoa(i+1); got != want {
			t.Errorf("rows = %s, want %s", got, want)
		}
	}
	if stack.RedisURL() != redisURL || stack.DatabaseURL() != databaseURL {
		t.Error("a restart changed the URL")
	}
}

// It protects against the silent loss that RELIABILITY warns of: a crash amid a transaction
// must not make the append-only file swallow what is written after the restart.
func TestServer_RestartRepairsAppendOnlyFile(t *testing.T) {
	t.Parallel()
	const multi = "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$1\r\n1\r\n"
	const half = "*3\r\n$3\r\nSET\r\n$4\r\nha"
	tests := map[string]string{
		"MULTI without EXEC":      multi,
		"half a command":          half,
		"half a command in MULTI": multi + half, // Redis 7.0 alone fails this one.
	}
	for name, torn := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := stacktest.Dir(t)
			stack := start(t, devstack.Config{Dir: dir, Redis: true})
			redis(t, stack.RedisURL(), "SET before 1")
			stack.Redis.Kill()
			appendToAOF(t, dir, torn)
			for i := range 2 {
				if err := stack.Redis.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
				redis(t, stack.RedisURL(), fmt.Sprintf("SET after%d 1", i))
				stack.Redis.Kill()
			}
			if err := stack.Redis.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			for key, want := range map[string]string{"before": "1", "after0": "1", "after1": "1", "half": "$-1"} {
				if got := redis(t, stack.RedisURL(), "GET "+key); got != want {
					t.Errorf("GET %s = %q, want %q", key, got, want)
				}
			}
		})
	}
}

// It protects the start after a kill -9: the pid in a stale postmaster.pid may by now be
// another living program's, and PostgreSQL alone would refuse to start for ever.
func TestServer_RestartIgnoresStalePIDFile(t *testing.T) {
	t.Parallel()
	dir := stacktest.Dir(t)
	stack := start(t, devstack.Config{Dir: dir, Postgres: true})
	stack.Postgres.Kill()
	// Our parent is alive, and is neither PostgreSQL nor the one who starts it.
	stale := fmt.Sprintf("%d\n%s/postgres\n1\n1\n\n127.0.0.1\n1 1\nready\n", os.Getppid(), dir)
	if err := os.WriteFile(filepath.Join(dir, "postgres", "postmaster.pid"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := stack.Postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sql(t, stack.DatabaseURL(), "SELECT 1"); got != "1" {
		t.Errorf("SELECT 1 = %s", got)
	}
}

// It protects the machine from orphans: a process that is killed outright takes its servers
// with it, and the next one starts on the same folder at once, with the data.
func TestStart_NoOrphansAfterKill(t *testing.T) {
	t.Parallel()
	dir := stacktest.Dir(t)
	for round := range 3 {
		pids := runAndKillParent(t, dir)
		for _, pid := range pids {
			stacktest.Eventually(t, 10*time.Second, func() error {
				if alive(pid) {
					return fmt.Errorf("round %d: process %d is an orphan", round, pid)
				}
				return nil
			})
		}
	}
	stack := start(t, devstack.Config{Dir: dir, Redis: true, Postgres: true})
	if got := redis(t, stack.RedisURL(), "GET runs"); got != "3" {
		t.Errorf("GET runs = %q, want 3", got)
	}
	if got := sql(t, stack.DatabaseURL(), "SELECT count(*) FROM runs"); got != "3" {
		t.Errorf("runs = %s, want 3", got)
	}
}

// It protects the first start: killed in the middle of making the database, it leaves nothing
// that the next one takes for data.
func TestStart_KilledWhileInitializing(t *testing.T) {
	t.Parallel()
	dir := stacktest.Dir(t)
	cmd, _ := startParent(t, dir)
	stacktest.Eventually(t, 30*time.Second, func() error {
		_, err := os.Stat(filepath.Join(dir, "postgres.new", "base"))
		return err
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // Its end by our signal is no news.

	stack := start(t, devstack.Config{Dir: dir, Postgres: true})
	if got := sql(t, stack.DatabaseURL(), "SELECT 1"); got != "1" {
		t.Errorf("SELECT 1 = %s", got)
	}
}

// It protects servers from the end of a mere thread of ours, which sends the parent-death
// signal to what it has forked.
func TestStart_SurvivesCallersThread(t *testing.T) {
	t.Parallel()
	var stack *devstack.Stack
	var err error
	var thread int
	started := make(chan struct{})
	go func() {
		defer close(started)
		runtime.LockOSThread() // Without unlock, the thread ends with the goroutine.
		thread = syscall.Gettid()
		stack, err = devstack.Start(t.Context(), devstack.Config{Redis: true, Postgres: true})
	}()
	<-started
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, stack)
	if thread != os.Getpid() { // The main thread never ends.
		stacktest.Eventually(t, 10*time.Second, func() error {
			if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread)); err == nil {
				return fmt.Errorf("thread %d has not ended", thread)
			}
			return nil
		})
	}
	if got := redis(t, stack.RedisURL(), "PING"); got != "+PONG" {
		t.Errorf("PING = %s", got)
	}
	if got := sql(t, stack.DatabaseURL(), "SELECT 1"); got != "1" {
		t.Errorf("SELECT 1 = %s", got)
	}
}

// runAndKillParent runs a program with a stack in dir, kills it with SIGKILL as soon as it has
// used both servers, and returns the pids of every process that it had started.
func runAndKillParent(t *testing.T, dir string) []int {
	t.Helper()
	cmd, stdout := startParent(t, dir)
	lines := bufio.NewScanner(stdout)
	var urls []string
	for len(urls) < 2 && lines.Scan() {
		urls = append(urls, lines.Text())
	}
	if len(urls) == 2 {
		redis(t, urls[0], "INCR runs")
		sql(t, urls[1], "CREATE TABLE IF NOT EXISTS runs (); INSERT INTO runs DEFAULT VALUES")
	}
	pids := descendants(t, cmd.Process.Pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // Its end by our signal is no news.
	if len(urls) < 2 || len(pids) < 2 {
		t.Fatalf("the parent printed %q and has the processes %v, want two or more", urls, pids)
	}
	return pids
}

func startParent(t *testing.T, dir string) (*exec.Cmd, io.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), parentDirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stdout
}

// playParent is the program: it prints where its servers are and waits to be killed.
func playParent(dir string) {
	stack, err := devstack.Start(context.Background(), devstack.Config{Dir: dir, Redis: true, Postgres: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(stack.RedisURL())
	fmt.Println(stack.DatabaseURL())
	select {}
}

// It protects the newcomer: what is missing is named together with the line that installs it.
func TestStart_MissingProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := devstack.Start(t.Context(), devstack.Config{Redis: true})
	if !errors.Is(err, devstack.ErrMissingProgram) {
		t.Fatalf("Start: %v, want ErrMissingProgram", err)
	}
	if want := "sudo apt-get install -y redis-server postgresql"; !strings.Contains(err.Error(), want) {
		t.Errorf("Start: %q does not hold %q", err, want)
	}
}

// It protects the reader of a failure: a server that refuses its settings says why, and
// nothing of it stays.
func TestStart_ExplainsFailure(t *testing.T) {
	t.Parallel()
	_, err := devstack.Start(t.Context(), devstack.Config{Redis: true, RedisArgs: []string{"--no-such-setting", "1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Fatalf("Start: %v, want what redis-server printed", err)
	}
}

// It protects a Start that is given up: it ends by then and stops what it had started.
func TestStart_Cancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := devstack.Start(ctx, devstack.Config{Redis: true, Postgres: true}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Start: %v, want context.Canceled", err)
	}
}

// It protects the bounds of Config.
func TestStart_RefusesConfig(t *testing.T) {
	t.Parallel()
	tests := map[string]devstack.Config{
		"Redis":       {},
		"AppendFsync": {Redis: true, AppendFsync: "sometimes"},
		"Dir":         {Redis: true, Dir: "relative"},
		"Cluster":     {Redis: true, Cluster: 2},
		"Sentinels":   {Redis: true, Sentinels: 1},
	}
	for field, config := range tests {
		if _, err := devstack.Start(t.Context(), config); err == nil || !strings.Contains(err.Error(), "Config") ||
			!strings.Contains(err.Error(), field) {
			t.Errorf("Start(%+v): %v, want the field %s named", config, err, field)
		}
	}
}

// It protects root, whose home is closed to the user that PostgreSQL runs as: the refusal
// names the closed folder and one that works.
func TestStart_UnreachableDir(t *testing.T) {
	t.Parallel()
	closed := stacktest.Dir(t)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(closed, "data")
	stack, err := devstack.Start(t.Context(), devstack.Config{Dir: dir, Postgres: true})
	if os.Geteuid() != 0 { // Then PostgreSQL runs as us, and nothing of ours is closed to it.
		if err != nil {
			t.Fatal(err)
		}
		if err := stack.Stop(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), closed) || !strings.Contains(err.Error(), devstack.DefaultDir()) {
		t.Fatalf("Start: %v, want %s and %s named", err, closed, devstack.DefaultDir())
	}
}

// It protects root with a TMPDIR that PostgreSQL's user cannot reach: temporary data goes
// where it can.
func TestStart_UnreachableTMPDIR(t *testing.T) {
	closed := stacktest.Dir(t)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", closed)
	stack := start(t, devstack.Config{Postgres: true})
	if got := sql(t, stack.DatabaseURL(), "SELECT 1"); got != "1" {
		t.Errorf("SELECT 1 = %s", got)
	}
}

// It protects the disk: temporary data of a killed process is removed by the next stack, but
// neither a living stack's nor what is not ours.
func TestStart_RemovesLeftovers(t *testing.T) {
	base := stacktest.Dir(t)
	t.Setenv("TMPDIR", base)
	old := time.Now().Add(-time.Hour)
	folder := func(name string, files ...string) string {
		dir := filepath.Join(base, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			path := filepath.Join(dir, file)
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	leftover := folder("flashsale-stack-1", "lock", "data")
	living := folder("flashsale-stack-2", "lock")
	foreign := folder("flashsale-stack-3", "data")
	lock, err := os.Open(filepath.Join(living, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}

	start(t, devstack.Config{Redis: true})
	for dir, want := range map[string]bool{leftover: false, living: true, foreign: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("stat %s: %v, want it there: %v", dir, err, want)
		}
	}
}

func start(t *testing.T, config devstack.Config) *devstack.Stack {
	t.Helper()
	stack, err := devstack.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, stack)
	return stack
}

func stopAtEnd(t *testing.T, stack *devstack.Stack) {
	t.Helper()
	t.Cleanup(func() {
		if err := stack.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// redis sends one command and returns the first line of the reply that is no length.
func redis(t *testing.T, redisURL, command string) string {
	t.Helper()
	lines := redisLines(t, redisURL, command)
	if strings.HasPrefix(lines[0], "$") && lines[0] != "$-1" {
		return lines[1]
	}
	return lines[0]
}

// role is that of a Redis in its replication: master or slave. One that is given another role closes
// its connections meanwhile.
func role(t *testing.T, server *devstack.Server) string {
	t.Helper()
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return "away"
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "INFO replication\r\nQUIT\r\n"); err != nil {
		return "away"
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if role, ok := strings.CutPrefix(lines.Text(), "role:"); ok {
			return role
		}
	}
	return "away"
}

func redisConfig(t *testing.T, redisURL, name string) string {
	t.Helper()
	return redisLines(t, redisURL, "CONFIG GET "+name)[4]
}

func redisLines(t *testing.T, redisURL, command string) []string {
	t.Helper()
	u, err := url.Parse(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "SELECT %s\r\n%s\r\nQUIT\r\n", strings.TrimPrefix(u.Path, "/"), command); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for replies := bufio.NewScanner(conn); replies.Scan(); {
		lines = append(lines, replies.Text())
	}
	if len(lines) < 3 || lines[0] != "+OK" || strings.HasPrefix(lines[1], "-") {
		t.Fatalf("%s on %s: %q", command, redisURL, lines)
	}
	return lines[1:]
}

// sql runs statements and returns the last one's rows as text.
func sql(t *testing.T, databaseURL, statements string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(),
		"psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statements, databaseURL).CombinedOutput()
	if err != nil {
		t.Fatalf("psql %s: %v\n%s", statements, err, out)
	}
	return strings.TrimSpace(string(out))
}

func appendToAOF(t *testing.T, dir, data string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "redis", "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		t.Fatalf("append-only files %v, %v, want one", files, err)
	}
	f, err := os.OpenFile(files[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(data); err != nil {
		t.Fatal(err)
	}
}

// alive reports whether the process runs: a zombie does not, it only was not waited for yet.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// descendants are the processes below pid.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, task := range tasks {
		children, err := os.ReadFile(task)
		if err != nil {
			continue // The thread ended meanwhile.
		}
		for field := range strings.FieldsSeq(string(children)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(append(pids, child), descendants(t, child)...)
		}
	}
	return pids
}

// It protects the tests of a cluster: every node agrees on who owns what, each primary has a
// replica, a primary's loss is noticed, and kept data finds its cluster again on other ports.
func TestStart_Cluster(t *testing.T) {
	t.Parallel()
	config := devstack.Config{Redis: true, Cluster: 3, Dir: stacktest.Dir(t)}
	stack, err := devstack.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	for n, node := range stack.Nodes {
		want := "master"
		if n >= config.Cluster {
			want = "slave"
		}
		if got := role(t, node); got != want {
			t.Errorf("node %d is %s, want %s", n, got, want)
		}
	}
	if n := strings.Count(stack.RedisURL(), "addr="); n != 2*config.Cluster-1 {
		t.Errorf("%s names %d further addresses", stack.RedisURL(), n)
	}
	stack.Nodes[0].Kill()
	stacktest.Eventually(t, time.Minute, func() error {
		if got := role(t, stack.Nodes[config.Cluster]); got != "master" {
			return errors.New("its replica is " + got)
		}
		return nil
	})
	if err := stack.Stop(); err != nil {
		t.Fatal(err)
	}
	again, err := devstack.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Stop(); err != nil {
		t.Error(err)
	}
}

// It protects the tests of a failover that Sentinels carry out: they watch, and they promote.
func TestStart_Sentinels(t *testing.T) {
	t.Parallel()
	stack := start(t, devstack.Config{Redis: true, Sentinels: 3})
	if !strings.Contains(stack.RedisURL(), "master_set="+devstack.MasterSet) {
		t.Error(stack.RedisURL())
	}
	stack.Nodes[0].Kill()
	stacktest.Eventually(t, time.Minute, func() error {
		for _, node := range stack.Nodes[1:] {
			if role(t, node) == "master" {
				return nil
			}
		}
		return errors.New("nobody was promoted")
	})
}

// It protects a test that stops a server in mid-work: it answers nobody, and goes on afterwards.
func TestServer_PauseAndContinue(t *testing.T) {
	t.Parallel()
	stack := start(t, devstack.Config{Redis: true})
	if err := stack.Redis.Pause(); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, time.Minute, func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", stack.Redis.PID()))
		if err == nil && !strings.Contains(string(stat), ") T ") {
			err = fmt.Errorf("not stopped: %s", stat)
		}
		return err
	})
	if err := stack.Redis.Continue(); err != nil {
		t.Fatal(err)
	}
	if got := redis(t, stack.RedisURL(), "PING"); got != "+PONG" {
		t.Error(got)
	}
	stack.Redis.Kill()
	if err := stack.Redis.Pause(); err == nil {
		t.Error("paused a server that does not run")
	}
}
