package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
)

// guard returns a guardian of its own, as of another worker; the worker's engine may be wrapped.
func (s *setup) guard(t *testing.T, e Engine) *guardian {
	t.Helper()
	metrics, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	config := s.config()
	config.Engine = e
	return newGuardian(config, s.client, newLocker(s.client), metrics, newWake())
}

func (s *setup) look(t *testing.T) {
	t.Helper()
	if err := s.guard(t, s.engine).look(t.Context(), t.Context()); err != nil {
		t.Fatal(err)
	}
}

// persist runs a worker until the stream is empty.
func (s *setup) persist() {
	s.t.Helper()
	w := s.start(s.config())
	s.waitDrained()
	w.halt()
}

// ask asks for a unit of item 1.
func (s *setup) ask(t *testing.T, user, key string) engine.Reply {
	t.Helper()
	reply, err := s.engine.Reserve(t.Context(), engine.Request{Item: 1, User: user, Quantity: 1, IdempotencyKey: key})
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	return reply
}

// becomes asks until the outcome is the wanted one.
func (s *setup) becomes(t *testing.T, user, key string, want flashsale.Outcome) (reply engine.Reply) {
	t.Helper()
	stacktest.Eventually(t, patience, func() (err error) {
		reply, err = s.engine.Reserve(t.Context(), engine.Request{Item: 1, User: user, Quantity: 1, IdempotencyKey: key})
		if err == nil && reply.Outcome != want {
			err = fmt.Errorf("%s: %s, want %s", user, reply.Outcome, want)
		}
		return err
	})
	return reply
}

// wantAccount checks item 1 in Redis.
func (s *setup) wantAccount(t *testing.T, stock, generation int64, state string) {
	t.Helper()
	a, err := s.engine.Item(t.Context(), 1)
	if err != nil || a.Stock != stock || a.Generation != generation || a.State != state {
		t.Errorf("account %+v, %v; want stock %d, generation %d, %s", a, err, stock, generation, state)
	}
	if got := s.ledger.item(1).Generation; got != generation {
		t.Errorf("generation %d in the ledger, want %d", got, generation)
	}
}

// wantClean checks that all invariants hold and nothing is left over.
func (s *setup) wantClean(t *testing.T) {
	t.Helper()
	a := s.auditor(50 * time.Millisecond)
	stacktest.Eventually(t, patience, func() error {
		report, err := a.Audit(t.Context(), AuditScope{})
		if err == nil && (!report.OK || report.Moving) {
			err = errors.New(report.String())
		}
		return err
	})
}

// Redis is emptied while shoppers buy: the item is not ready, is rebuilt by the worker, and
// sells on by itself. In the end exactly the stock is sold, and whoever was confirmed before
// still learns the order that is held, also by its idempotency key.
func TestGuardian_Emptied(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	const stock = 300
	s.sale(stock, 0)
	first := make([]engine.Reply, 20)
	for n := range first {
		first[n] = s.ask(t, fmt.Sprintf("early-%d", n), fmt.Sprintf("key-%d", n))
	}
	config := s.config()
	config.GuardEvery = 20 * time.Millisecond
	w := s.start(config)
	s.waitDrained()

	ctx, stop := context.WithCancel(t.Context())
	var shoppers sync.WaitGroup
	var asked atomic.Int64
	for n := range 4 {
		shoppers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				asked.Add(1)
				_, _ = s.engine.Reserve(ctx, engine.Request{Item: 1, User: fmt.Sprintf("user-%d-%d", n, i), Quantity: 1})
				pause(ctx, time.Millisecond)
			}
		})
	}
	stacktest.Eventually(t, patience, func() error { return counted(w.metrics.persisted, 60) })
	if err := s.client.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, func() error { return counted(w.metrics.rebuilt, 1) })
	stacktest.Eventually(t, patience, func() error {
		if left := s.ledger.item(1).Stock; left > 0 {
			return fmt.Errorf("%d units left", left)
		}
		return nil
	})
	stop()
	shoppers.Wait()
	s.waitDrained()
	s.becomes(t, "late", "", flashsale.SoldOut)
	for n, reply := range first {
		user := fmt.Sprintf("early-%d", n)
		if got := s.ask(t, user, ""); got.Outcome != flashsale.DuplicateOrder || got.OrderNo != reply.OrderNo {
			t.Errorf("%s: %+v, want duplicate_order of %d", user, got, reply.OrderNo)
		}
		if got := s.ask(t, user, fmt.Sprintf("key-%d", n)); got.Outcome != flashsale.Replayed || got.OrderNo != reply.OrderNo {
			t.Errorf("%s: %+v, want %d replayed", user, got, reply.OrderNo)
		}
	}
	s.wantClean(t)
	w.halt()
	holders := make(map[string]bool)
	for no, order := range s.ledger.orders {
		if !order.Status.Live() {
			continue
		}
		if holders[order.User] {
			t.Errorf("%s holds order %d and another", order.User, no)
		}
		holders[order.User] = true
	}
	if len(holders) != stock {
		t.Errorf("%d units sold of %d, %d asked", len(holders), stock, asked.Load())
	}
}

// An item that was put back to an older state, without Redis restarting, is known by its
// sequence: nobody who bought since is forgotten and no unit is sold twice.
func TestGuardian_RolledBack(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 10)
	s.persist()
	dumps := make(map[string]string)
	for _, key := range []string{engine.ItemKey(0, 1), engine.BuyersKey(0, 1)} {
		dump, err := s.client.Dump(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		dumps[key] = dump
	}
	later := s.ask(t, "later", "the-key")
	s.persist()
	for key, dump := range dumps {
		if err := s.client.RestoreReplace(t.Context(), key, 0, dump).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.look(t)
	s.wantAccount(t, 39, 2, engine.StateOpen)
	if got := s.ask(t, "later", "the-key"); got.Outcome != flashsale.Replayed || got.OrderNo != later.OrderNo {
		t.Errorf("%+v, want %d replayed", got, later.OrderNo)
	}
	s.wantClean(t)
	s.look(t)
	s.wantAccount(t, 39, 2, engine.StateOpen) // and left alone from then on
}

// A Redis that restarts sells nothing until it is compared; then it sells on by itself, and a
// worker is enough for that. What it kept is kept; the generation ends all the same.
func TestGuardian_Restart(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t, "--appendfsync", "always")
	s := newSetupOn(t, server.URL())
	s.sale(50, 10)
	config := s.config()
	config.GuardEvery = time.Minute // only the new connection wakes the guardian
	w := s.start(config)
	s.waitDrained()
	server.Kill()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.becomes(t, "ann", "", flashsale.Accepted)
	s.waitDrained()
	s.wantAccount(t, 39, 2, engine.StateOpen)
	if got := s.ask(t, "user-3", ""); got.Outcome != flashsale.DuplicateOrder {
		t.Errorf("an earlier buyer: %s", got.Outcome)
	}
	s.wantClean(t)
	w.halt()
	if vouched, err := s.engine.Vouched(t.Context(), 1); err != nil || !vouched {
		t.Errorf("vouched %v, %v", vouched, err)
	}
}

// A Redis that came back empty, with no append-only file, is rebuilt as one that was emptied.
func TestGuardian_RestartEmpty(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t, "--appendonly", "no")
	s := newSetupOn(t, server.URL())
	s.sale(50, 10)
	config := s.config()
	config.GuardEvery = 20 * time.Millisecond
	s.start(config)
	s.waitDrained()
	server.Kill()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.becomes(t, "ann", "", flashsale.Accepted)
	s.becomes(t, "user-3", "", flashsale.DuplicateOrder)
	s.wantClean(t)
}

// An item behind the fence of a rebuild that died, which turns out intact, is put on sale as it
// is, paused if the ledger says so.
func TestGuardian_LiftsIntact(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 10)
	s.persist()
	for _, state := range []string{engine.StateOpen, engine.StatePaused} {
		s.ledger.items[1].Paused = state == engine.StatePaused
		if _, err := s.engine.Fence(t.Context(), 1, "dead"); err != nil {
			t.Fatal(err)
		}
		if got := s.ask(t, "ann", ""); got.Outcome != flashsale.NotReady {
			t.Fatalf("behind the fence: %s", got.Outcome)
		}
		s.look(t)
		s.wantAccount(t, 40, 1, state)
	}
}

// mortalEngine dies at a step: nothing that it is asked afterwards reaches Redis, as in a
// process that is killed.
type mortalEngine struct {
	*engine.Engine
	die  func(step string) bool
	dead atomic.Bool
}

var errDead = errors.New("killed")

func (e *mortalEngine) step(step string) error {
	if e.dead.Load() || e.die(step) {
		e.dead.Store(true)
		return errDead
	}
	return nil
}

func (e *mortalEngine) Fence(ctx context.Context, item flashsale.ItemID, token string) (*engine.Fence, error) {
	if err := e.step("before the fence"); err != nil {
		return nil, err
	}
	fence, err := e.Engine.Fence(ctx, item, token)
	return fence, errors.Join(err, e.step("after the fence"))
}

func (e *mortalEngine) Buyers(ctx context.Context, item flashsale.ItemID, fn func(string, []flashsale.Order) error) error {
	if err := e.step("before the buyers are read"); err != nil {
		return err
	}
	return e.Engine.Buyers(ctx, item, fn)
}

// A rebuild that dies at any of its steps is completed by the next look of any worker, and
// until then the item does not sell.
func TestGuardian_Dies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		step       string
		generation int64 // in the end
	}{
		{"before the fence", 2},
		{"after the fence", 2},
		{"before the buyers are read", 2},
		{"before the commit", 2},
		{"after the commit", 3},
		{"in the middle of writing", 3},
	} {
		t.Run(test.step, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.sale(50, 10)
			s.persist()
			// As after a restart with half of the memory lost.
			s.client.HSet(t.Context(), engine.ItemKey(0, 1), "run", "an earlier one")
			s.client.HDel(t.Context(), engine.BuyersKey(0, 1), "user-1", "user-2")

			ctx, cancel := context.WithCancel(t.Context())
			mortal := &mortalEngine{Engine: s.engine, die: func(step string) bool { return step == test.step }}
			s.ledger.onRebuild = func(committed bool) error {
				step := "before the commit"
				if committed {
					step = "after the commit"
					if test.step == "in the middle of writing" {
						s.client.Del(t.Context(), engine.BuyersKey(0, 1))
						s.client.HSet(t.Context(), engine.BuyersKey(0, 1), "user-1", "1 1 ", "stranger", "2 1 ")
						cancel() // the account is not written any more
					}
				}
				return mortal.step(step)
			}
			if err := s.guard(t, mortal).look(ctx, ctx); err == nil {
				t.Fatal("the guardian survived")
			}
			cancel()
			s.ledger.onRebuild = nil
			if a, err := s.engine.Item(t.Context(), 1); err != nil || (a.State == engine.StateOpen) != (test.step == "before the fence") {
				t.Errorf("%s: %+v, %v", test.step, a, err)
			}
			s.look(t)
			s.wantAccount(t, 40, test.generation, engine.StateOpen)
			if got := s.ask(t, "user-1", ""); got.Outcome != flashsale.DuplicateOrder {
				t.Errorf("an earlier buyer: %s", got.Outcome)
			}
			if vouched, err := s.engine.Vouched(t.Context(), 1); err != nil || !vouched {
				t.Errorf("vouched %v, %v", vouched, err)
			}
			s.wantClean(t)
		})
	}
}

// Two workers that see the same loss rebuild it once.
func TestGuardian_TwoWorkers(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 10)
	s.persist()
	if err := s.client.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	var workers sync.WaitGroup
	for range 6 {
		g := s.guard(t, s.engine)
		workers.Go(func() {
			if err := g.look(t.Context(), t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	workers.Wait()
	s.wantAccount(t, 40, 2, engine.StateOpen)
}

// A guardian whose fence was taken over changes nothing in Redis any more: the two that the
// lock could not keep apart do no harm.
func TestGuardian_FenceTakenOver(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 10)
	s.persist()
	s.client.Del(t.Context(), engine.ItemKey(0, 1), engine.BuyersKey(0, 1))
	var once sync.Once
	s.ledger.onRebuild = func(committed bool) error {
		if committed {
			once.Do(func() {
				if _, err := s.engine.Fence(t.Context(), 1, "theother"); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	}
	if err := s.guard(t, s.engine).look(t.Context(), t.Context()); !errors.Is(err, engine.ErrFenceLost) {
		t.Fatalf("look: %v", err)
	}
	if got := s.ask(t, "ann", ""); got.Outcome != flashsale.NotReady {
		t.Errorf("behind the other's fence: %s", got.Outcome)
	}
	s.look(t)
	s.wantAccount(t, 40, 3, engine.StateOpen)
	s.wantClean(t)
}

// What the outbox owes at the time of a rebuild is part of what is written, and is carried out
// neither again nor, by a relay that died in between, for the first time.
func TestGuardian_Owed(t *testing.T) {
	t.Parallel()
	for _, carriedOut := range []bool{false, true} {
		t.Run(fmt.Sprintf("carried out %v", carriedOut), func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.sale(50, 10)
			s.persist()
			reply := s.ask(t, "user-3", "")
			s.ledger.cancel(reply.OrderNo)
			s.ledger.restock(1, 7)
			relay := newTestRelay(t, s.ledger, s.engine)
			if carriedOut { // but not struck off
				s.ledger.onOutbox = func() error { return errAway }
				if _, err := relay.pass(t.Context()); !errors.Is(err, errAway) {
					t.Fatal(err)
				}
				s.ledger.onOutbox = nil
			}
			// Intact as it is: what is owed explains the rest.
			if _, err := s.engine.Fence(t.Context(), 1, "dead"); err != nil {
				t.Fatal(err)
			}
			s.look(t)
			s.wantAccount(t, map[bool]int64{false: 40, true: 48}[carriedOut], 1, engine.StateOpen)

			stale := s.ledger.owed()
			s.client.HSet(t.Context(), engine.ItemKey(0, 1), "seq", 1)
			s.look(t)
			s.wantAccount(t, 48, 2, engine.StateOpen)
			if owed := s.ledger.owed(); len(owed) != 0 {
				t.Errorf("outbox %v", owed)
			}
			if _, err := relay.carryOut(t.Context(), stale); err != nil { // a relay with old rows in hand
				t.Fatal(err)
			}
			s.wantAccount(t, 48, 2, engine.StateOpen)
			s.ledger.restock(1, 5)
			if _, err := relay.pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.wantAccount(t, 53, 2, engine.StateOpen)
			if got := s.ask(t, "user-3", ""); got.Outcome != flashsale.Accepted {
				t.Errorf("who cancelled may buy again: %s", got.Outcome)
			}
			s.persist()
			s.wantClean(t)
		})
	}
}

// A worker has entries in hand that a rolled-back Redis knows nothing of. Whatever it persists
// after the comparison is rejected, even though the item was found intact: or Redis would sell
// units that are gone.
func TestGuardian_LateEntries(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 10)
	inHand, resume := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.ledger.onPersist = func(context.Context, []flashsale.Order) error {
		once.Do(func() {
			close(inHand)
			<-resume
		})
		return nil
	}
	w := s.start(s.config())
	<-inHand
	// Redis is as it was before the ten orders, and has restarted.
	s.client.HSet(t.Context(), engine.ItemKey(0, 1), "stock", 50, "seq", 0)
	s.client.Del(t.Context(), engine.BuyersKey(0, 1), engine.OrdersKey(0))
	s.client.HSet(t.Context(), engine.ItemKey(0, 1), "run", "an earlier one")
	s.look(t)
	s.wantAccount(t, 50, 2, engine.StateOpen)
	close(resume)
	stacktest.Eventually(t, patience, func() error { return counted(w.metrics.rejected, 10) })
	for _, order := range s.ledger.orders {
		if order.Status != flashsale.Rejected || order.Reason != "rebuilt" {
			t.Errorf("order %d is %s: %s", order.OrderNo, order.Status, order.Reason)
		}
	}
	s.becomes(t, "user-3", "", flashsale.Accepted)
	s.waitDrained()
	s.wantClean(t)
}

// While the ledger is away an item that Redis lost stays off sale, what the stream holds stays
// in it, and when the ledger is back both are settled.
func TestGuardian_LedgerAway(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 10)
	var away atomic.Bool
	away.Store(true)
	s.ledger.onPersist = func(context.Context, []flashsale.Order) error {
		if away.Load() {
			return errAway
		}
		return nil
	}
	config := s.config()
	config.GuardEvery = 20 * time.Millisecond
	w := s.start(config)
	stacktest.Eventually(t, patience, func() error { return counted(w.metrics.faults.WithLabelValues("ledger"), 1) })
	s.client.HSet(t.Context(), engine.ItemKey(0, 1), "gen", 7) // any contradiction
	s.becomes(t, "user-0", "", flashsale.NotReady)
	s.ledger.setAway(true)
	away.Store(false)
	s.waitDrained()
	stacktest.Eventually(t, patience, func() error { return counted(w.metrics.faults.WithLabelValues("guardian"), 2) })
	if got := s.ask(t, "ann", ""); got.Outcome != flashsale.NotReady {
		t.Errorf("without the ledger: %s", got.Outcome)
	}
	s.ledger.setAway(false)
	s.becomes(t, "ann", "", flashsale.Accepted)
	s.becomes(t, "user-3", "", flashsale.DuplicateOrder)
	s.wantClean(t)
}

// What is no account, or not a whole one, is found and replaced, and one item's trouble is not
// the others'.
func TestGuardian_Unreadable(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(s *setup){
		"field":  func(s *setup) { s.client.HDel(s.t.Context(), engine.ItemKey(0, 1), "limit") },
		"number": func(s *setup) { s.client.HSet(s.t.Context(), engine.ItemKey(0, 1), "stock", "many") },
		"buyer": func(s *setup) {
			s.client.HSet(s.t.Context(), engine.BuyersKey(0, 1), "user-1", "?")
			s.client.HSet(s.t.Context(), engine.ItemKey(0, 1), "seq", 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.sale(50, 10)
			s.ledger.addItem(2, 5)
			if err := NewPreheater(s.ledger, s.engine, nil).PreheatSale(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			s.persist()
			spoil(s)
			s.look(t)
			s.wantAccount(t, 40, 2, engine.StateOpen)
			if got := s.ask(t, "user-1", ""); got.Outcome != flashsale.DuplicateOrder {
				t.Errorf("an earlier buyer: %s", got.Outcome)
			}
			if a, err := s.engine.Item(t.Context(), 2); err != nil || a.Generation != 1 {
				t.Errorf("the other item: %+v, %v", a, err)
			}
			s.wantClean(t)
		})
	}
}

func (s *setup) rebuilder(t *testing.T, force bool) *Rebuilder {
	t.Helper()
	r, err := NewRebuilder(RebuilderConfig{
		Engine: s.engine, Force: force, Ledger: s.ledger, Logger: slog.New(slog.DiscardHandler), RedisURL: s.url,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// By hand: a dry run shows the difference and changes nothing; a rebuild mends it; an intact
// item is left as it is unless that is forced; and who was never loaded is refused.
func TestRebuilder(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 30)
	s.persist()
	s.client.HDel(t.Context(), engine.BuyersKey(0, 1), "user-1")
	s.client.HSet(t.Context(), engine.BuyersKey(0, 1), "stranger", "77 1 ", "user-2", strings.Replace(
		s.client.HGet(t.Context(), engine.BuyersKey(0, 1), "user-2").Val(), " 1 ", " 2 ", 1))
	s.client.HIncrBy(t.Context(), engine.ItemKey(0, 1), "stock", 3)
	r := s.rebuilder(t, false)

	dry, err := r.Rebuild(t.Context(), 1, true)
	if err != nil || dry.Missing != 1 || dry.Unknown != 1 || dry.Changed != 1 || dry.RedisStock != 23 || dry.Stock != 20 ||
		dry.Fenced || dry.Rebuilt != 0 || len(dry.Examples) != 3 {
		t.Errorf("dry run: %+v, %v", dry, err)
	}
	for _, want := range []string{"stock 23 instead of 20", "without a fence", "unknown to the ledger: order 77 of stranger"} {
		if !strings.Contains(dry.String(), want) {
			t.Errorf("%s\nlacks %q", dry, want)
		}
	}
	s.wantAccountInRedis(t, 23, 1)

	done, err := r.Rebuild(t.Context(), 1, false)
	if err != nil || done.Rebuilt != 2 || !done.Fenced || done.Missing != 1 {
		t.Errorf("rebuild: %+v, %v", done, err)
	}
	s.wantAccount(t, 20, 2, engine.StateOpen)

	if again, err := r.Rebuild(t.Context(), 1, false); err != nil || !again.Intact() || again.Rebuilt != 0 {
		t.Errorf("an intact item: %+v, %v", again, err)
	}
	s.wantAccount(t, 20, 2, engine.StateOpen)
	if forced, err := s.rebuilder(t, true).Rebuild(t.Context(), 1, false); err != nil || !forced.Intact() || forced.Rebuilt != 3 {
		t.Errorf("forced: %+v, %v", forced, err)
	}
	s.wantAccount(t, 20, 3, engine.StateOpen)
	s.wantClean(t)

	s.ledger.addItem(2, 5)
	if _, err := r.Rebuild(t.Context(), 2, false); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("never loaded: %v", err)
	}
	if _, err := r.Rebuild(t.Context(), 99, false); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if n := s.client.Exists(t.Context(), engine.ItemKey(0, 2), engine.ItemKey(0, 99)).Val(); n != 0 {
		t.Error("a refused rebuild left a fence")
	}
}

func (s *setup) wantAccountInRedis(t *testing.T, stock, generation int64) {
	t.Helper()
	if a, err := s.engine.Item(t.Context(), 1); err != nil || a.Stock != stock || a.Generation != generation {
		t.Errorf("account %+v, %v; want stock %d, generation %d", a, err, stock, generation)
	}
}

// A rebuild waits for nobody who has an entry in hand: what the stream holds of the item, read by a
// consumer that died or by none, it brings into the ledger itself. It waits for another rebuild only,
// and says so.
func TestRebuilder_Alone(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(50, 5)
	key := engine.OrdersKey(0)
	if err := s.client.XGroupCreateMkStream(t.Context(), key, engine.Group, "0").Err(); err != nil && !isBusyGroup(err) {
		t.Fatal(err)
	}
	err := s.client.XReadGroup(t.Context(), &redis.XReadGroupArgs{
		Group: engine.Group, Consumer: "dead", Streams: []string{key, ">"}, Count: 2, Block: -1,
	}).Err()
	if err != nil {
		t.Fatal(err)
	}
	r := s.rebuilder(t, true)
	_, err = newLocker(s.client).do(t.Context(), guardianLock(0), time.Minute, func(held context.Context) error {
		ctx, cancel := context.WithTimeout(held, 200*time.Millisecond)
		defer cancel()
		if _, err := r.Rebuild(ctx, 1, false); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "is rebuilding") {
			t.Errorf("locked: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := r.Rebuild(t.Context(), 1, false); err != nil || d.Rebuilt != 2 {
		t.Errorf("%+v, %v", d, err)
	}
	s.wantAccount(t, 45, 2, engine.StateOpen)
	// Whoever takes the entries over finds their orders in the ledger.
	s.client.XGroupDelConsumer(t.Context(), key, engine.Group, "dead")
	s.client.XGroupSetID(t.Context(), key, engine.Group, "0")
	s.persist()
	s.wantClean(t)
}

// A key of ours that somebody wrote over with another type is moved aside, where an operator finds
// it, told of, and written anew; the other items sell on meanwhile. So is a stream, and then every
// item of its partition is rebuilt, because what the stream held is gone.
func TestGuardian_WrongTypes(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{
		"account": engine.ItemKey(0, 1), "buyers": engine.BuyersKey(0, 1),
		"stream": engine.OrdersKey(0), "dead": engine.DeadKey(0), "waiting": engine.WaitingKey(0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.sale(50, 5)
			s.persist()
			s.ask(t, "lost-1", "") // in the stream only
			pipe := s.client.TxPipeline()
			pipe.Del(t.Context(), key)
			pipe.SAdd(t.Context(), key, "not ours")
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			metrics := s.guard(t, s.engine)
			if err := metrics.look(t.Context(), t.Context()); err != nil {
				t.Fatal(err)
			}
			wantMetric(t, "misplaced", metrics.metrics.misplaced, 1)
			aside, err := s.client.Keys(t.Context(), "fs:{0}:aside:*").Result()
			if err != nil || len(aside) != 1 {
				t.Fatalf("aside: %v, %v", aside, err)
			}
			if members, err := s.client.SMembers(t.Context(), aside[0]).Result(); err != nil || len(members) != 1 {
				t.Errorf("%s holds %v, %v", aside[0], members, err)
			}
			s.becomes(t, "new", "", flashsale.Accepted)
			s.persist()
			s.wantClean(t)
		})
	}
}

// What an effect on its way would have mended by now is mended: a limit, a window or a pause that
// somebody changed in Redis by hand. A change that is a moment old is left to the relay.
func TestGuardian_LastingDifferences(t *testing.T) {
	t.Parallel()
	for field, value := range map[string]string{"limit": "7", "closes_at_ms": "99999999999999", "opens_at_ms": "1", "state": "paused"} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.sale(50, 5)
			s.persist()
			before := s.client.HGet(t.Context(), engine.ItemKey(0, 1), field).Val()
			s.client.HSet(t.Context(), engine.ItemKey(0, 1), field, value)
			g := s.guard(t, s.engine)
			if err := g.look(t.Context(), t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.client.HGet(t.Context(), engine.ItemKey(0, 1), field).Val(); got != value {
				t.Errorf("%s is %s at once: the relay had no time", field, got)
			}
			seen := g.differs[1]
			seen.since = seen.since.Add(-differsMax)
			g.differs[1] = seen
			if err := g.look(t.Context(), t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.client.HGet(t.Context(), engine.ItemKey(0, 1), field).Val(); got != before {
				t.Errorf("%s is %s, want %s", field, got, before)
			}
			s.wantClean(t)
		})
	}
}

// Open items come first, then those that open next, then the past.
func TestUrgency(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(item flashsale.ItemID, opens, closes time.Duration) suspect {
		return suspect{item: item, opensAt: now.Add(opens), closesAt: now.Add(closes)}
	}
	suspects := []suspect{
		at(5, -2*time.Hour, -time.Hour), at(4, 2*time.Hour, 3*time.Hour), at(3, time.Hour, 3*time.Hour),
		at(2, -time.Minute, time.Hour), at(1, -time.Hour, time.Hour),
	}
	slices.SortStableFunc(suspects, urgency(now))
	for n, s := range suspects {
		if s.item != flashsale.ItemID(n+1) {
			t.Errorf("item %d comes as number %d", s.item, n+1)
		}
	}
}

// What is told of a difference is bounded.
func TestDifference_Examples(t *testing.T) {
	t.Parallel()
	state := flashsale.RebuildState{Item: flashsale.Item{ID: 1, Generation: 1, Stock: 5}}
	for n := range 100 {
		state.Orders = append(state.Orders, flashsale.Order{Status: flashsale.Unpaid, OrderNo: flashsale.OrderNo(n + 1), User: "ann", Quantity: 1})
	}
	d := compare(redisItem{}, state)
	if d.Intact() || d.Missing != 100 || len(d.Examples) != examplesMax || !strings.HasSuffix(d.String(), "\n  and 80 more") {
		t.Errorf("%+v\n%s", d, d)
	}
}
