package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	host = "127.0.0.1"

	// Ports are drawn from below the range that Linux gives to outgoing connections. In that
	// range a client that redials a killed server would, sooner or later, be given the very
	// port it dials, connect to itself and keep the server from coming back.
	portMin, portMax = 20000, 32000
	portAttemptsMax  = 20

	startTimeout  = 60 * time.Second
	readyInterval = 5 * time.Millisecond
	logTailMax    = 4096
)

// ErrPortTaken tells that another program listens on the port that a server needs.
var ErrPortTaken = errors.New("port is taken")

// daemon is what differs between the servers.
type daemon interface {
	// prepare makes the data folder fit to start on: new, or left by an earlier run that may
	// have been killed. No process works in the folder meanwhile.
	prepare(ctx context.Context) error
	command(port int) *exec.Cmd
	// ready reports whether the process with this pid, and no other, answers on the port.
	ready(ctx context.Context, pid, port int) bool
	// stopped hears that the server ended as asked, with its data in order.
	stopped() error
	url(port int) string
	signals() signals
}

type signals struct {
	stop syscall.Signal // ends the server with its data in order
	kill syscall.Signal // ends it at once, as a crash would
}

// Server is one server of a stack. Its methods may be called concurrently; each call ends
// before the next begins.
type Server struct {
	name    string
	daemon  daemon
	logPath string
	log     *slog.Logger

	mu   sync.Mutex
	port int // the same over restarts, so that the URL stays
	proc *process
}

// URL is where clients find the server. Kill and Restart do not change it.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.daemon.url(s.port)
}

// PID is the process id of the running server, 0 when it does not run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.proc.ended() {
		return 0
	}
	return s.proc.pid()
}

// Pause stops the server where it is, as a machine that hangs would: connections stay, and nobody
// answers. [Server.Continue] lets it go on.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Continue ends a [Server.Pause].
func (s *Server) Continue() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	pid := s.PID()
	if pid == 0 {
		return fmt.Errorf("signal %s: it does not run", s.name)
	}
	return syscall.Kill(pid, sig)
}

// Kill ends the server at once, as a crash would, and returns when it is gone. Redis gets
// SIGKILL. PostgreSQL gets SIGQUIT, on which it drops everything without a checkpoint: after
// a SIGKILL its helpers would linger a moment and keep the data folder occupied.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killLocked()
}

// Stop ends the server with its data in order. It is safe to stop twice.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopLocked()
}

// Restart stops the server if it runs, and starts it on the same data and port.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stopLocked(); err != nil {
		return err
	}
	return s.startLocked(ctx, s.port)
}

// start starts the server on a free port. Between the moment we find a port free and the
// moment the server binds it another program may take it: then the next port is tried.
func (s *Server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for range portAttemptsMax {
		port := portMin + rand.IntN(portMax-portMin)
		if err = s.startLocked(ctx, port); !errors.Is(err, ErrPortTaken) {
			return err
		}
	}
	return err
}

func (s *Server) startLocked(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := probePort(ctx, port); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	if err := s.daemon.prepare(ctx); err != nil {
		return fmt.Errorf("prepare %s: %w", s.name, err)
	}
	logFile, err := os.OpenFile(s.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", s.name, err)
	}
	defer logFile.Close()
	logStart, err := logFile.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", s.name, err)
	}

	cmd := s.daemon.command(port)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	proc, err := launch(cmd, s.daemon.signals().kill)
	if err != nil {
		return err
	}
	s.proc, s.port = proc, port
	if err := s.waitReady(ctx); err != nil {
		s.killLocked()
		return fmt.Errorf("start %s: %w", s.name, s.explain(err, logStart))
	}
	s.log.DebugContext(ctx, "server started", "server", s.name, "port", port, "pid", proc.pid())
	return nil
}

// waitReady polls, because neither server can tell a parent that it is ready.
func (s *Server) waitReady(ctx context.Context) error {
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for !s.daemon.ready(ctx, s.proc.pid(), s.port) {
		select {
		case <-s.proc.done:
			return errors.New(s.proc.cmd.ProcessState.String())
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

// explain adds what the server wrote to its log in this run.
func (s *Server) explain(err error, logStart int64) error {
	tail := logTail(s.logPath, logStart)
	if strings.Contains(tail, "Address already in use") {
		err = ErrPortTaken
	}
	return fmt.Errorf("port %d: %w; end of %s:\n%s", s.port, err, s.logPath, tail)
}

func logTail(path string, from int64) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	data = data[min(from, int64(len(data))):]
	return string(data[max(0, len(data)-logTailMax):])
}

func (s *Server) killLocked() {
	if s.proc == nil {
		return
	}
	s.proc.end(s.daemon.signals().kill)
	s.proc = nil
}

func (s *Server) stopLocked() error {
	if s.proc == nil {
		return nil
	}
	proc := s.proc
	s.proc = nil
	if !proc.end(s.daemon.signals().stop, s.daemon.signals().kill) {
		// It crashed before, or did not obey: the next start repairs what it left.
		s.log.Warn("server did not end in good order", "server", s.name, "state", proc.cmd.ProcessState)
		return nil
	}
	if err := s.daemon.stopped(); err != nil {
		return fmt.Errorf("stop %s: %w", s.name, err)
	}
	return nil
}

// probePort finds out cheaply what a server would find out slowly: that a port is taken.
func probePort(ctx context.Context, port int) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d: %w", port, ErrPortTaken)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// currentPort is for the tools that log in by host and port.
func (s *Server) currentPort() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}
