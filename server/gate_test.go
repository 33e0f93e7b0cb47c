package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"flashsale/internal/devstack/stacktest"
)

// Protects the node from too many connections, and one address from taking all of them; a
// connection that closes makes room.
func TestGate(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"429 too_many_connections": func(c *Config) { c.ConnsPerAddrMax = 2 },
		"503 overloaded":           func(c *Config) { c.ConnsMax = 2 },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			r := start(t, change)
			var conns []net.Conn
			for range 2 {
				conn, err := net.Dial("tcp", r.Addr())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				conns = append(conns, conn)
			}
			third, err := net.Dial("tcp", r.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer third.Close()
			_ = third.SetDeadline(time.Now().Add(testTimeout))
			answer := make([]byte, 1024)
			n, _ := third.Read(answer)
			status, kind, _ := strings.Cut(want, " ")
			if got := string(answer[:n]); !strings.HasPrefix(got, "HTTP/1.1 "+status) || !strings.Contains(got, `"code":"`+kind+`"`) ||
				!strings.Contains(got, "Retry-After: ") || !strings.Contains(got, "X-Request-Id: ") {
				t.Errorf("got %q", got)
			}
			conns[0].Close()
			stacktest.Eventually(t, testTimeout, func() error {
				if n := r.public.GetOpenConnectionsCount(); n > 1 {
					return fmt.Errorf("%d connections", n)
				}
				return nil
			})
			if status, body := r.request(t, "GET", "/v1/sales"); status != 200 {
				t.Errorf("after one left: %d %s", status, body)
			}
		})
	}
}

// Protects the notion of one address.
func TestOrigin(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"10.1.2.3:4": "10.1.2.3/32", "[::ffff:10.1.2.3]:4": "10.1.2.3/32", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64",
		"[fe80::1%lo]:5": "fe80::/64",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := prefixOf(addrOf(tcp)).String(); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
	if prefixOf(addrOf(&net.UnixAddr{})).IsValid() {
		t.Error(errors.New("a path is no address"))
	}
}

// Protects the timeouts, which guest puts in force by itself: who sends a request too slowly,
// or nothing at all, is cut off, on a new connection and on one that was used before; and who
// keeps asking is not, for longer than any timeout.
func TestGuest_Timeouts(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config) {
		c.ReadTimeout, c.IdleTimeout, c.WriteTimeout = 300*time.Millisecond, 600*time.Millisecond, 300*time.Millisecond
	})
	const whole = "GET /v1/me HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, c := range map[string]struct {
		first, then string
		within      time.Duration
	}{
		"nothing":                 {"", "", 300 * time.Millisecond},
		"half a request":          {"", whole[:20], 300 * time.Millisecond},
		"idle after a request":    {whole, "", 600 * time.Millisecond},
		"half a request, later":   {whole, whole[:20], 300 * time.Millisecond},
		"idle after ten requests": {strings.Repeat(whole, 10), "", 600 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", r.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(testTimeout))
			reader := bufio.NewReader(conn)
			for range strings.Count(c.first, "GET") {
				ask(t, conn, reader, whole)
			}
			began := time.Now()
			if _, err := io.WriteString(conn, c.then); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(reader); err != nil { // until the server closes it
				t.Fatalf("not cut off: %v", err)
			}
			if took := time.Since(began); took < c.within*8/10 {
				t.Errorf("cut off after %s, too early for %s", took, c.within)
			}
		})
	}
	t.Run("keeps asking", func(t *testing.T) {
		t.Parallel()
		conn, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(testTimeout))
		reader := bufio.NewReader(conn)
		for began := time.Now(); time.Since(began) < time.Second; {
			ask(t, conn, reader, whole)
		}
	})
}

// ask sends a request on an open connection and reads the answer.
func ask(t *testing.T, conn net.Conn, reader *bufio.Reader, request string) {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	response.Body.Close()
}
