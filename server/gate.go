package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/valyala/fasthttp"
)

// turnAwayTimeout bounds the answer to a connection that is turned away. It fits into the
// empty buffer of a new connection, so it is not expected to wait at all.
const turnAwayTimeout = 50 * time.Millisecond

// gate is a listener that bounds the open connections, in all and of one address. It stands
// in for Server.MaxConnsPerIP of fasthttp, which knows IPv4 only and uses a connection again
// while a shutdown is still closing it.
//
// The connections of a trusted proxy are everybody's: they count in all only, unless the proxy
// says with the PROXY protocol whose each is.
type gate struct {
	net.Listener
	config Config
	opened time.Time     // when the gate's clock was zero
	slack  time.Duration // of deadlines

	mu     sync.Mutex // guards what follows, and from and left of the guests
	turned uint64     // connections turned away; numbers their ids down, away from those of requests
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
		c, addr := &guest{Conn: conn, gate: g}, addrOf(conn.RemoteAddr())
		var from netip.Prefix
		switch {
		case !contains(g.config.TrustedProxies, addr):
			from = prefixOf(addr)
		case g.config.ProxyProtocol:
			c.stage = stageProxy
		}
		p := g.enter(c)
		if p == nil {
			if p = g.count(c, from); p == nil {
				return c, nil
			}
		}
		g.turnAway(conn, p)
		_ = c.Close()
	}
}

// turnAway says why a connection is not served.
func (g *gate) turnAway(conn net.Conn, p *problem) {
	g.mu.Lock()
	g.turned++
	number := ^g.turned
	g.mu.Unlock()
	_ = conn.SetWriteDeadline(time.Now().Add(turnAwayTimeout))
	id := appendRequestID(nil, number)
	body := p.complete(id)
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: %s\r\nRetry-After: %s\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s",
		p.status, fasthttp.StatusMessage(p.status), typeProblem, p.retryAfter,
		headerRequestID, id, len(body), body)
}

// enter counts a connection among all.
func (g *gate) enter(c *guest) *problem {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open >= g.config.ConnsMax {
		c.left = true
		return problemOverloaded
	}
	g.open++
	return nil
}

// count counts a connection among those of an address, if it has one.
func (g *gate) count(c *guest, from netip.Prefix) *problem {
	if !from.IsValid() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byAddr[from] >= g.config.ConnsPerAddrMax {
		return problemTooManyConns
	}
	if !c.left {
		c.from = from
		g.byAddr[from]++
	}
	return nil
}

func (g *gate) leave(c *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.left {
		return
	}
	c.left = true
	g.open--
	if !c.from.IsValid() {
		return
	}
	if g.byAddr[c.from]--; g.byAddr[c.from] == 0 {
		delete(g.byAddr, c.from)
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
	from        netip.Prefix // what counts it; invalid: nothing but all
	left        bool
	peer        net.Addr      // whom a proxy speaks for; nil: the peer of the connection
	head        *bufio.Reader // what was read beyond the proxy's header; nil: nothing
	taken       bool
	stage       stage
	answered    time.Duration // gate clock
	read, write time.Duration // deadlines in force, gate clock; 0: none
}

// stage is what the next read waits for.
type stage int

const (
	stageNew   stage = iota // the first request
	stageProxy              // the header in which a proxy says whose connection it is, then that
	stageIdle               // another request
	stageSome               // the rest of a request
	stageRest               // more of that: its time is running
)

// RemoteAddr is the address of the client, as far as the connection tells.
func (c *guest) RemoteAddr() net.Addr {
	if c.peer != nil {
		return c.peer
	}
	return c.Conn.RemoteAddr()
}

// meet reads the header of the PROXY protocol.
func (c *guest) meet() error {
	c.head = bufio.NewReaderSize(c.Conn, proxyHeaderMax)
	header, err := proxyproto.Read(c.head)
	if err != nil {
		return fmt.Errorf("read PROXY header of %s: %w", c.Conn.RemoteAddr(), err)
	}
	if header.Command.IsLocal() || !header.TransportProtocol.IsStream() {
		return nil // a health check of the proxy's own
	}
	c.peer = header.SourceAddr
	if p := c.gate.count(c, prefixOf(addrOf(c.peer))); p != nil {
		c.gate.turnAway(c.Conn, p)
		return io.EOF // which ends it without a word
	}
	return nil
}

// proxyHeaderMax is what the header of the PROXY protocol takes, with the details that proxies add.
const proxyHeaderMax = 1 << 10

func (c *guest) Read(p []byte) (int, error) {
	if c.taken {
		return c.Conn.Read(p)
	}
	if err := c.limitRead(); err != nil {
		return 0, err
	}
	if c.stage == stageProxy {
		if err := c.meet(); err != nil {
			return 0, err
		}
		c.stage = stageNew
	}
	if c.head != nil {
		if c.head.Buffered() > 0 {
			c.stage = stageSome
			return c.head.Read(p)
		}
		c.head = nil
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
	case stageNew, stageProxy:
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
	c.gate.leave(c)
	return c.Conn.Close()
}
