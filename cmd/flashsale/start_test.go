package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"flashsale/internal/devstack"
	"flashsale/internal/devstack/stacktest"
)

// Protects a start after a power cut: whichever store is away, servers and workers wait for it,
// say so, and start when it is up; and a hang-up of the terminal is nothing to them.
func TestStart_WaitsForStores(t *testing.T) {
	t.Parallel()
	redis, postgres := stacktest.NewRedis(t), stacktest.NewPostgres(t)
	i := newInstallationOver(t, redis.URL(), postgres.URL())
	for name, store := range map[string]*devstack.Server{"redis": redis, "postgres": postgres} {
		store.Kill()
		bounded := i.try([]string{"START_TIMEOUT=300ms"}, "serve")
		if bounded.code != exitFailed || !strings.Contains(bounded.faults, "not started within START_TIMEOUT 300ms: ") {
			t.Errorf("without %s: %+v", name, bounded)
		}
		processes := []*process{i.launch("serving", "serve"), i.launch("working", "work")}
		for _, p := range processes {
			stacktest.Eventually(t, patience, func() error {
				if !strings.Contains(p.log(), "waiting for a store to come up") {
					return fmt.Errorf("%q does not say that it waits for %s:\n%s", p.cmd.Args, name, p.log())
				}
				return nil
			})
		}
		if err := store.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, p := range processes {
			p.await()
			_ = p.cmd.Process.Signal(syscall.SIGHUP)
			if r := (ask{method: "GET", url: p.ops + "/healthz"}).send(t); r.status != http.StatusOK {
				t.Errorf("%q after SIGHUP: %d", p.cmd.Args, r.status)
			}
			p.stop()
		}
	}
}

// Protects a server from its own success: with fewer descriptors than connections it says so,
// keeps what its stores need, turns away the others and goes on.
func TestServe_FewFiles(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	i.wrap = []string{"sh", "-c", `ulimit -n 48; exec "$0" "$@"`}
	p := i.serve()
	for _, about := range []string{"fewer connections are served than CONNS_MAX", `"open_files":48`} {
		if !strings.Contains(p.log(), about) {
			t.Errorf("it does not say %s:\n%s", about, p.log())
		}
	}
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	for range 30 { // of each listener; those of operators take all that is left
		for _, base := range []string{p.base, p.ops} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
	}
	stacktest.Eventually(t, patience, func() error {
		if n := strings.Count(p.log(), "cannot accept connections"); n == 0 {
			return errors.New("not short of files")
		}
		return nil
	})
	for _, conn := range conns {
		conn.Close()
	}
	for _, url := range []string{p.base + "/v1/sales", p.ops + "/readyz"} {
		stacktest.Eventually(t, patience, func() error {
			if r := (ask{method: "GET", url: url}).send(t); r.status != http.StatusOK {
				return fmt.Errorf("%s: %d %s", url, r.status, r.body)
			}
			return nil
		})
	}
	if n := strings.Count(p.log(), "cannot accept connections"); n > 2 { // once a listener
		t.Errorf("said %d times", n)
	}
	p.stop()
}

// Protects shoppers during an upgrade: two servers are restarted one after the other, under load,
// behind HAProxy and for clients that look at readiness themselves; nobody is refused and no
// request breaks.
func TestServe_RollingRestart(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	i.env = append(i.env, "DRAIN=1s", "TRUSTED_PROXIES=127.0.0.0/8")
	item := i.sell(1_000_000, "limit=1000")
	type node struct {
		addr, ops string
		*process
	}
	nodes := make([]*node, 2)
	start := func(n *node) {
		n.process = i.start("serving", "serve", "--addr", n.addr, "--ops-addr", n.ops)
	}
	config := "defaults\n mode http\n timeout connect 1s\n timeout client 30s\n timeout server 30s\n" +
		" timeout check 10s\n retries 0\n option httpchk GET /readyz\n option forwardfor\n stats uri /balancer\n"
	front := stacktest.FreeAddr(t)
	config += "listen shop\n bind " + front + "\n default-server check inter 100ms fall 2 rise 1\n"
	for k := range nodes {
		nodes[k] = &node{addr: stacktest.FreeAddr(t), ops: stacktest.FreeAddr(t)}
		start(nodes[k])
		config += fmt.Sprintf(" server s%d %s port %s\n", k, nodes[k].addr, nodes[k].ops[strings.LastIndexByte(nodes[k].ops, ':')+1:])
	}
	haproxy(t, config, front)

	tokens := i.tokens("roll", 16)
	ready := func() []string { // as a balancer of the client's own sees it
		var bases []string
		for _, n := range nodes {
			if r, err := call(t.Context(), http.MethodGet, "http://"+n.ops+"/readyz", "", nil, ""); err == nil && r.status == http.StatusOK {
				bases = append(bases, "http://"+n.addr)
			}
		}
		return bases
	}
	var direct atomic.Value
	direct.Store(ready())
	var asked atomic.Int64
	var load, watch sync.WaitGroup
	done, watched := make(chan struct{}), make(chan struct{})
	watch.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-watched:
				return
			case <-ticker.C:
				if bases := ready(); len(bases) > 0 {
					direct.Store(bases)
				}
			}
		}
	})
	client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: len(tokens)}}
	for k, token := range tokens {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				base := "http://" + front
				if k%2 == 1 {
					bases := direct.Load().([]string)
					base = bases[n%len(bases)]
				}
				method, path := http.MethodPost, fmt.Sprintf("/v1/items/%s/orders", item)
				if n%4 != 0 {
					method, path = http.MethodGet, "/v1/me"
				}
				request, err := http.NewRequestWithContext(t.Context(), method, base+path, http.NoBody)
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("Token", token)
				answer, err := client.Do(request)
				if err != nil {
					t.Errorf("%s %s%s: %v", method, base, path, err)
					continue
				}
				body, _ := io.ReadAll(answer.Body)
				answer.Body.Close()
				if answer.StatusCode >= http.StatusInternalServerError {
					t.Errorf("%s %s%s: %d %s", method, base, path, answer.StatusCode, body)
				}
				asked.Add(1)
			}
		})
	}
	for range 2 {
		for _, n := range nodes {
			before := asked.Load()
			n.stop()
			start(n)
			stacktest.Eventually(t, patience, func() error {
				seen, err := call(t.Context(), http.MethodGet, "http://"+front+"/balancer;csv", "", nil, "")
				if up := strings.Count(seen.text, ",UP,"); // and the two together
				err != nil || up <= len(nodes) || asked.Load() < before+500 {
					return fmt.Errorf("%d servers are up: %w", up, err)
				}
				return nil
			})
		}
	}
	close(done)
	load.Wait()
	close(watched)
	watch.Wait()
	t.Logf("%d requests over 4 restarts", asked.Load())
}

// haproxy runs a HAProxy until the end of the test.
func haproxy(t *testing.T, config, front string) {
	t.Helper()
	path := writeFile(t, "haproxy.cfg", config)
	if out, err := exec.Command("/usr/sbin/haproxy", "-c", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, config)
	}
	stacktest.Tool(t, func() error {
		r, err := call(t.Context(), http.MethodGet, "http://"+front+"/v1/sales", "", nil, "")
		if err == nil && r.status != http.StatusOK {
			err = fmt.Errorf("answers %d", r.status)
		}
		return err
	}, "haproxy", "-db", "-f", path)
}
