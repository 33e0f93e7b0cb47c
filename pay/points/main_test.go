package points_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
	"flashsale/pay/points"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(stacktest.Suite(m)) }

// numbers stands in for the snowflake generator: trade numbers of all tests, and order numbers.
var numbers atomic.Int64

func nextTradeNo() (int64, error) { return numbers.Add(1), nil }

func nextOrderNo() flashsale.OrderNo { return flashsale.OrderNo(numbers.Add(1)) }

// bundle is a ledger on a database of the test's own.
type bundle struct {
	*points.Ledger
	url string
}

// setup opens a ledger with its schema. At the end of the test it must add up, whatever the
// test did with it.
func setup(t *testing.T) bundle {
	t.Helper()
	b := setupUnchecked(t)
	t.Cleanup(func() { assertSound(t, b) })
	return b
}

// setupUnchecked is setup for tests that damage the ledger.
func setupUnchecked(t *testing.T) bundle {
	t.Helper()
	b := open(t, stacktest.Postgres(t))
	if applied, err := b.Migrate(t.Context()); err != nil || !applied {
		t.Fatalf("Migrate = %v, %v", applied, err)
	}
	return b
}

func open(t *testing.T, url string) bundle {
	t.Helper()
	ledger, err := points.Open(t.Context(), points.Config{URL: url, NextTradeNo: nextTradeNo})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ledger.Close)
	return bundle{Ledger: ledger, url: url}
}

// exec runs SQL behind the ledger's back.
func (b bundle) exec(t *testing.T, sql string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), sql)
	return err
}

// grant opens an account with points.
func (b bundle) grant(t *testing.T, user string, amount int64) {
	t.Helper()
	ref := fmt.Sprintf("grant-%d", numbers.Add(1))
	assertOutcome(t, points.Granted)(b.Grant(t.Context(), user, amount, ref))
}

// hold grants a user just what a new order holds, and holds it.
func (b bundle) hold(t *testing.T, user string, amount int64) flashsale.OrderNo {
	t.Helper()
	b.grant(t, user, amount)
	orderNo := nextOrderNo()
	assertOutcome(t, points.Held)(b.Try(t.Context(), points.Hold{OrderNo: orderNo, User: user, Points: amount}))
	return orderNo
}

func assertOutcome(t *testing.T, want points.Outcome) func(points.Outcome, error) {
	t.Helper()
	return func(got points.Outcome, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Errorf("outcome %v, error %v; want %v", got, err, want)
		}
	}
}

func assertError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func assertAccount(t *testing.T, b bundle, user string, balance, frozen int64) {
	t.Helper()
	want := points.Account{User: user, Balance: balance, Frozen: frozen}
	if got, err := b.Account(t.Context(), user); err != nil || got != want {
		t.Errorf("account %+v, error %v; want %+v", got, err, want)
	}
}

// assertSound proves that points add up: the audit's figures and the audit's rules.
func assertSound(t *testing.T, b bundle) points.Figures {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	f, err := b.Figures(ctx)
	if err != nil {
		t.Error(err)
		return f
	}
	for _, mismatch := range f.Mismatches {
		t.Error(mismatch)
	}
	if f.Granted+f.Refunded != f.Debited+f.Balance || f.Frozen != f.Held {
		t.Errorf("points do not add up: %+v", f)
	}
	return f
}

// together calls fn n times at the same time and returns how often each outcome came.
func together(t *testing.T, n int, fn func(i int) (points.Outcome, error)) map[points.Outcome]int {
	t.Helper()
	var (
		mu    sync.Mutex
		count = map[points.Outcome]int{}
		start = make(chan struct{})
		group sync.WaitGroup
	)
	for i := range n {
		group.Go(func() {
			<-start
			outcome, err := fn(i)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			count[outcome]++
		})
	}
	close(start)
	group.Wait()
	return count
}
