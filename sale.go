package flashsale

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// ItemState is what a shopper sees of an item.
type ItemState string

// The states of an item.
const (
	StateUpcoming ItemState = "upcoming"
	StateOpen     ItemState = "open"
	StateSoldOut  ItemState = "sold_out"
	StateEnded    ItemState = "ended"
	StatePaused   ItemState = "paused"
)

// Bounds of a sale, so that no sum of amounts or units can overflow 63 bits
// (or the 53 bits in which Lua counts).
const (
	StockMax       = 100_000_000
	LimitMax       = 10_000
	PriceFenMax    = 100_000_000_00
	NameLenMax     = 200 // characters
	SaleItemsMax   = 1_000
	PayTimeoutMin  = time.Second
	PayTimeoutMax  = 30 * 24 * time.Hour
	DefaultTimeout = 15 * time.Minute // pay timeout of an item that names none
)

// KeptAfterClose is how long after its close an item stays in Redis: idempotency keys name their
// orders until then, and what comes late finds its account.
const KeptAfterClose = 24 * time.Hour

// Sale is a timed event.
type Sale struct {
	ID       SaleID
	Name     string
	OpensAt  time.Time
	ClosesAt time.Time
	Items    []Item
}

// Item is a product sold in a sale, with its own stock.
type Item struct {
	ID          ItemID
	SaleID      SaleID
	Product     string
	PriceFen    int64
	PointsPrice int64     // 0: not payable with points
	Total       int64     // units offered
	Stock       int64     // units not held by live orders of the ledger
	Limit       int       // units that one user may hold
	OpensAt     time.Time // in a new sale zero means: as the sale
	ClosesAt    time.Time
	PayTimeout  time.Duration
	Paused      bool
	Generation  int64 // 0: never loaded into Redis
}

// StateAt derives what a shopper sees at a moment, given the units left.
func (i Item) StateAt(now time.Time, stock int64) ItemState {
	switch {
	case !now.Before(i.ClosesAt):
		return StateEnded
	case i.Paused:
		return StatePaused
	case now.Before(i.OpensAt):
		return StateUpcoming
	case stock <= 0:
		return StateSoldOut
	default:
		return StateOpen
	}
}

// Validate reports the first field of a new sale that is not acceptable, by its JSON name.
func (s Sale) Validate() error {
	switch {
	case !validName(s.Name):
		return fmt.Errorf("name must be 1 to %d printable characters", NameLenMax)
	case s.OpensAt.UnixMilli() <= 0:
		return fmt.Errorf("opens_at_ms must be positive")
	case !s.OpensAt.Before(s.ClosesAt):
		return fmt.Errorf("closes_at_ms (%s) must be after opens_at_ms (%s)", readBack(s.ClosesAt), readBack(s.OpensAt))
	case s.ClosesAt.Year() > 9999:
		return fmt.Errorf("closes_at_ms must lie before the year 10000")
	case len(s.Items) == 0 || len(s.Items) > SaleItemsMax:
		return fmt.Errorf("items must have 1 to %d entries", SaleItemsMax)
	}
	for n, item := range s.Items {
		if err := item.validate(); err != nil {
			return fmt.Errorf("items[%d].%w", n, err)
		}
	}
	return nil
}

// millisFrom is where milliseconds are told from seconds: before it lies 2001, after it, in
// seconds, the year 33658.
const millisFrom = 1_000_000_000_000

// ValidateNew is Validate for a sale that is about to be created: its window is not over, and was
// not given in seconds.
func (s Sale) ValidateNew(now time.Time) error {
	if err := s.Validate(); err != nil {
		return err
	}
	for _, moment := range []struct {
		name string
		at   time.Time
	}{{"opens_at_ms", s.OpensAt}, {"closes_at_ms", s.ClosesAt}} {
		if ms := moment.at.UnixMilli(); ms < millisFrom {
			return fmt.Errorf("%s %d would be %s: give milliseconds, not seconds", moment.name, ms, readBack(moment.at))
		}
	}
	if !now.Before(s.ClosesAt) {
		return fmt.Errorf("closes_at_ms %d is %s, which is over: it is %s now",
			s.ClosesAt.UnixMilli(), readBack(s.ClosesAt), readBack(now))
	}
	return nil
}

func readBack(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (i Item) validate() error {
	switch {
	case !validName(i.Product):
		return fmt.Errorf("product must be 1 to %d printable characters", NameLenMax)
	case i.PriceFen < 1 || i.PriceFen > PriceFenMax:
		return fmt.Errorf("price_fen must be from 1 to %d", int64(PriceFenMax))
	case i.PointsPrice < 0 || i.PointsPrice > PriceFenMax:
		return fmt.Errorf("points_price must be from 0 to %d", int64(PriceFenMax))
	case i.Total < 1 || i.Total > StockMax:
		return fmt.Errorf("stock must be from 1 to %d", StockMax)
	case i.Limit < 1 || i.Limit > LimitMax:
		return fmt.Errorf("limit must be from 1 to %d", LimitMax)
	case i.PayTimeout < PayTimeoutMin || i.PayTimeout > PayTimeoutMax:
		return fmt.Errorf("pay_timeout_s must be from %d to %d",
			int(PayTimeoutMin.Seconds()), int(PayTimeoutMax.Seconds()))
	}
	return nil
}

// validName accepts what a person can read: no control characters, no broken UTF-8.
func validName(name string) bool {
	if name == "" || utf8.RuneCountInString(name) > NameLenMax {
		return false
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return false
		}
	}
	return true
}
