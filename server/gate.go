package server

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// turnAwayTimeout bounds the answer to a connection that is turned away. It fits into the
// empty buffer of a new connection, so it is not expected to wait at all.
const turnAwayTimeout = 50 * time.Millisecond

// gate is a listener that bounds the open connections, in all and of one address. It stands
// in for Server.MaxConnsPerIP of fasthttp, which knows IPv4 only and uses a connection again
// while a shutdown is still closing it.
type gate struct {
	net.Listener
	max, maxPerAddr int
	slack           time.Duration // of deadlines

	mu     sync.Mutex // guards what follows
	open   int
	byAddr map[netip.Prefix]int
}

func newGate(listener net.Listener, config Config) *gate {
	return &gate{
		Listener: listener, max: config.ConnsMax, maxPerAddr: config.ConnsPerAddrMax,
		slack:  min(config.ReadTimeout/10, config.WriteTimeout/10, config.IdleTimeout/10, deadlineSlackMax),
		byAddr: make(map[netip.Prefix]int),
	}
}

// Accept returns the next connection that is let in and turns away those before it.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := origin(conn.RemoteAddr())
		p := g.enter(from)
		if p == nil {
			return &guest{Conn: conn, gate: g, from: from}, nil
		}
		_ = conn.SetWriteDeadline(time.Now().Add(turnAwayTimeout))
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: %s\r\nRetry-After: %s\r\nContent-Length: %d\r\n\r\n%s",
			p.status, fasthttp.StatusMessage(p.status), typeProblem, p.retryAfter, len(p.body), p.body)
		_ = conn.Close()
	}
}

func (g *gate) enter(from netip.Prefix) *problem {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.open >= g.max:
		return problemOverloaded
	case from.IsValid() && g.byAddr[from] >= g.maxPerAddr:
		return problemTooManyConns
	}
	g.open++
	g.byAddr[from]++
	return nil
}

func (g *gate) leave(from netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if g.byAddr[from]--; g.byAddr[from] == 0 {
		delete(g.byAddr, from)
	}
}

// deadlineSlackMax bounds by how much a deadline in force may differ from the one asked for;
// it is a tenth of the shortest timeout.
const deadlineSlackMax = time.Second

// guest is a connection that was let in.
//
// It puts deadlines in force when they are needed. fasthttp sets three for each request, each
// with a timer of the runtime, although a request mostly arrives with the read that found the
// connection idle no more, and the deadline of the request before would do. So the deadline
// asked for is only noted, and set by the next read or write if it differs by more than a slack.
// Whoever takes the connection over from fasthttp says so with SetDeadline, and gets the plain
// behaviour, in which a deadline also ends a read under way.
type guest struct {
	net.Conn
	gate        *gate
	from        netip.Prefix
	left        atomic.Bool
	plain       bool
	read, write deadline
}

type deadline struct{ asked, inForce time.Time }

// due reports whether the deadline asked for must be put in force, and notes that it is.
func (d *deadline) due(slack time.Duration) bool {
	if d.asked.IsZero() == d.inForce.IsZero() && d.asked.Sub(d.inForce).Abs() < slack {
		return false
	}
	d.inForce = d.asked
	return true
}

func (c *guest) Read(p []byte) (int, error) {
	if !c.plain && c.read.due(c.gate.slack) {
		if err := c.Conn.SetReadDeadline(c.read.asked); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

func (c *guest) Write(p []byte) (int, error) {
	if !c.plain && c.write.due(c.gate.slack) {
		if err := c.Conn.SetWriteDeadline(c.write.asked); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

func (c *guest) SetReadDeadline(t time.Time) error {
	if c.plain {
		return c.Conn.SetReadDeadline(t)
	}
	c.read.asked = t
	return nil
}

func (c *guest) SetWriteDeadline(t time.Time) error {
	if c.plain {
		return c.Conn.SetWriteDeadline(t)
	}
	c.write.asked = t
	return nil
}

func (c *guest) SetDeadline(t time.Time) error {
	c.plain = true
	return c.Conn.SetDeadline(t)
}

// Close may be called more than once, by the server and by its shutdown.
func (c *guest) Close() error {
	if c.left.CompareAndSwap(false, true) {
		c.gate.leave(c.from)
	}
	return c.Conn.Close()
}

// origin is what counts as one address: an IPv4 address, or the /64 that one IPv6 host has to
// itself. What is no IP address has none.
func origin(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.WithZone("").Prefix(bits)
	return prefix
}
