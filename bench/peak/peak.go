package peak

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Classes that are no server's answer.
const (
	Accepted    = "accepted"    // 202
	Unknown     = "unknown"     // no answer within the timeout
	Broken      = "broken"      // the connection broke, or spoke no HTTP that we read, after sending
	Unconnected = "unconnected" // nothing was sent
)

// pause keeps a loop over a server that is gone from burning a processor.
const pause = 10 * time.Millisecond

// Run plays the schedule. An error means that it could not be played, or was ended by the
// context; what the server did wrong is in the result.
func Run(ctx context.Context, c Config) (*Result, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := &generator{Config: c, schedule: newSchedule(c.Phases)}
	g.giveUp = g.schedule.length + c.Grace
	// The last request is sent before we give up, may have to connect, and then be answered.
	g.tally = newTally(c.Bucket, g.giveUp+3*c.Timeout)
	wires, err := g.connect(ctx)
	defer func() {
		for _, w := range wires {
			w.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	before, err := cpu()
	if err != nil {
		return nil, err
	}
	g.play(ctx, wires)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	after, err := cpu()
	if err != nil {
		return nil, err
	}
	return g.result(after - before), nil
}

// generator is one run.
type generator struct {
	Config
	schedule *schedule
	giveUp   time.Duration // nothing is sent after that
	tally    *tally
	start    time.Time
	next     atomic.Int64 // number of the next request
}

// connect opens all connections, so that nobody's latency pays for it.
func (g *generator) connect(ctx context.Context) ([]*wire, error) {
	servers := make([]*url.URL, len(g.URLs))
	for n, text := range g.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" || u.Hostname() == "" {
			return nil, fmt.Errorf("peak: %q is no URL such as http://127.0.0.1:8080", text)
		}
		servers[n] = u
	}
	wires, faults := make([]*wire, g.Connections), make([]error, g.Connections)
	var dialling sync.WaitGroup
	for n := range wires {
		server := servers[n%len(servers)]
		address := server.Host
		if server.Port() == "" {
			address = net.JoinHostPort(server.Hostname(), "80")
		}
		wires[n] = newWire(address, g.Timeout, newRequest(g.Config, server))
		dialling.Go(func() { faults[n] = wires[n].connect(ctx) })
	}
	dialling.Wait()
	for _, err := range faults {
		if err != nil {
			return wires, fmt.Errorf("peak: %w", err) // one says what all of them have
		}
	}
	return wires, nil
}

// play starts the clock and a goroutine a connection, and waits for all of them.
func (g *generator) play(ctx context.Context, wires []*wire) {
	g.start = time.Now()
	if early := g.Start.Sub(g.start); early > 0 {
		if timer := time.NewTimer(early); !wait(ctx, timer, early) {
			return
		}
		g.start = g.Start
	}
	var running, telling sync.WaitGroup
	over := make(chan struct{})
	telling.Go(func() { g.tell(over) })
	for _, w := range wires {
		running.Go(func() { g.send(ctx, w) })
	}
	running.Wait()
	close(over)
	telling.Wait()
}

// send takes the next request, waits until it is due, exchanges it, and again. Whoever is free
// first takes the next one: so a request that is due while all are busy waits for the first to
// be free, and the queue is a number.
func (g *generator) send(ctx context.Context, w *wire) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for now := time.Since(g.start); ; {
		n := g.next.Add(1) - 1
		due, ok := g.due(n, now)
		if !ok || now > g.giveUp {
			return
		}
		s := sample{due: due, queued: due < now}
		if due > now {
			if !wait(ctx, timer, due-now) {
				return
			}
			now = time.Since(g.start)
		}
		s.sent = now
		got, err := w.exchange(ctx, n, g.start, now)
		if err != nil && ctx.Err() != nil {
			return
		}
		s.done = time.Since(g.start)
		g.record(&s, got, err)
		if s.unsent && !wait(ctx, timer, pause) {
			return
		}
		now = s.done
	}
}

// due is when a request is due: at once in a closed loop, as long as that lasts.
func (g *generator) due(n int64, now time.Duration) (time.Duration, bool) {
	if g.schedule.closed {
		return now, now < g.schedule.length
	}
	return g.schedule.due(n)
}

var (
	accepted    = []byte(Accepted)
	unknown     = []byte(Unknown)
	broken      = []byte(Broken)
	unconnected = []byte(Unconnected)
)

func (g *generator) record(s *sample, got answer, err error) {
	switch {
	case err == nil && string(got.status) == "202":
		s.class = accepted
	case err == nil:
		s.class = got.class()
	case errors.Is(err, errUnconnected):
		s.class, s.unsent = unconnected, true
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.class = unknown
	default:
		s.class = broken
	}
	if err != nil {
		g.tally.blame(err)
	}
	g.tally.record(s)
}

// wait sleeps, and returns false when the context ends.
func wait(ctx context.Context, timer *time.Timer, d time.Duration) bool {
	timer.Reset(d)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// cpu is the processor time that this process has used. It is a generator's own cost as long as
// nothing else happens in the process.
func cpu() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("cpu of the generator: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
