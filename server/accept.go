package server

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// acceptPause is how long a listener rests before it tries again.
	acceptPause = 20 * time.Millisecond
	// acceptQuiet is how long it must not have been refused before it says so again.
	acceptQuiet = time.Minute
)

// passing are what accept(2) fails with although the listener is well: the process or the system
// is short of something, or one connection was lost before it was accepted.
var passing = []error{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
	syscall.ECONNABORTED, syscall.EPERM, syscall.EPROTO, syscall.ENETDOWN, syscall.ENOPROTOOPT, syscall.EHOSTDOWN,
	syscall.ENONET, syscall.EHOSTUNREACH, syscall.EOPNOTSUPP, syscall.ENETUNREACH,
}

// patient is a listener that outlives a shortage: fasthttp takes every error of Accept for the
// listener's end. Connections wait in the system's queue meanwhile. Accept is called by one
// goroutine at a time.
type patient struct {
	net.Listener
	logger  *slog.Logger
	refused time.Time // when last
	closing sync.Once
	closed  chan struct{}
}

func newPatient(listener net.Listener, logger *slog.Logger) *patient {
	return &patient{Listener: listener, logger: logger, closed: make(chan struct{})}
}

func (p *patient) Accept() (net.Conn, error) {
	for {
		conn, err := p.Listener.Accept()
		if err == nil || !slices.ContainsFunc(passing, func(passes error) bool { return errors.Is(err, passes) }) {
			return conn, err
		}
		if time.Since(p.refused) > acceptQuiet {
			p.logger.Error("cannot accept connections, trying again: "+
				"if too many files are open, raise the limit (ulimit -n, LimitNOFILE) or lower CONNS_MAX",
				"addr", p.Addr().String(), "error", err)
		}
		p.refused = time.Now()
		pause := time.NewTimer(acceptPause)
		select {
		case <-pause.C:
		case <-p.closed:
			pause.Stop()
			return nil, net.ErrClosed
		}
	}
}

// Close may be called more than once.
func (p *patient) Close() error {
	p.closing.Do(func() { close(p.closed) })
	return p.Listener.Close()
}
