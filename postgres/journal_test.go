package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"flashsale"
)

func attempt(key, request string) *flashsale.Attempt {
	return &flashsale.Attempt{Scope: "admin", Key: key, Fingerprint: []byte(request)}
}

// Protects the stock from a restock that is sent twice: the units are added once, whether the first
// was answered, died before its answer, or is still running.
func TestOnce_Restock(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	item := b.item(10, 1)
	restock := func() (flashsale.Item, *flashsale.Attempt) {
		t.Helper()
		a := attempt("k", "add 5")
		if _, err := b.Claim(b.ctx, a); err != nil {
			t.Error(err)
		}
		changed, err := b.Restock(flashsale.WithAttempt(b.ctx, a), item.ID, 5)
		if err != nil {
			t.Error(err)
		}
		return changed, a
	}
	var (
		all      sync.WaitGroup
		mu       sync.Mutex
		replayed int
	)
	for range 8 {
		all.Go(func() {
			changed, a := restock()
			mu.Lock()
			defer mu.Unlock()
			if changed.Total != 15 {
				t.Errorf("total %d, want 15", changed.Total)
			}
			if a.Replayed {
				replayed++
			}
		})
	}
	all.Wait()
	if total := b.count(`SELECT total FROM items WHERE id = $1`, int64(item.ID)); total != 15 || replayed != 7 {
		t.Errorf("total %d with %d replayed, want 15 with 7", total, replayed)
	}
	if owed := b.count(`SELECT count(*) FROM outbox WHERE kind = 'restock'`); owed != 1 {
		t.Errorf("%d restocks are owed to Redis, want 1", owed)
	}
	// A pause that is repeated late does not undo what came after it.
	a := attempt("p", "pause")
	_, _ = b.Claim(b.ctx, a)
	_, err1 := b.SetPaused(flashsale.WithAttempt(b.ctx, a), item.ID, true)
	_, err2 := b.SetPaused(b.ctx, item.ID, false)
	_, err3 := b.SetPaused(flashsale.WithAttempt(b.ctx, a), item.ID, true)
	if now, err := b.Item(b.ctx, item.ID); errors.Join(err, err1, err2, err3) != nil || now.Paused {
		t.Errorf("paused %t, %v %v %v", now.Paused, err1, err2, err3)
	}
}

// Protects the catalogue from a sale that is created twice, and brings back what is gone.
func TestOnce_Sales(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	a := attempt("k", "create")
	if _, err := b.Claim(b.ctx, a); err != nil {
		t.Fatal(err)
	}
	ctx := flashsale.WithAttempt(b.ctx, a)
	sale := flashsale.Sale{
		Name: "twice", Names: map[string]string{"zh": "两次"}, OpensAt: time.Now(), ClosesAt: time.Now().Add(time.Hour),
		Items: []flashsale.Item{{
			Product: "lamp", PriceFen: 1, Total: 3, Limit: 2, PayTimeout: time.Minute,
			Details: &flashsale.Details{Description: "d"},
		}},
	}
	first, err1 := b.CreateSale(ctx, sale)
	again, err2 := b.CreateSale(ctx, sale)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if again.ID != first.ID || again.Items[0].ID != first.Items[0].ID || again.Names["zh"] != "两次" ||
		again.Items[0].Details.Description != "d" || !again.OpensAt.Equal(first.OpensAt) || !a.Replayed {
		t.Errorf("got %+v, first %+v", again, first)
	}
	d := attempt("d", "delete")
	if _, err := b.Claim(b.ctx, d); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		gone, err := b.DeleteSale(flashsale.WithAttempt(b.ctx, d), first.ID, func(context.Context, flashsale.ItemID) error { return nil })
		if err != nil || gone.ID != first.ID {
			t.Errorf("deleted %v, %v", gone.ID, err)
		}
	}
}

// Protects a key from meaning two things, and from being kept for ever.
func TestClaim(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	claim := func(a *flashsale.Attempt) flashsale.Reply {
		t.Helper()
		reply, err := b.Claim(b.ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	if reply := claim(attempt("k", "one")); reply.Status != 0 {
		t.Errorf("a new key has the answer %+v", reply)
	}
	for _, body := range []string{"first", "second"} {
		if err := b.Answered(b.ctx, attempt("k", "one"), flashsale.Reply{Status: 201, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	if reply := claim(attempt("k", "one")); reply.Status != 201 || string(reply.Body) != "first" {
		t.Errorf("replayed %+v", reply)
	}
	if _, err := b.Claim(b.ctx, attempt("k", "two")); !errors.Is(err, flashsale.ErrConflict) {
		t.Errorf("another request under the key: %v", err)
	}
	other := attempt("k", "two")
	other.Scope = "user:ann"
	claim(other)
	b.exec(`UPDATE attempts SET created_at = now() - interval '25 hours'`)
	if reply := claim(attempt("k", "two")); reply.Status != 0 {
		t.Errorf("after a day the key still has the answer %+v", reply)
	}
	if left := b.count(`SELECT count(*) FROM attempts`); left != 1 {
		t.Errorf("%d keys are kept, want the new one", left)
	}
}

// Protects the log of what operators did: in order, in pages, with what is not known, and with
// texts that are too long.
func TestActions(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	for n := range 5 {
		id, err := b.Begin(b.ctx, flashsale.Action{Who: "kim", Action: "pause", Target: "item 1", Detail: strings.Repeat("长", 5000), RequestID: "r"})
		if err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 {
			if err := b.End(b.ctx, id, "200"); err != nil {
				t.Fatal(err)
			}
		}
	}
	page, err := b.Actions(b.ctx, 0, 3)
	if err != nil || len(page) != 3 || page[0].ID != 5 || page[0].Outcome != "200" || page[1].Outcome != "" ||
		page[0].Who != "kim" || page[0].RequestID != "r" || len([]rune(page[0].Detail)) != flashsale.ActionTextMax || page[0].At.IsZero() {
		t.Errorf("got %+v, %v", page, err)
	}
	rest, err := b.Actions(b.ctx, page[2].ID, 3)
	if err != nil || len(rest) != 2 || rest[1].ID != 1 {
		t.Errorf("got %+v, %v", rest, err)
	}
}
