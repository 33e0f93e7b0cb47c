package peak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// errUnconnected tells that nothing was sent.
var errUnconnected = errors.New("not connected")

// wire is one connection, which carries one request after the other. One goroutine uses it.
type wire struct {
	address string
	timeout time.Duration
	request *request

	conn    *net.TCPConn // nil where there is none: it is dialled with the next request
	raw     syscall.RawConn
	release func() bool   // forgets the connection's tie to its context
	expires time.Duration // the deadline that is set, since start

	step    func(fd uintptr) bool // advance, bound once: binding it allocates
	out     []byte
	in      []byte
	filled  int
	answer  answer
	failure error
}

func newWire(address string, timeout time.Duration, request *request) *wire {
	w := &wire{address: address, timeout: timeout, request: request, in: make([]byte, answerBytesMax)}
	w.step = w.advance
	return w
}

// connect dials. The connection ends with the context, and whoever waits on it is woken.
func (w *wire) connect(ctx context.Context) error {
	dialer := net.Dialer{Timeout: w.timeout}
	dialled, err := dialer.DialContext(ctx, "tcp", w.address)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnconnected, err)
	}
	conn, ok := dialled.(*net.TCPConn)
	if !ok {
		return errors.Join(errUnconnected, dialled.Close())
	}
	if w.raw, err = conn.SyscallConn(); err != nil {
		return errors.Join(errUnconnected, err, conn.Close())
	}
	w.conn, w.expires = conn, 0
	w.release = context.AfterFunc(ctx, func() { _ = conn.Close() })
	return nil
}

func (w *wire) close() {
	if w.conn == nil {
		return
	}
	w.release()
	_ = w.conn.Close() // there is nothing left in it that could be lost
	w.conn = nil
}

// exchange sends request n and reads its answer, which is valid until the next call. After an
// error, other than [errUnconnected], nobody knows what the server made of it.
func (w *wire) exchange(ctx context.Context, n int64, start time.Time, now time.Duration) (answer, error) {
	if w.conn == nil {
		if err := w.connect(ctx); err != nil {
			return answer{}, err
		}
		now = time.Since(start)
	}
	// To set a deadline costs as much as a good part of the rest: one serves many requests.
	if w.expires-now < w.timeout {
		w.expires = now + w.timeout + w.timeout/4
		if err := w.conn.SetReadDeadline(start.Add(w.expires)); err != nil {
			w.close()
			return answer{}, err
		}
	}
	w.out, w.filled, w.failure = w.request.of(n), 0, nil
	err := w.raw.Read(w.step)
	if err == nil {
		err = w.failure
	}
	if err != nil || w.answer.last {
		w.close()
	}
	return w.answer, err
}

// advance is called with the socket until it returns true, and again only when there is
// something to read. The first call sends: the request is then on its way before we wait, and
// no read is wasted on a socket that must still be empty, as it would be with Write and Read.
func (w *wire) advance(fd uintptr) bool {
	if w.out != nil {
		w.failure = send(int(fd), w.out)
		w.out = nil
		return w.failure != nil
	}
	n, err := receive(int(fd), w.in[w.filled:])
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return false
	case err != nil:
		w.failure = err
		return true
	}
	w.filled += n
	var whole bool
	w.answer, whole, w.failure = parse(w.in[:w.filled])
	if !whole && w.failure == nil && w.filled == len(w.in) {
		w.failure = errTooLarge
	}
	return whole || w.failure != nil
}

// send writes a request. It is some hundred bytes into a socket that has nothing else to send,
// so a part of it is as good as a fault.
func send(fd int, out []byte) error {
	for {
		n, err := syscall.Write(fd, out)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err == nil && n < len(out):
			err = io.ErrShortWrite
		}
		return err
	}
}

func receive(fd int, in []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, in)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err == nil && n == 0:
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
}
