package peak

import (
	"context"
	"net"
	"testing"
	"time"
)

// soldOut is an answer like the engine's.
const soldOut = "HTTP/1.1 409 Conflict\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n" +
	"Content-Type: application/problem+json\r\nContent-Length: 68\r\n\r\n" +
	`{"status":409,"code":"sold_out","title":"Not enough units are left"}`

// The generator shares the machine with what it measures: a request must cost it no memory,
// from its bytes over the socket to its place in the histograms. It cannot run beside others,
// whose allocations would be counted.
func TestExchange_AllocatesNothing(t *testing.T) {
	g, w := hot(t)
	var n int64
	one := func() {
		if err := g.once(w, &n); err != nil {
			t.Fatal(err)
		}
	}
	one() // makes the class and its histogram
	if got := testing.AllocsPerRun(2000, one); got != 0 {
		t.Errorf("a request allocates %v times", got)
	}
}

func BenchmarkExchange(b *testing.B) {
	g, w := hot(b)
	b.ReportAllocs()
	var n int64
	for b.Loop() {
		if err := g.once(w, &n); err != nil {
			b.Fatal(err)
		}
	}
}

// once is what [generator.send] does for a request.
func (g *generator) once(w *wire, n *int64) error {
	now := time.Since(g.start)
	got, err := w.exchange(context.Background(), *n, g.start, now)
	if err != nil {
		return err
	}
	s := sample{due: now, sent: now, done: time.Since(g.start)}
	g.record(&s, got, nil)
	*n++
	return nil
}

// hot connects a generator to a server that does nothing but answer.
func hot(t testing.TB) (*generator, *wire) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in, out := make([]byte, 4<<10), []byte(soldOut)
		for {
			if _, err := conn.Read(in); err != nil {
				return
			}
			if _, err := conn.Write(out); err != nil {
				return
			}
		}
	}()
	g := &generator{
		Config: Config{
			URLs: []string{"http://" + listener.Addr().String()}, Path: "/v1/items/1/orders",
			Phases: []Phase{{0, time.Minute}}, Connections: 1,
		}.withDefaults(),
		tally: newTally(time.Second, time.Minute), start: time.Now(),
	}
	wires, err := g.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wires[0].close)
	return g, wires[0]
}
