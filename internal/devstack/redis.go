package devstack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RedisDatabases is how many logical databases the private Redis has, so that each test can
// have one of its own.
const RedisDatabases = 10000

// redisDaemon runs redis-server with an append-only file and no snapshots.
type redisDaemon struct {
	programs    redisPrograms
	dir         string
	appendFsync string
	args        []string
	lock        *os.File
	cluster     bool // a node of one
}

var _ daemon = (*redisDaemon)(nil)

// uncleanPath exists from before a start until after an orderly stop.
func (d *redisDaemon) uncleanPath() string { return filepath.Join(d.dir, "unclean") }

func (d *redisDaemon) prepare(ctx context.Context) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(d.uncleanPath()); err == nil {
		if err := d.repair(ctx); err != nil {
			return err
		}
	}
	return os.WriteFile(d.uncleanPath(), nil, 0o600)
}

// repair cuts off what a crash left unfinished at the end of the append-only file. Redis 7.0
// does so by itself, except for a command that is torn inside a MULTI: it cuts off that command
// and leaves the MULTI open, so that everything written later becomes part of the transaction,
// and the next start drops it all.
func (d *redisDaemon) repair(ctx context.Context) error {
	manifest := filepath.Join(d.dir, "appendonlydir", "appendonly.aof.manifest")
	if _, err := os.Stat(manifest); errors.Is(err, fs.ErrNotExist) {
		return nil // Killed before it wrote anything.
	}
	cmd := exec.CommandContext(ctx, d.programs.checkAOF, "--fix", manifest)
	cmd.Stdin = strings.NewReader("y\n") // It asks before it truncates.
	if err := run(cmd); err != nil {
		return fmt.Errorf("repair the append-only file: %w", err)
	}
	return nil
}

func (d *redisDaemon) command(port int) *exec.Cmd {
	args := []string{
		"--bind", host,
		"--port", strconv.Itoa(port),
		"--protected-mode", "yes",
		"--dir", d.dir,
		"--save", "",
		"--appendonly", "yes",
		"--appendfsync", d.appendFsync,
		"--maxmemory-policy", "noeviction",
		"--repl-diskless-sync-delay", "0", // no further replica will come that is worth waiting for
	}
	if d.cluster {
		args = append(args, clusterNodeArgs(port)...)
	} else {
		args = append(args, "--databases", strconv.Itoa(RedisDatabases))
	}
	// No context: the server lives until it is stopped or we are gone.
	cmd := exec.CommandContext(context.Background(), d.programs.server, append(args, d.args...)...)
	cmd.ExtraFiles = []*os.File{d.lock}
	return cmd
}

// ready asks for the process id too: after a lost race for the port, another stack's Redis
// may be the one that answers.
func (d *redisDaemon) ready(ctx context.Context, pid, port int) bool {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	// INFO is answered while the data is loading, PING is not; QUIT ends the answer.
	if _, err := conn.Write([]byte("PING\r\nINFO server\r\nQUIT\r\n")); err != nil {
		return false
	}
	lines := bufio.NewScanner(conn)
	if !lines.Scan() || lines.Text() != "+PONG" {
		return false
	}
	want := "process_id:" + strconv.Itoa(pid)
	for lines.Scan() {
		if lines.Text() == want {
			return true
		}
	}
	return false
}

func (d *redisDaemon) stopped() error { return os.Remove(d.uncleanPath()) }

func (d *redisDaemon) url(port int) string {
	return "redis://" + address(port) + "/0"
}

// signals: what Redis has acknowledged it has also written to the file, so SIGKILL loses only
// what the machine's crash would.
func (d *redisDaemon) signals() signals {
	return signals{stop: syscall.SIGTERM, kill: syscall.SIGKILL}
}
