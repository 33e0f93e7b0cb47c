package worker

import (
	"errors"
	"testing"

	"flashsale"
	"flashsale/engine"
)

// Loading is repeatable, also after a crash between Redis and the ledger's commit; an item
// that Redis has lost is refused, by the name of what helps, and does not stop the others.
func TestPreheater(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.ledger.addItem(2, 20)
	p := NewPreheater(s.ledger, s.engine, nil)

	s.ledger.onOutbox = func() error { return errAway }
	if err := p.PreheatSale(t.Context(), 1); !errors.Is(err, errAway) {
		t.Fatalf("crash before the commit: %v", err)
	}
	if g := s.ledger.items[2].Generation; g != 0 {
		t.Fatalf("generation %d without a commit", g)
	}
	s.ledger.onOutbox = nil
	for range 2 {
		if err := p.PreheatSale(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := s.engine.Reserve(t.Context(), engine.Request{Item: 2, User: "ann", Quantity: 1}); err != nil || r.Outcome != flashsale.Accepted {
		t.Fatalf("reserve: %+v, %v", r, err)
	}
	if err := p.PreheatSale(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if a, err := s.engine.Item(t.Context(), 2); err != nil || a.Stock != 19 || a.Generation != 1 {
		t.Errorf("a live item was changed: %+v, %v", a, err)
	}

	s.client.Del(t.Context(), engine.ItemKey(0, 1), engine.ItemKey(0, 2), engine.BuyersKey(0, 2))
	s.ledger.addItem(3, 30)
	if err := p.PreheatSale(t.Context(), 1); !errors.Is(err, ErrLost) {
		t.Errorf("lost items: %v, want %v", err, ErrLost)
	}
	if _, err := s.engine.Item(t.Context(), 2); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("a lost item was loaded again: %v", err)
	}
	if a, err := s.engine.Item(t.Context(), 3); err != nil || a.Stock != 30 {
		t.Errorf("the new item beside the lost ones: %+v, %v", a, err)
	}
	if err := p.PreheatSale(t.Context(), 77); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("unknown sale: %v", err)
	}
}

// Redis and the ledger must be of one generation, and buyers without an account are a loss.
func TestPreheater_Contradictions(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	p := NewPreheater(s.ledger, s.engine, nil)
	s.client.HSet(t.Context(), engine.BuyersKey(0, 1), "ann", "1 1 ")
	if err := p.PreheatSale(t.Context(), 1); !errors.Is(err, ErrLost) {
		t.Errorf("buyers only: %v", err)
	}
	s.client.Del(t.Context(), engine.BuyersKey(0, 1))
	if err := p.PreheatSale(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	s.ledger.items[1].Generation = 2
	if err := p.PreheatSale(t.Context(), 1); err == nil {
		t.Error("another generation was accepted")
	}
}
