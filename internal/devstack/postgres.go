package devstack

import (
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
)

// postgresUser owns the server, postgresDatabase is the database that a new server holds.
const (
	postgresUser     = "flashsale"
	postgresDatabase = "flashsale"
)

// postgresDaemon runs a PostgreSQL that answers on its port only, with its settings on the
// command line: the data folder holds data and nothing to edit.
type postgresDaemon struct {
	programs  postgresPrograms
	dir       string
	temporary bool
	account   *account // whom it runs as, nil: us
	lock      *os.File
}

var _ daemon = (*postgresDaemon)(nil)

func (d *postgresDaemon) prepare(ctx context.Context) error {
	switch _, err := os.Stat(d.dir); {
	case errors.Is(err, fs.ErrNotExist):
		return d.initialize(ctx)
	case err != nil:
		return err
	}
	// A killed server leaves its pid file, and by now the pid may be another program's, on
	// which PostgreSQL would refuse to start. We hold the folder's lock, which every server
	// process shares: none is alive.
	err := os.Remove(filepath.Join(d.dir, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// initialize creates the data beside its place and moves it there when it is whole, so that a
// crash in the middle leaves nothing that looks like data.
func (d *postgresDaemon) initialize(ctx context.Context) error {
	draft := d.dir + ".new"
	if err := os.RemoveAll(draft); err != nil {
		return err
	}
	if err := os.Mkdir(draft, 0o700); err != nil {
		return err
	}
	if d.account != nil {
		if err := os.Chown(draft, d.account.uid, d.account.gid); err != nil {
			return err
		}
	}
	initdb := []string{
		"--pgdata", draft, "--username", postgresUser, "--auth", "trust",
		"--encoding", "UTF8", "--locale", "C",
	}
	single := []string{"--single", "-D", draft}
	if d.temporary {
		initdb = append(initdb, "--no-sync")
		single = append(single, "-F")
	}
	if err := run(d.tool(ctx, "initdb", initdb...)); err != nil {
		return err
	}
	create := d.tool(ctx, "postgres", append(single, "postgres")...)
	create.Stdin = strings.NewReader("CREATE DATABASE " + postgresDatabase + "\n")
	if err := run(create); err != nil {
		return err
	}
	return os.Rename(draft, d.dir)
}

func (d *postgresDaemon) command(port int) *exec.Cmd {
	settings := []string{
		"listen_addresses=" + host,
		"port=" + strconv.Itoa(port),
		"unix_socket_directories=",
		"max_connections=200",
		"shared_buffers=64MB",
		"timezone=UTC",
		"log_timezone=UTC",
	}
	if d.temporary {
		// The machine's crash would lose the data, and nobody would miss it. Commits still
		// reach the kernel before they are answered, so a killed server loses none.
		settings = append(settings, "fsync=off", "full_page_writes=off", "max_wal_size=256MB")
	}
	args := []string{"-D", d.dir}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	return d.tool(context.Background(), "postgres", args...)
}

// tool is a command of PostgreSQL's, run as whom it must run as.
func (d *postgresDaemon) tool(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(d.programs.bin, name), args...)
	cmd.ExtraFiles = []*os.File{d.lock}
	if d.account != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.account.credential()}
	}
	return cmd
}

// ready reads the file in which the server tells pg_ctl how it is doing: the pid on the first
// line, the status on the eighth.
func (d *postgresDaemon) ready(_ context.Context, pid, _ int) bool {
	data, err := os.ReadFile(filepath.Join(d.dir, "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(data), "\n")
	return len(lines) > 7 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
}

func (d *postgresDaemon) stopped() error { return nil }

func (d *postgresDaemon) url(port int) string { return postgresURL(port, postgresDatabase) }

func (d *postgresDaemon) signals() signals {
	return signals{stop: syscall.SIGINT, kill: syscall.SIGQUIT}
}

// createDatabase creates an empty database and returns its URL.
func (d *postgresDaemon) createDatabase(ctx context.Context, port int, name string) (string, error) {
	args := append(login(port), "--template", "template0", name)
	if err := run(d.tool(ctx, "createdb", args...)); err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	return postgresURL(port, name), nil
}

// isDuplicateDatabase reports whether createdb found the database there. It has one exit code
// for everything, so only its words tell; the server's locale is C.
func isDuplicateDatabase(err error) bool {
	return err != nil && strings.Contains(err.Error(), "already exists")
}

// dropDatabase drops a database and the connections to it.
func (d *postgresDaemon) dropDatabase(ctx context.Context, port int, name string) error {
	args := append(login(port), "--force", "--if-exists", name)
	if err := run(d.tool(ctx, "dropdb", args...)); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

func login(port int) []string {
	return []string{
		"--host", host, "--port", strconv.Itoa(port), "--username", postgresUser,
		"--maintenance-db", "postgres", "--no-password",
	}
}

func postgresURL(port int, database string) string {
	return "postgres://" + postgresUser + "@" + net.JoinHostPort(host, strconv.Itoa(port)) +
		"/" + database + "?sslmode=disable"
}
