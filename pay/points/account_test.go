package points_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
	"flashsale/pay/points"
)

// It protects users from being granted twice or not at all: a reference stands for one grant,
// and using it for another one is told.
func TestGrant_OncePerReference(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	assertOutcome(t, points.Granted)(b.Grant(ctx, "ann", 10, "g-1"))
	assertOutcome(t, points.AlreadyGranted)(b.Grant(ctx, "ann", 10, "g-1"))
	assertOutcome(t, points.Granted)(b.Grant(ctx, "ann", 10, "g-2"))
	_, err := b.Grant(ctx, "ann", 11, "g-1")
	assertError(t, "other points", err, flashsale.ErrConflict)
	_, err = b.Grant(ctx, "bob", 10, "g-1")
	assertError(t, "another user", err, flashsale.ErrConflict)
	assertAccount(t, b, "ann", 20, 0)
	assertAccount(t, b, "bob", 0, 0)
	// A refund number may look like a grant's reference.
	orderNo := b.hold(t, "ann", 5)
	assertOutcome(t, points.Confirmed)(b.Confirm(ctx, orderNo))
	assertOutcome(t, points.Refunded)(b.Refund(ctx, orderNo, "g-1"))
}

// It protects the sums from overflow: what one user is ever given is bounded, replays of a
// grant that was accepted still learn so, and refunds are not held up.
func TestGrant_LimitReached(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	const full = points.GrantedMax / points.PointsMax
	for i := range full - 1 {
		assertOutcome(t, points.Granted)(b.Grant(ctx, "ann", points.PointsMax, fmt.Sprintf("g-%d", i)))
	}
	orderNo := b.hold(t, "ann", points.PointsMax)
	assertOutcome(t, points.Confirmed)(b.Confirm(ctx, orderNo))
	assertOutcome(t, points.LimitReached)(b.Grant(ctx, "ann", 1, "one-more"))
	assertOutcome(t, points.AlreadyGranted)(b.Grant(ctx, "ann", points.PointsMax, "g-0"))
	assertOutcome(t, points.Refunded)(b.Refund(ctx, orderNo, "r-1"))
	assertAccount(t, b, "ann", points.GrantedMax, 0)
}

// It protects new users: many first grants at once open one account and all of them count.
func TestGrant_ManyAtOnce(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	got := together(t, 200, func(i int) (points.Outcome, error) {
		return b.Grant(ctx, "ann", 1, fmt.Sprintf("g-%d", i%100)) // each reference twice
	})
	assertCounts(t, "grant", got, map[points.Outcome]int{points.Granted: 100, points.AlreadyGranted: 100})
	assertAccount(t, b, "ann", 100, 0)
}

// It protects the ledger from what no operator may ask.
func TestAccount_BadInput(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	for _, c := range []struct {
		user   string
		points int64
		ref    string
	}{
		{"", 1, "g-1"},
		{"a b", 1, "g-1"},
		{"a\x00b", 1, "g-1"},
		{strings.Repeat("a", 65), 1, "g-1"},
		{"ann", 0, "g-1"},
		{"ann", -1, "g-1"},
		{"ann", points.PointsMax + 1, "g-1"},
		{"ann", 1, ""},
		{"ann", 1, "g\x00"},
		{"ann", 1, strings.Repeat("g", 129)},
	} {
		_, err := b.Grant(ctx, c.user, c.points, c.ref)
		assertError(t, fmt.Sprintf("%+v", c), err, flashsale.ErrPermanent)
	}
	_, err := b.Account(ctx, "")
	assertError(t, "account", err, flashsale.ErrPermanent)
	for _, c := range []struct {
		user   string
		before int64
		limit  int
	}{{"", 0, 1}, {"ann", -1, 1}, {"ann", 0, 0}, {"ann", 0, points.EntriesMax + 1}} {
		_, err := b.Entries(ctx, c.user, c.before, c.limit)
		assertError(t, fmt.Sprintf("entries %+v", c), err, flashsale.ErrPermanent)
	}
	if f := assertSound(t, b); f.Accounts != 0 {
		t.Errorf("figures %+v, want no account", f)
	}
}

// It protects the pages of a statement: newest first, each entry once, and an end.
func TestEntries_Pages(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	for i := range 7 {
		assertOutcome(t, points.Granted)(b.Grant(ctx, "ann", int64(1+i), fmt.Sprintf("g-%d", i)))
	}
	b.grant(t, "bob", 100)
	want := int64(7)
	for before := int64(0); ; {
		page, err := b.Entries(ctx, "ann", before, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, entry := range page {
			if entry.Sequence != want || entry.Points != want || entry.Balance != want*(want+1)/2 ||
				entry.Type != points.EntryGrant || entry.OrderNo != 0 || entry.At.IsZero() {
				t.Errorf("entry %+v, want number %d", entry, want)
			}
			want--
			before = entry.Sequence
		}
	}
	if want != 0 {
		t.Errorf("%d entries are missing", want)
	}
}

// It protects the trade numbers: a generator that is missing, fails or counts wrongly stops the
// call before anything is written. Calls that need no number go on.
func TestTradeNo_Generator(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.grant(t, "ann", 100)
	broken := errors.New("no node id")
	for name, next := range map[string]func() (int64, error){
		"missing": nil,
		"failing": func() (int64, error) { return 0, broken },
		"wrong":   func() (int64, error) { return -1, nil },
	} {
		ledger, err := points.Open(ctx, points.Config{URL: b.url, NextTradeNo: next})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ledger.Close)
		hold := points.Hold{OrderNo: nextOrderNo(), User: "ann", Points: 1}
		_, tryErr := ledger.Try(ctx, hold)
		_, grantErr := ledger.Grant(ctx, "ann", 1, "g-1")
		_, refundErr := ledger.Refund(ctx, hold.OrderNo, "r-1")
		for _, err := range []error{tryErr, grantErr, refundErr} {
			if err == nil || name == "failing" && !errors.Is(err, broken) {
				t.Errorf("%s: error %v", name, err)
			}
		}
		hold.TradeNo = numbers.Add(1)
		assertOutcome(t, points.Held)(ledger.Try(ctx, hold))
		assertOutcome(t, points.Confirmed)(ledger.Confirm(ctx, hold.OrderNo))
	}
	assertAccount(t, b, "ann", 97, 0)
}

// It protects operators: a setting that cannot work is named at the start.
func TestOpen_Config(t *testing.T) {
	t.Parallel()
	url := stacktest.Postgres(t)
	for want, config := range map[string]points.Config{
		"URL is required":       {},
		"URL":                   {URL: "postgres://%zz"},
		"MaxConns":              {URL: url, MaxConns: points.MaxConnsMax + 1},
		"LockTimeout":           {URL: url, LockTimeout: 1},
		"StatementTimeout":      {URL: url, StatementTimeout: -1},
		"ConnectTimeout":        {URL: url, ConnectTimeout: -1},
		"IdleInTransaction":     {URL: url, IdleInTransactionTimeout: 1},
		"ping points":           {URL: "postgres://flashsale@127.0.0.1:1/flashsale"},
		"points_does_not_exist": {URL: strings.Replace(url, "/test_", "/points_does_not_exist_", 1)},
	} {
		ledger, err := points.Open(t.Context(), config)
		if err == nil {
			ledger.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

// It protects metrics and logs: each outcome has one text, which never changes.
func TestOutcome_Texts(t *testing.T) {
	t.Parallel()
	want := []string{
		"outcome(0)", "granted", "held", "confirmed", "cancelled", "empty_rollback", "refunded",
		"already_granted", "limit_reached", "already_held", "insufficient_points",
		"already_confirmed", "already_cancelled", "not_held", "not_confirmed", "already_refunded",
		"outcome(16)",
	}
	for i, text := range want {
		outcome := points.Outcome(i)
		if outcome.String() != text {
			t.Errorf("outcome %d is %q, want %q", i, outcome, text)
		}
		if changed := i >= 1 && i <= 6; outcome.Changed() != changed {
			t.Errorf("%v: Changed() = %v", outcome, !changed)
		}
	}
}
