package server

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/valyala/fasthttp"
)

// Protects the address by which limits count: nobody chooses his own, whatever he writes, and
// behind a trusted proxy each shopper has his.
func TestForwarded(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		peer    string
		headers []string
		want    string
	}{
		{"203.0.113.7", nil, "203.0.113.7/32"},
		{"203.0.113.7", []string{"198.51.100.1"}, "203.0.113.7/32"}, // not from a proxy
		{"10.0.0.1", nil, "10.0.0.1/32"},
		{"10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1/32"},
		{"10.0.0.1", []string{"1.2.3.4, 198.51.100.1"}, "198.51.100.1/32"},               // the client wrote the first
		{"10.0.0.1", []string{"1.2.3.4", "198.51.100.1"}, "198.51.100.1/32"},             // in two lines
		{"10.0.0.1", []string{"1.2.3.4, 198.51.100.1, 10.9.9.9"}, "198.51.100.1/32"},     // two proxies
		{"10.0.0.1", []string{"198.51.100.1:4711"}, "198.51.100.1/32"},                   // with its port
		{"10.0.0.1", []string{"[2001:db8:1:2:3::4]:5"}, "2001:db8:1:2::/64"},             // a /64 is one host
		{"10.0.0.1", []string{"::ffff:198.51.100.1"}, "198.51.100.1/32"},                 // IPv4 in IPv6
		{"10.0.0.1", []string{"1.2.3.4, unknown"}, "10.0.0.1/32"},                        // the proxy does not tell
		{"10.0.0.1", []string{"1.2.3.4, "}, "10.0.0.1/32"},                               // nor here
		{"10.0.0.1", []string{"10.0.0.2, 10.0.0.3"}, "10.0.0.2/32"},                      // one of our own
		{"fd00::1", []string{"198.51.100.1"}, "198.51.100.1/32"},                         // a proxy with IPv6
		{"10.0.0.1", []string{strings.Repeat(",", 4000)}, "10.0.0.1/32"},                 // rubbish
		{"10.0.0.1", []string{"fe80::1%eth0, 2001:db8::1%eth0"}, "2001:db8::/64"},        // a zone is no address
		{"10.0.0.1", []string{"1.2.3.4,198.51.100.1 "}, "198.51.100.1/32"},               // blanks or none
		{"10.0.0.1", []string{"198.51.100.1, 10.0.0.5, bogus, 10.0.0.6"}, "10.0.0.6/32"}, // broken in between
	} {
		var header fasthttp.RequestHeader
		for _, line := range c.headers {
			header.Add("X-Forwarded-For", line)
		}
		if got := prefixOf(forwarded(netip.MustParseAddr(c.peer), trusted, &header)).String(); got != c.want {
			t.Errorf("%s %q: got %s, want %s", c.peer, c.headers, got, c.want)
		}
	}
}

// Protects shoppers behind one balancer from being one address, and the count from who goes round
// it: with the PROXY protocol each connection counts for the client that it names.
func TestGate_ProxyProtocol(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config) {
		c.ConnsPerAddrMax = 2
		c.ProxyProtocol, c.TrustedProxies = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	dial := func(header func(io.Writer) error) string {
		t.Helper()
		conn, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(testTimeout))
		if err := header(conn); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "GET /v1/sales HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 4096)
		n, _ := conn.Read(answer)
		return string(answer[:min(n, 12)])
	}
	from := func(version byte, client string) func(io.Writer) error {
		return func(w io.Writer) error {
			source := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client))
			_, err := proxyproto.HeaderProxyFromAddrs(version, source, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80}).WriteTo(w)
			return err
		}
	}
	local := func(w io.Writer) error {
		_, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}).WriteTo(w)
		return err
	}
	for range 5 { // many clients, and the proxy's own checks
		if got := dial(local); got != "HTTP/1.1 200" {
			t.Errorf("health check: %q", got)
		}
	}
	for n, want := range []string{"HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 429"} {
		for version := range byte(2) {
			client := "198.51.100." + string('1'+version) + ":1234"
			if got := dial(from(version+1, client)); got != want {
				t.Errorf("connection %d of %s: %q, want %q", n+1, client, got, want)
			}
		}
	}
	if got := dial(from(2, "198.51.100.9:1")); got != "HTTP/1.1 200" {
		t.Errorf("another client: %q", got)
	}
	if got := dial(func(io.Writer) error { return nil }); got != "HTTP/1.1 400" {
		t.Errorf("no header: %q", got)
	}
}

// Protects the limit behind a proxy that speaks HTTP: its connections are everybody's.
func TestGate_TrustedProxy(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config) {
		c.ConnsPerAddrMax, c.TrustedProxies = 1, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	for range 3 {
		conn, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	if status, body := r.request(t, "GET", "/v1/sales"); status != 200 {
		t.Errorf("got %d %s", status, body)
	}
}
