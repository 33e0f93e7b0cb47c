package server

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
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
	config Config
	opened time.Time     // when the gate's clock was zero
	slack  time.Duration // of deadlines
	turned uint64        // connections turned away; numbers their ids down, away from those of requests

	mu     sync.Mutex // guards what follows
	open   int
	byAddr map[netip.Prefix]int
}

func newGate(listener net.Listener, config Config) *gate {
	return &gate{
		Listener: listener, config: config, opened: time.Now(),
		slack:  min(config.ReadTimeout/10, config.WriteTimeout/10, config.IdleTimeout/10, deadlineSlackMax),
		byAddr: make(map[netip.Prefix]int),
	}
}

func (g *gate) clock() time.Duration { return time.Since(g.opened) }

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
		g.turned++
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: %s\r\nRetry-After: %s\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s",
			p.status, fasthttp.StatusMessage(p.status), typeProblem, p.retryAfter,
			headerRequestID, appendRequestID(nil, ^g.turned), len(p.body), p.body)
		_ = conn.Close()
	}
}

func (g *gate) enter(from netip.Prefix) *problem {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.open >= g.config.ConnsMax:
		return problemOverloaded
	case from.IsValid() && g.byAddr[from] >= g.config.ConnsPerAddrMax:
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

// deadlineSlackMax bounds by how much a deadline in force may differ from the one that is due;
// it is a tenth of the shortest timeout.
const deadlineSlackMax = time.Second

// guest is a connection that was let in. It keeps the timeouts, in fasthttp's place: that sets
// three deadlines for each request, each with two looks at the clock and a timer of the runtime,
// although the one of the request before mostly would do. A deadline that differs from the one
// in force by less than a slack is left as it is, and a request that arrives in one piece is
// never waited for.
//
// Whoever takes the connection over from fasthttp says so with SetDeadline, and gets the plain
// behaviour, in which a deadline also ends a read under way.
type guest struct {
	net.Conn
	gate        *gate
	from        netip.Prefix
	left        atomic.Bool
	taken       bool
	stage       stage
	answered    time.Duration // gate clock
	read, write time.Duration // deadlines in force, gate clock; 0: none
}

// stage is what the next read waits for.
type stage int

const (
	stageNew  stage = iota // the first request
	stageIdle              // another request
	stageSome              // the rest of a request
	stageRest              // more of that: its time is running
)

func (c *guest) Read(p []byte) (int, error) {
	if c.taken {
		return c.Conn.Read(p)
	}
	if err := c.limitRead(); err != nil {
		return 0, err
	}
	if c.stage == stageIdle {
		// Others first: meanwhile the next request mostly arrives, and is found by the first read.
		// Without load there are no others.
		runtime.Gosched()
	}
	n, err := c.Conn.Read(p)
	if n > 0 && c.stage < stageSome {
		c.stage = stageSome
	}
	return n, err
}

// limitRead puts the deadline of the next read in force.
func (c *guest) limitRead() error {
	config := &c.gate.config
	switch c.stage {
	case stageNew:
		return c.limit(&c.read, c.gate.clock()+config.ReadTimeout, c.Conn.SetReadDeadline)
	case stageIdle:
		return c.limit(&c.read, c.answered+config.IdleTimeout, c.Conn.SetReadDeadline)
	case stageSome:
		c.stage = stageRest
		return c.limit(&c.read, c.gate.clock()+config.ReadTimeout, c.Conn.SetReadDeadline)
	default:
		return nil
	}
}

func (c *guest) Write(p []byte) (int, error) {
	if c.taken {
		return c.Conn.Write(p)
	}
	c.answered, c.stage = c.gate.clock(), stageIdle
	if err := c.limit(&c.write, c.answered+c.gate.config.WriteTimeout, c.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// limit sets a deadline unless the one in force will do.
func (c *guest) limit(inForce *time.Duration, due time.Duration, set func(time.Time) error) error {
	if *inForce > 0 && (due-*inForce).Abs() < c.gate.slack {
		return nil
	}
	*inForce = due
	return set(c.gate.opened.Add(due))
}

func (c *guest) SetDeadline(t time.Time) error {
	c.taken = true
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
