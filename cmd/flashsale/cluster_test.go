package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack"
	"flashsale/internal/devstack/stacktest"
	"flashsale/worker"
)

// clusterFault is what is done to a Redis while a sale runs on it. The nodes are three primaries and
// the replica of each; what is struck is the first primary.
type clusterFault struct {
	name      string
	sentinels bool // a primary that Sentinels watch, with two replicas, instead of a cluster
	strike    func(t *testing.T, stack *devstack.Stack)
}

func clusterFaults() []clusterFault {
	return []clusterFault{
		{name: "kill of a primary", strike: func(_ *testing.T, s *devstack.Stack) { s.Nodes[0].Kill() }},
		{name: "planned failover", strike: func(t *testing.T, s *devstack.Stack) {
			redisCLI(t, s.Nodes[3], "CLUSTER", "FAILOVER")
		}},
		{name: "kill with 1.5 s unreplicated", strike: func(t *testing.T, s *devstack.Stack) {
			loseUnreplicated(t, s.Nodes[0], s.Nodes[3])
		}},
		{name: "restart before the failover", strike: func(t *testing.T, s *devstack.Stack) {
			s.Nodes[0].Kill()
			restart(t, s.Nodes[0])
		}},
		{name: "whole cluster stopped and started", strike: func(t *testing.T, s *devstack.Stack) {
			for _, node := range s.Nodes {
				node.Kill()
			}
			restart(t, s.Nodes...)
		}},
		{name: "reshard of 5,461 slots", strike: func(t *testing.T, s *devstack.Stack) {
			clusterCLI(t, s.Nodes[1], "--cluster", "reshard", hostOf(t, s.Nodes[1]), "--cluster-from", nodeID(t, s.Nodes[0]),
				"--cluster-to", nodeID(t, s.Nodes[1]), "--cluster-slots", "5461", "--cluster-yes")
		}},
		{name: "slot move interrupted half-way", strike: func(t *testing.T, s *devstack.Stack) {
			slot := strconv.Itoa(slotOf(t, s.Nodes[0], engine.OrdersKey(clusterPartition(t, s))))
			redisCLI(t, s.Nodes[1], "CLUSTER", "SETSLOT", slot, "IMPORTING", nodeID(t, s.Nodes[0]))
			redisCLI(t, s.Nodes[0], "CLUSTER", "SETSLOT", slot, "MIGRATING", nodeID(t, s.Nodes[1]))
			host, port, _ := strings.Cut(hostOf(t, s.Nodes[1]), ":")
			keys := strings.Fields(clusterCLI(t, s.Nodes[0], "CLUSTER", "GETKEYSINSLOT", slot, "2"))
			redisCLI(t, s.Nodes[0], append([]string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}, keys...)...)
			pauseTest(3 * time.Second) // half of the slot is here, half there
			clusterCLI(t, s.Nodes[0], "--cluster", "fix", hostOf(t, s.Nodes[0]))
		}},
		{name: "Sentinel failover with both replicas behind", sentinels: true, strike: func(t *testing.T, s *devstack.Stack) {
			loseUnreplicated(t, s.Nodes[0], s.Nodes[1:]...)
		}},
	}
}

// clusterFigures are what a fault cost.
type clusterFigures struct {
	name                     string
	awayItsShard, awayOthers time.Duration // longest time without a purchase
	accepted, reached        int           // 202s told, and those of them that the ledger has
	unreplicated             int           // told 202 and lost with Redis before the ledger had them
	confirmedLost            int           // told unpaid, and not in the ledger
	oversold                 int64
	otherOrder               int // keys that were told another order than before
	needPerson               int // items that do not sell in the end
}

// Protects a shop on Redis Cluster or Sentinel: whatever becomes of one of its nodes, every order that
// was confirmed stays, nothing is oversold, a key names the order that it named, and everything sells
// again by itself. `make test-cluster` tries every fault, as often as it is told, and prints the table;
// other runs try none, because each takes half a minute.
func TestCluster_Faults(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv("FLASHSALE_CLUSTER_ROUNDS"))
	var table []clusterFigures
	for _, fault := range clusterFaults() {
		for range rounds {
			t.Run(fault.name, func(t *testing.T) { table = append(table, tryClusterFault(t, fault)) })
		}
	}
	t.Log(printClusterFigures(table))
}

func printClusterFigures(table []clusterFigures) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nfault\taway, its shard\taway, others\t202\treached\tlost with Redis\tconfirmed lost\toversold\tother order\tneed a person")
	for _, f := range table {
		fmt.Fprintf(w, "%s\t%.1f s\t%.1f s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", f.name, f.awayItsShard.Seconds(), f.awayOthers.Seconds(),
			f.accepted, f.reached, f.unreplicated, f.confirmedLost, f.oversold, f.otherOrder, f.needPerson)
	}
	_ = w.Flush()
	return text.String()
}

const (
	clusterItems    = 12
	clusterStock    = 400
	clusterShoppers = 30
	clusterBefore   = 3 * time.Second // of sale before the fault
	clusterAfter    = 12 * time.Second
)

func tryClusterFault(t *testing.T, fault clusterFault) (f clusterFigures) {
	f.name = fault.name
	start := stacktest.NewCluster
	if fault.sentinels {
		start = stacktest.NewSentinels
	}
	stack := start(t)
	i := newInstallationOn(t, stack.RedisURL())
	items := i.sellMany(clusterItems, clusterStock)
	servers := []*process{i.serve(), i.serve()}
	i.work("w1")
	i.work("w2")
	struck := make(map[flashsale.ItemID]bool)
	for _, item := range items {
		struck[item] = fault.sentinels || slotOf(t, stack.Nodes[0], engine.ItemKey(i.partition(item), item)) < 16384/3
	}

	l := &clusterLoad{i: i, servers: servers, items: items, stop: make(chan struct{})}
	l.start(t)
	pauseTest(clusterBefore)
	fault.strike(t, stack)
	pauseTest(clusterAfter)
	close(l.stop)
	l.running.Wait()

	i.auditClean()
	l.judge(t, &f, struck)
	if f.confirmedLost+f.otherOrder+f.needPerson > 0 || f.oversold > 0 || f.accepted < 300 {
		t.Errorf("%s", printClusterFigures([]clusterFigures{f}))
	}
	return f
}

// pauseTest lets a sale go on: what a fault costs is measured in time.
func pauseTest(d time.Duration) { <-time.After(d) }

// clusterLoad is shoppers who buy one order after the other, each with a key of its own, and insist.
type clusterLoad struct {
	i       *installation
	servers []*process
	items   []flashsale.ItemID
	stop    chan struct{}
	running sync.WaitGroup

	mu        sync.Mutex // guards what follows
	purchases []clusterPurchase
}

type clusterPurchase struct {
	item      flashsale.ItemID
	token     string
	key       string
	order     string
	confirmed bool
	at        time.Time
}

func (l *clusterLoad) start(t *testing.T) {
	t.Helper()
	tokens := l.i.tokens("crowd", clusterShoppers*200)
	for n := range clusterShoppers {
		mine := tokens[n*200 : (n+1)*200]
		l.running.Go(func() {
			for k, token := range mine {
				select {
				case <-l.stop:
					return
				case <-time.After(150 * time.Millisecond):
				}
				l.buy(t.Context(), n+k, token)
			}
		})
	}
}

// buy insists on one order, and then asks whether it is confirmed.
func (l *clusterLoad) buy(ctx context.Context, n int, token string) {
	p := clusterPurchase{item: l.items[n%len(l.items)], token: token, key: "key-" + strconv.Itoa(n) + token[:8]}
	base := func(k int) string { return l.servers[k%len(l.servers)].base }
	for try := 0; p.order == ""; try++ {
		if try > 0 {
			select {
			case <-l.stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
		r, err := call(ctx, http.MethodPost, fmt.Sprintf("%s/v1/items/%s/orders", base(n+try), p.item), token,
			map[string]string{"Idempotency-Key": p.key}, "")
		if err == nil && r.status == http.StatusAccepted {
			p.order, p.at = r.OrderNo, time.Now()
		}
	}
	r, err := call(ctx, http.MethodGet, fmt.Sprintf("%s/v1/orders/%s?item=%s&wait=2s&status=pending", base(n+1), p.order, p.item), token, nil, "")
	p.confirmed = err == nil && r.status == http.StatusOK && strings.Contains(r.text, `"unpaid"`)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.purchases = append(l.purchases, p)
}

// judge compares what the shoppers were told with what has become of it.
func (l *clusterLoad) judge(t *testing.T, f *clusterFigures, struck map[flashsale.ItemID]bool) {
	t.Helper()
	slices.SortFunc(l.purchases, func(a, b clusterPurchase) int { return a.at.Compare(b.at) })
	var last [2]time.Time
	for _, p := range l.purchases {
		away, n := &f.awayOthers, 0
		if struck[p.item] {
			away, n = &f.awayItsShard, 1
		}
		if !last[n].IsZero() {
			*away = max(*away, p.at.Sub(last[n]))
		}
		last[n] = p.at
	}
	f.accepted = len(l.purchases)
	r := l.i.rooms()
	defer r.close()
	for _, p := range l.purchases {
		no, err := flashsale.ParseID[flashsale.OrderNo](p.order)
		if err != nil {
			t.Fatal(err)
		}
		order, err := r.ledger.Order(t.Context(), no)
		switch {
		case err == nil && order.Status.Live():
			f.reached++
		case p.confirmed:
			f.confirmedLost++
		default:
			f.unreplicated++ // it was pending: nobody was promised it
			continue
		}
		again, err := call(t.Context(), http.MethodPost, fmt.Sprintf("%s/v1/items/%s/orders", l.servers[0].base, p.item), p.token,
			map[string]string{"Idempotency-Key": p.key}, "")
		if err != nil || again.OrderNo != p.order {
			f.otherOrder++
		}
	}
	report, err := r.audit(t.Context(), worker.AuditScope{})
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range report.Items {
		f.oversold += max(0, -item.Gap)
	}
	for n, item := range l.items {
		token := l.i.tokens("last"+strconv.Itoa(n), 1)[0]
		answer, err := insist(t.Context(), func() []string { return []string{l.servers[0].base} }, item, token, "last")
		if err != nil || answer.status != http.StatusAccepted && answer.Code != "sold_out" {
			f.needPerson++
		}
	}
}

// sellMany puts items on sale, whose ids follow each other and so lie in as many partitions.
func (i *installation) sellMany(count, stock int) (ids []flashsale.ItemID) {
	i.t.Helper()
	args := []string{"sale", "create", "--name", "many", "--preheat"}
	for n := range count {
		args = append(args, "--item", fmt.Sprintf("product=thing %d-%d,price_fen=100,stock=%d", n, time.Now().UnixNano(), stock))
	}
	i.command(exitOK, args...)
	r := i.rooms()
	defer r.close()
	sales, err := r.ledger.Sales(i.t.Context(), flashsale.SalesQuery{Limit: 1, Items: 100})
	if err != nil || len(sales) == 0 {
		i.t.Fatal(err)
	}
	for _, item := range sales[0].Items {
		ids = append(ids, item.ID)
	}
	return ids
}

// partition is where an item lives.
func (i *installation) partition(item flashsale.ItemID) int {
	i.t.Helper()
	r := i.rooms()
	defer r.close()
	return r.engine.Partition(item)
}

func restart(t *testing.T, servers ...*devstack.Server) {
	t.Helper()
	for _, server := range servers {
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// loseUnreplicated kills a primary whose replicas have heard nothing for a while.
func loseUnreplicated(t *testing.T, primary *devstack.Server, replicas ...*devstack.Server) {
	t.Helper()
	for _, replica := range replicas {
		if err := replica.Pause(); err != nil {
			t.Fatal(err)
		}
	}
	pauseTest(1500 * time.Millisecond)
	primary.Kill()
	for _, replica := range replicas {
		if err := replica.Continue(); err != nil {
			t.Fatal(err)
		}
	}
}

func hostOf(t *testing.T, server *devstack.Server) string {
	t.Helper()
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// clusterCLI runs redis-cli on a node and returns what it printed.
func clusterCLI(t *testing.T, server *devstack.Server, args ...string) string {
	t.Helper()
	_, port, _ := strings.Cut(hostOf(t, server), ":")
	out, err := exec.CommandContext(t.Context(), "redis-cli", append([]string{"-p", port}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func nodeID(t *testing.T, server *devstack.Server) string {
	return clusterCLI(t, server, "CLUSTER", "MYID")
}

func slotOf(t *testing.T, server *devstack.Server, key string) int {
	t.Helper()
	slot, err := strconv.Atoi(clusterCLI(t, server, "CLUSTER", "KEYSLOT", key))
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// clusterPartition is a partition of the first primary that holds orders.
func clusterPartition(t *testing.T, s *devstack.Stack) int {
	t.Helper()
	for p := range 64 {
		if slotOf(t, s.Nodes[0], engine.OrdersKey(p)) < 16384/3 {
			return p
		}
	}
	t.Fatal("no partition lies on the first primary")
	return 0
}
