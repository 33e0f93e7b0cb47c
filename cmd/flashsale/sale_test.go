package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flashsale"
)

// crowd has n shoppers buy one unit each, twice, through the given nodes, and checks every
// answer: the winners hold one order each, their second try names it, the losers know it.
func crowd(t *testing.T, i *installation, item flashsale.ItemID, n int, bases func() []string) (sold int) {
	t.Helper()
	tokens := i.tokens("crowd", n)
	orders := make([]string, n)
	var winners atomic.Int64
	err := parallel(n, n, func(k int) error {
		first, err := insist(t.Context(), bases, item, tokens[k], "first")
		if err != nil {
			return fmt.Errorf("shopper %d: %w", k, err)
		}
		second, err := insist(t.Context(), bases, item, tokens[k], "second")
		if err != nil {
			return fmt.Errorf("shopper %d: %w", k, err)
		}
		switch {
		case first.status == http.StatusAccepted:
			winners.Add(1)
			orders[k] = first.OrderNo
			if second.Code != "duplicate_order" || second.OrderNo != first.OrderNo {
				return fmt.Errorf("shopper %d holds %s, and was told %s", k, first.OrderNo, second.text)
			}
		case first.Code == "sold_out" && second.Code == "sold_out":
		default:
			return fmt.Errorf("shopper %d was told %s, then %s", k, first.text, second.text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, order := range orders {
		if order != "" && seen[order] {
			t.Fatalf("order %s was given to two shoppers", order)
		}
		seen[order] = true
	}
	return int(winners.Load())
}

// persisted fails unless the ledger holds so many live units of the item, each of another user.
func persisted(t *testing.T, i *installation, item flashsale.ItemID, want int) {
	t.Helper()
	r := i.rooms()
	defer r.close()
	if err := r.holds(t.Context(), item, want); err != nil {
		t.Fatal(err)
	}
}

// holds tells what is wrong unless so many units of an item are in live orders, within the limit.
func (r *rooms) holds(ctx context.Context, item flashsale.ItemID, want int) error {
	figures, err := r.ledger.Figures(ctx)
	if err != nil {
		return err
	}
	for _, f := range figures.Items {
		if f.ID != item {
			continue
		}
		if f.LiveUnits != int64(want) || f.UsersOverLimit != 0 {
			return fmt.Errorf("item %d: %d units in live orders, want %d; %d users over the limit", item, f.LiveUnits, want, f.UsersOverLimit)
		}
		return nil
	}
	return fmt.Errorf("item %d is not in the ledger", item)
}

// Protects the mission on more than one node: two servers and two workers on one Redis and one
// PostgreSQL sell exactly the stock, one each, and every shopper is told the truth.
func TestSale_TwoServersTwoWorkers(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	item := i.sell(100, "")
	a, b := i.serve(), i.serve()
	i.work("a")
	i.work("b")
	bases := func() []string {
		if rand.IntN(2) == 0 {
			return []string{a.base, b.base}
		}
		return []string{b.base, a.base}
	}
	if sold := crowd(t, i, item, 2000, bases); sold != 100 {
		t.Fatalf("%d sold, want 100", sold)
	}
	i.auditClean()
	persisted(t, i, item, 100)
}

// Protects the sold-out flags across nodes: a cancellation through one node lets the other
// sell again, although its flag said sold out a moment before.
func TestSale_ReleaseReachesTheOtherNode(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	item := i.sell(1, "")
	a, b := i.serve(), i.serve()
	i.work("a")
	on := func(p *process) func() []string { return func() []string { return []string{p.base} } }
	tokens := i.tokens("pair", 2)
	won, err := insist(t.Context(), on(a), item, tokens[0], "1")
	if err != nil || won.status != http.StatusAccepted {
		t.Fatalf("first shopper: %s %v", won.text, err)
	}
	for _, node := range []*process{a, b} { // raise the flags of both
		if lost, err := insist(t.Context(), on(node), item, tokens[1], "2"); err != nil || lost.Code != "sold_out" {
			t.Fatalf("second shopper: %s %v", lost.text, err)
		}
	}
	waitStatus(t, a, tokens[0], won.OrderNo, "unpaid")
	cancelled, err := call(t.Context(), http.MethodDelete, a.base+"/v1/orders/"+won.OrderNo, tokens[0], nil, "")
	if err != nil || cancelled.status != http.StatusOK {
		t.Fatalf("cancel: %d %s %v", cancelled.status, cancelled.text, err)
	}
	deadline := time.Now().Add(patience)
	for {
		again, err := insist(t.Context(), on(b), item, tokens[1], "3")
		if err != nil {
			t.Fatal(err)
		}
		if again.status == http.StatusAccepted {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the other node still says %s", again.text)
		}
	}
	i.auditClean()
	persisted(t, i, item, 1)
}

// waitStatus follows an order by long poll until it has the status.
func waitStatus(t *testing.T, p *process, token, order, want string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		r, err := call(t.Context(), http.MethodGet, p.base+"/v1/orders/"+order+"?wait=1s", token, nil, "")
		if err == nil && r.status == http.StatusOK && strings.Contains(r.text, `"status":"`+want+`"`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("order %s is %d %s %v, want %s", order, r.status, r.text, err, want)
		}
	}
}

// Protects accepted orders from crashes: servers and workers are killed with SIGKILL at random
// moments of a sale and started again; no order that Redis kept is lost, none is doubled.
// The seed is printed; FLASHSALE_SEED replays it.
func TestSale_KilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FLASHSALE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("FLASHSALE_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	i := newInstallation(t)
	item := i.sell(300, "")
	var mu sync.Mutex // guards servers
	servers := []*process{i.serve(), i.serve()}
	worker := i.work("w")
	bases := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return []string{servers[0].base, servers[1].base}
	}
	done := make(chan struct{})
	killed := make(chan int, 1)
	go func() {
		kills := 0
		defer func() { killed <- kills }()
		for {
			timer := time.NewTimer(time.Duration(50+random.IntN(200)) * time.Millisecond)
			select {
			case <-done:
				timer.Stop()
				return
			case <-timer.C:
			}
			kills++
			if n := random.IntN(3); n < 2 {
				servers[n].kill()
				fresh := i.serve()
				mu.Lock()
				servers[n] = fresh
				mu.Unlock()
			} else {
				worker.kill()
				worker = i.work("w")
			}
		}
	}()
	sold := crowd(t, i, item, 1000, bases)
	close(done)
	t.Logf("%d kills", <-killed)
	if sold != 300 {
		t.Fatalf("%d sold, want 300", sold)
	}
	i.auditClean()
	persisted(t, i, item, 300)
}

// Protects the shutdown order: under load SIGTERM loses no answer and no accepted order, and
// the process ends with success.
func TestSale_SIGTERMUnderLoad(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	item := i.sell(1_000_000, "")
	a, b := i.serve(), i.serve()
	worker := i.work("w")
	tokens := i.tokens("load", 4000)
	var accepted, cut atomic.Int64
	stopAt := int64(500)
	stopping := make(chan struct{})
	var once sync.Once
	go func() {
		<-stopping
		a.stop()
	}()
	err := parallel(len(tokens), 64, func(k int) error {
		base := a.base
		if k%2 == 1 {
			base = b.base
		}
		r, err := call(t.Context(), http.MethodPost, fmt.Sprintf("%s/v1/items/%s/orders", base, item), tokens[k], nil, "")
		if err != nil { // refused: the node is gone, and the shopper was not served
			cut.Add(1)
			return nil //nolint:nilerr // that is what is counted
		}
		if r.status == http.StatusAccepted && accepted.Add(1) == stopAt {
			once.Do(func() { close(stopping) })
		}
		if r.status >= http.StatusInternalServerError && r.status != http.StatusServiceUnavailable {
			return fmt.Errorf("answer %d %s", r.status, r.text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-a.exited
	b.stop()
	worker.stop()
	// Whoever was told 202 is in the ledger; a request that was cut off may be, too.
	i.work("w")
	i.auditClean()
	r := i.rooms()
	defer r.close()
	figures, err := r.ledger.Figures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	live := figures.Items[len(figures.Items)-1].LiveUnits
	t.Logf("%d accepted, %d cut off, %d persisted", accepted.Load(), cut.Load(), live)
	if live < accepted.Load() || live > accepted.Load()+cut.Load() {
		t.Fatalf("%d accepted, %d cut off, but %d persisted", accepted.Load(), cut.Load(), live)
	}
}
