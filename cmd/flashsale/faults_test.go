package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack"
	"flashsale/internal/devstack/stacktest"
	"flashsale/pay"
	"flashsale/server"
	"flashsale/worker"
)

// crashAt tells a process of ours to kill itself at the nth time it comes by a point: "name:n".
const crashAt = "FLASHSALE_TEST_CRASH_AT"

// The points at which a process can die between two steps that cannot be one.
const (
	afterScript  = "after the script, before the reply"
	beforeCommit = "after the read, before the commit"
	afterCommit  = "after the commit, before the ack"
	afterCancel  = "after the cancel's commit, before the release"
	afterRelease = "after the release, before the outbox mark"
	afterFence   = "after a rebuild has fenced the item"
	beforeOpen   = "after a rebuild's commit, before the item opens"
)

// crasher kills its own process with SIGKILL, as a power cut does: nothing is flushed.
type crasher struct {
	point string
	left  atomic.Int64
}

func newCrasher(setting string) *crasher {
	point, times, ok := strings.Cut(setting, ":")
	n, err := strconv.ParseInt(times, 10, 64)
	if !ok || err != nil {
		panic(fmt.Sprintf("%s=%q is not point:n", crashAt, setting))
	}
	c := &crasher{point: point}
	c.left.Store(n)
	return c
}

func (c *crasher) pass(point string) {
	if point == c.point && c.left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
}

func (c *crasher) seams() seams {
	return seams{
		reserver: func(r server.Reserver) server.Reserver { return crashingReserver{r, c} },
		ledger:   func(l worker.Ledger) worker.Ledger { return crashingLedger{l, c} },
		engine:   func(e worker.Engine) worker.Engine { return crashingEngine{e, c} },
		desk:     func(config *pay.Config) { standBetween(config, func(step string) error { c.pass(step); return nil }) },
	}
}

type crashingReserver struct {
	server.Reserver
	crasher *crasher
}

func (r crashingReserver) Reserve(ctx context.Context, req engine.Request) (engine.Reply, error) {
	reply, err := r.Reserver.Reserve(ctx, req)
	if reply.Outcome == flashsale.Accepted {
		r.crasher.pass(afterScript)
	}
	return reply, err
}

type crashingLedger struct {
	worker.Ledger
	crasher *crasher
}

func (l crashingLedger) Persist(ctx context.Context, orders []flashsale.Order) ([]flashsale.Result, error) {
	l.crasher.pass(beforeCommit)
	results, err := l.Ledger.Persist(ctx, orders)
	l.crasher.pass(afterCommit)
	return results, err
}

func (l crashingLedger) CancelDue(ctx context.Context, limit int) ([]flashsale.Result, error) {
	results, err := l.Ledger.CancelDue(ctx, limit)
	if len(results) > 0 {
		l.crasher.pass(afterCancel)
	}
	return results, err
}

func (l crashingLedger) Rebuild(ctx context.Context, id flashsale.ItemID,
	fn func(flashsale.RebuildState) (bool, error),
) error {
	l.crasher.pass(afterFence)
	err := l.Ledger.Rebuild(ctx, id, fn)
	l.crasher.pass(beforeOpen)
	return err
}

type crashingEngine struct {
	worker.Engine
	crasher *crasher
}

func (e crashingEngine) Release(ctx context.Context, item flashsale.ItemID, orders []engine.Held) (int, error) {
	released, err := e.Engine.Release(ctx, item, orders)
	if released > 0 {
		e.crasher.pass(afterRelease)
	}
	return released, err
}

// faultRounds is how often each crash point is tried: 2 in every test run, and what
// FLASHSALE_FAULTS says in `make test-faults`.
func faultRounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("FLASHSALE_FAULTS")
	if text == "" {
		return 2
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("FLASHSALE_FAULTS=%q is not a number of rounds", text)
	}
	return n
}

// seeded returns the random numbers of a test and says how to have the same again.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FLASHSALE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("replay with FLASHSALE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// keeper runs a process and starts it again whenever it dies, the first time with a crash
// point and from then on without.
type keeper struct {
	mu      sync.Mutex // guards current
	current *process
	deaths  atomic.Int64
	stop    chan struct{}
	stopped chan struct{}
}

func (i *installation) keep(crash string, start func() *process) *keeper {
	i.t.Helper()
	plain := i.env
	i.env = append(append([]string{}, plain...), crashAt+"="+crash)
	first := start()
	i.env = plain
	k := &keeper{current: first, stop: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		defer close(k.stopped)
		for {
			select {
			case <-k.stop:
				return
			case <-k.process().exited:
				k.deaths.Add(1)
				fresh := start()
				k.mu.Lock()
				k.current = fresh
				k.mu.Unlock()
			}
		}
	}()
	return k
}

func (k *keeper) process() *process {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current
}

func (k *keeper) end() {
	close(k.stop)
	<-k.stopped
	k.process().kill()
}

// Protects every order and every unit from a process that dies between two steps: at each
// point, after a random number of times, with SIGKILL. Every shopper gets an answer that is
// true, and the audit is clean.
func TestFaults_CrashOfServerOrWorker(t *testing.T) {
	t.Parallel()
	for _, point := range []string{afterScript, beforeCommit, afterCommit} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			random := seeded(t)
			i := newInstallation(t)
			for range faultRounds(t) {
				item := i.sell(30, "")
				crash := point + ":" + strconv.Itoa(1+random.IntN(3))
				// Small batches, so that there are some before the end.
				servers, workers := i.keep(crash, i.serve), i.keep(crash, func() *process {
					return i.start("working", "work", "--consumer", "w", "--batch-size", "3", "--batch-age", "1ms")
				})
				bases := func() []string { return []string{servers.process().base} }
				if sold := crowd(t, i, item, 90, bases); sold != 30 {
					t.Fatalf("%s: %d sold, want 30", crash, sold)
				}
				i.auditClean()
				persisted(t, i, item, 30)
				if servers.deaths.Load()+workers.deaths.Load() == 0 {
					t.Errorf("%s: nobody died, so nothing was tried", crash)
				}
				servers.end()
				workers.end()
			}
		})
	}
}

// Protects units on their way back: a worker dies after a cancellation has committed, or after
// the release, and yet each unit comes back exactly once.
func TestFaults_CrashOfCancellation(t *testing.T) {
	t.Parallel()
	for _, point := range []string{afterCancel, afterRelease} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			i := newInstallation(t)
			for range faultRounds(t) {
				item := i.sell(20, "pay_timeout_s=1")
				crash := point + ":1" // all orders may fall due at once
				node := i.serve()
				workers := i.keep(crash, func() *process { return i.work("w") })
				tokens := i.tokens("late", 20)
				bases := func() []string { return []string{node.base} }
				if err := parallel(20, 20, func(k int) error {
					_, err := insist(t.Context(), bases, item, tokens[k], "once")
					return err
				}); err != nil {
					t.Fatal(err)
				}
				comesBack(t, i, item, 20)
				i.auditClean()
				persisted(t, i, item, 0)
				if workers.deaths.Load() == 0 {
					t.Errorf("%s: nobody died, so nothing was tried", crash)
				}
				workers.end()
				node.kill()
			}
		})
	}
}

// comesBack waits until Redis has so many units on sale.
func comesBack(t *testing.T, i *installation, item flashsale.ItemID, units int64) {
	t.Helper()
	r := i.rooms()
	defer r.close()
	stacktest.Eventually(t, patience, func() error {
		account, err := r.engine.Item(t.Context(), item)
		if err != nil {
			return err
		}
		if account.Stock != units {
			return fmt.Errorf("%d units on sale, want %d", account.Stock, units)
		}
		return nil
	})
}

// Protects a sale from a Redis that is emptied, and from a worker that dies in the middle of
// the rebuild: no confirmed order is forgotten, and not one unit too many is sold.
func TestFaults_RedisEmptied(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"nothing", afterFence, beforeOpen} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			redis := stacktest.NewRedis(t)
			i := newInstallationOn(t, redis.URL())
			for range faultRounds(t) {
				item := i.sell(40, "")
				node := i.serve()
				workers := i.keep(point+":1", func() *process { return i.work("w") })
				bases := func() []string { return []string{node.base} }
				// Half is sold and confirmed, then Redis forgets everything, sessions too.
				early := i.tokens("early", 20)
				orders := make([]string, 20)
				if err := parallel(20, 20, func(k int) error {
					r, err := insist(t.Context(), bases, item, early[k], "first")
					orders[k] = r.OrderNo
					return err
				}); err != nil {
					t.Fatal(err)
				}
				i.auditClean()
				persisted(t, i, item, 20)
				redisCLI(t, redis, "FLUSHALL")
				early = i.tokens("early", 20)
				for k := range early { // a confirmed buyer is remembered, with his key and without
					again, err := insist(t.Context(), bases, item, early[k], "first")
					if err != nil || again.status != http.StatusAccepted || again.OrderNo != orders[k] {
						t.Fatalf("a buyer who asks again is told %d %s %v, holds %s", again.status, again.text, err, orders[k])
					}
					other, err := insist(t.Context(), bases, item, early[k], "second")
					if err != nil || other.Code != "duplicate_order" || other.OrderNo != orders[k] {
						t.Fatalf("a buyer who tries again is told %s %v, holds %s", other.text, err, orders[k])
					}
				}
				if sold := crowd(t, i, item, 60, bases); sold != 20 {
					t.Fatalf("%d sold after the rebuild, want 20", sold)
				}
				i.auditClean()
				persisted(t, i, item, 40)
				if point != "nothing" && workers.deaths.Load() == 0 {
					t.Error("nobody died, so nothing was tried")
				}
				workers.end()
				node.kill()
			}
		})
	}
}

// Protects accepted orders from a crash of Redis. With appendfsync always none that a shopper
// was told of is lost. With everysec some may be: they are counted, nothing that was confirmed
// is lost, nothing is oversold.
func TestFaults_RedisKilled(t *testing.T) {
	t.Parallel()
	for _, fsync := range []string{"always", "everysec"} {
		t.Run(fsync, func(t *testing.T) {
			t.Parallel()
			redis := stacktest.NewRedis(t, "--appendfsync", fsync)
			i := newInstallationOn(t, redis.URL())
			node := i.serve()
			i.work("w")
			for range faultRounds(t) {
				item := i.sell(200, "")
				tokens := i.tokens("crash", 400)
				told := make([]string, len(tokens)) // the order that the shopper was told of
				var answers atomic.Int64
				halfway, killed := make(chan struct{}), make(chan error, 1)
				go func() {
					<-halfway
					redis.Kill()
					killed <- redis.Restart(t.Context())
				}()
				bases := func() []string { return []string{node.base} }
				err := parallel(len(tokens), 64, func(k int) error {
					r, err := insist(t.Context(), bases, item, tokens[k], "only")
					if err != nil {
						return fmt.Errorf("shopper %d: %w", k, err)
					}
					told[k] = r.OrderNo
					if answers.Add(1) == 50 {
						close(halfway)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := <-killed; err != nil {
					t.Fatal(err)
				}
				i.auditClean()
				lost := 0
				for k, order := range told {
					if order == "" {
						continue
					}
					r, err := call(t.Context(), http.MethodGet, node.base+"/v1/orders/"+order, tokens[k], nil, "")
					if err != nil || r.status != http.StatusOK && r.status != http.StatusNotFound {
						t.Fatalf("order %s: %d %s %v", order, r.status, r.text, err)
					}
					if r.status == http.StatusNotFound {
						lost++
					}
				}
				t.Logf("appendfsync %s: %d accepted orders were lost with Redis", fsync, lost)
				if fsync == "always" && lost > 0 {
					t.Errorf("%d accepted orders were lost", lost)
				}
			}
		})
	}
}

// Protects accepted orders from PostgreSQL being away: they wait in the stream, shoppers go on
// buying, and all of it is persisted when it is back.
func TestFaults_PostgresAway(t *testing.T) {
	t.Parallel()
	postgres := stacktest.NewPostgres(t)
	i := newInstallationOver(t, stacktest.Redis(t), postgres.URL())
	item := i.sell(50, "")
	node := i.serve()
	i.work("w")
	bases := func() []string { return []string{node.base} }
	tokens := i.tokens("away", 50)
	buy := func(from, to int) {
		t.Helper()
		err := parallel(to-from, 8, func(k int) error {
			r, err := insist(t.Context(), bases, item, tokens[from+k], "only")
			if err == nil && r.status != http.StatusAccepted {
				err = fmt.Errorf("answer %s", r.text)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	buy(0, 10)
	postgres.Kill()
	buy(10, 50)
	away := time.NewTimer(awayFor())
	<-away.C
	if err := postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The worker may be in the longest of its pauses, in which nothing moves.
	r := i.rooms()
	defer r.close()
	stacktest.Eventually(t, patience, func() error { return r.holds(t.Context(), item, 50) })
	i.auditClean()
}

// awayFor is how long PostgreSQL stays away: longer where faults are what is tested.
func awayFor() time.Duration {
	if os.Getenv("FLASHSALE_FAULTS") != "" {
		return 10 * time.Second
	}
	return time.Second
}

// Protects a whole sale in which half of the winners never pay: their units come back and are
// bought by others until every unit is held, and the audit is clean at every moment.
func TestFaults_UnpaidUnitsAreSoldAgain(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	const units, shoppers = 100, 600
	item := i.sell(units, "pay_timeout_s=2")
	a, b := i.serve(), i.serve()
	i.work("a")
	i.work("b")
	bases := func() []string {
		if rand.IntN(2) == 0 {
			return []string{a.base, b.base}
		}
		return []string{b.base, a.base}
	}
	tokens := i.tokens("full", shoppers)
	r := i.rooms()
	defer r.close()

	audits, stopAudits := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(audits)
		for {
			select {
			case <-stopAudits:
				return
			default:
			}
			report, err := r.audit(t.Context(), worker.AuditScope{})
			if err == nil && !report.OK && !report.Moving {
				err = fmt.Errorf("audit in mid-sale:\n%s", report)
			}
			if err != nil {
				audits <- err
				return
			}
		}
	}()
	// Odd shoppers pay, even ones let the order run out and stay away. Whoever was told sold_out
	// comes again until every unit is paid for.
	payer := i.payer(item)
	deadline := time.Now().Add(patience)
	err := parallel(shoppers, 64, func(k int) error {
		for n := 0; time.Now().Before(deadline); n++ {
			answer, err := insist(t.Context(), bases, item, tokens[k], strconv.Itoa(n))
			if err != nil {
				return err
			}
			if answer.status == http.StatusAccepted {
				if k%2 == 0 {
					return nil
				}
				if paid, err := payer.pay(t.Context(), answer.OrderNo); err != nil || paid {
					return err
				}
				continue // too late: try again
			}
			if n, err := payer.units(t.Context()); err != nil || n == units {
				return err
			}
			again := time.NewTimer(50 * time.Millisecond) // a shopper's patience
			<-again.C
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := payer.units(t.Context()); err != nil || n != units {
		t.Errorf("%d units are paid for, want %d: %v", n, units, err)
	}
	close(stopAudits)
	if err := <-audits; err != nil {
		t.Error(err)
	}
	i.auditClean()
	persisted(t, i, item, units)
}

// payer stands in for a payment: it makes unpaid orders paid in the ledger, each with its payment.
type payer struct {
	pool *pgxpool.Pool
	item flashsale.ItemID
}

func (i *installation) payer(item flashsale.ItemID) *payer {
	i.t.Helper()
	pool, err := pgxpool.New(i.t.Context(), i.value("DATABASE_URL"))
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(pool.Close)
	return &payer{pool, item}
}

// pay waits until the order is in the ledger and reports whether it was still unpaid.
func (p *payer) pay(ctx context.Context, order string) (paid bool, err error) {
	for ticker := time.NewTicker(10 * time.Millisecond); ; {
		tag, err := p.pool.Exec(ctx, `
WITH paid AS (
    UPDATE orders SET status = 'paid' WHERE order_no = $1::bigint AND status = 'unpaid'
    RETURNING order_no, amount_fen
)
INSERT INTO payments (order_no, amount, paid_at, surplus, method, trade_no)
SELECT order_no, amount_fen, now(), false, 'alipay', 'test' || order_no FROM paid`, order)
		if err != nil || tag.RowsAffected() == 1 {
			return err == nil, err
		}
		var known int
		err = p.pool.QueryRow(ctx, `SELECT count(*) FROM orders WHERE order_no = $1::bigint`, order).Scan(&known)
		if err != nil || known == 1 {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-ticker.C:
		}
	}
}

// units is how many units are paid for.
func (p *payer) units(ctx context.Context) (n int, err error) {
	err = p.pool.QueryRow(ctx, `SELECT coalesce(sum(quantity), 0) FROM orders WHERE item_id = $1 AND status = 'paid'`,
		int64(p.item)).Scan(&n)
	return n, err
}

// redisCLI runs one command on a Redis as an operator does.
func redisCLI(t *testing.T, redis *devstack.Server, words ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "redis-cli", append([]string{"-u", redis.URL()}, words...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli %v: %v\n%s", words, err, out)
	}
}
