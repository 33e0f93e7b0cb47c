package server

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/valyala/fasthttp/fasthttputil"
)

// short is a listener that is refused its connections with an error for so many times.
type short struct {
	net.Listener
	err  error
	left atomic.Int32
}

func (s *short) Accept() (net.Conn, error) {
	if s.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", s.err)}
	}
	return s.Listener.Accept()
}

// Protects a process that is short of descriptors or memory from taking that for the end of its
// listener: it goes on, and has said so once.
func TestPatient(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		inner := fasthttputil.NewInmemoryListener()
		scarce := &short{Listener: inner, err: errno}
		scarce.left.Store(3)
		var log bytes.Buffer
		listener := newPatient(scarce, slog.New(slog.NewTextHandler(&log, nil)))
		go func() { _, _ = inner.Dial() }()
		conn, err := listener.Accept()
		if err != nil {
			t.Fatalf("%s: %v", errno, err)
		}
		_ = conn.Close()
		if n := strings.Count(log.String(), "cannot accept connections"); n != 1 {
			t.Errorf("%s: said %d times:\n%s", errno, n, &log)
		}
		_ = listener.Close()
	}
}

// Protects the shutdown of a listener that waits out a shortage, and a listener that is broken
// from being asked for ever.
func TestPatient_Ends(t *testing.T) {
	t.Parallel()
	scarce := &short{Listener: fasthttputil.NewInmemoryListener(), err: syscall.EMFILE}
	scarce.left.Store(1 << 30)
	listener := newPatient(scarce, slog.New(slog.DiscardHandler))
	failed := make(chan error, 1)
	go func() {
		_, err := listener.Accept()
		failed <- err
	}()
	_ = listener.Close()
	if err := receive(t, failed); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed while it waits: %v", err)
	}
	scarce.err = syscall.EINVAL
	if _, err := newPatient(scarce, slog.New(slog.DiscardHandler)).Accept(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("broken: %v", err)
	}
}
