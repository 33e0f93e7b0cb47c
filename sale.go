package flashsale

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
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
	DescriptionMax = 2_000 // characters
	ImageURLLenMax = 2_048
	LanguagesMax   = 16 // of one text
	PayTimeoutMin  = time.Second
	PayTimeoutMax  = 30 * 24 * time.Hour
	DefaultTimeout = 15 * time.Minute // pay timeout of an item that names none
)

// KeptAfterClose is how long after its close an item stays in Redis: idempotency keys name their
// orders until then, and what comes late finds its account.
const KeptAfterClose = 24 * time.Hour

// Sale is a timed event.
type Sale struct {
	ID        SaleID
	Name      string
	Names     map[string]string // by language; nil: the same in all
	HideLeft  bool              // shoppers are not told how much is left
	OpensAt   time.Time
	ClosesAt  time.Time
	ItemCount int // of all items, of which a list holds the first
	Items     []Item
}

// SaleState is where a sale stands in its window.
type SaleState string

// The states of a sale.
const (
	SaleUpcoming SaleState = "upcoming"
	SaleOpen     SaleState = "open"
	SaleEnded    SaleState = "ended"
)

// Valid reports whether there is such a state.
func (s SaleState) Valid() bool { return s == SaleUpcoming || s == SaleOpen || s == SaleEnded }

// StateAt derives the state of the sale at a moment.
func (s Sale) StateAt(now time.Time) SaleState {
	switch {
	case now.Before(s.OpensAt):
		return SaleUpcoming
	case now.Before(s.ClosesAt):
		return SaleOpen
	default:
		return SaleEnded
	}
}

// SalesQuery asks for a page of sales, newest first.
type SalesQuery struct {
	State  SaleState // "": all
	At     time.Time // the moment for which State is meant
	Before SaleID    // sales below it; 0: from the newest
	Limit  int
	Items  int // how many items of each sale the page holds at most
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
	// Read for the catalogue only:
	HideLeft bool     // as the sale
	Details  *Details // nil: none
}

// Details tell how a shop shows an item. All are optional, and none matters to the sale.
type Details struct {
	Description  string
	ImageURL     string            // https, or a path of the shop itself
	ListPriceFen int64             // what it costs elsewhere; 0: not told
	Names        map[string]string // of the product, by language
	Descriptions map[string]string // by language
}

// Empty reports whether nothing is told.
func (d *Details) Empty() bool {
	return d == nil || d.Description == "" && d.ImageURL == "" && d.ListPriceFen == 0 &&
		len(d.Names) == 0 && len(d.Descriptions) == 0
}

// LeftPercent is how much of the total is left, given the units left: a whole number that is 0
// only when nothing is, so that it tells nobody the exact stock.
func (i Item) LeftPercent(stock int64) int64 {
	if i.Total <= 0 {
		return 0
	}
	stock = min(max(stock, 0), i.Total)
	return (100*stock + i.Total - 1) / i.Total
}

// Title is what an order says of its item: it never changes.
type Title struct {
	SaleID    SaleID
	SaleName  string
	SaleNames map[string]string
	Product   string
	Names     map[string]string
	ImageURL  string
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
	case !validTexts(s.Names, validName):
		return fmt.Errorf("names must be at most %d names, each by a language such as zh or zh-CN", LanguagesMax)
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
	case i.Details != nil:
		return i.Details.validate(i.PriceFen)
	}
	return nil
}

func (d Details) validate(priceFen int64) error {
	switch {
	case !validTexts(d.Names, validName):
		return fmt.Errorf("names must be at most %d names, each by a language such as zh or zh-CN", LanguagesMax)
	case d.Description != "" && !validDescription(d.Description):
		return fmt.Errorf("description must be at most %d printable characters", DescriptionMax)
	case !validTexts(d.Descriptions, validDescription):
		return fmt.Errorf("descriptions must be at most %d texts of at most %d printable characters, each by a language such as zh or zh-CN",
			LanguagesMax, DescriptionMax)
	case d.ImageURL != "" && !validImageURL(d.ImageURL):
		return fmt.Errorf("image_url must be an https address, or a path that begins with one slash, of at most %d characters", ImageURLLenMax)
	case d.ListPriceFen != 0 && (d.ListPriceFen < priceFen || d.ListPriceFen > PriceFenMax):
		return fmt.Errorf("list_price_fen must be from price_fen to %d", int64(PriceFenMax))
	}
	return nil
}

// validName accepts what a person can read in one line: no control characters, no broken UTF-8.
func validName(name string) bool {
	return name != "" && utf8.RuneCountInString(name) <= NameLenMax && !strings.ContainsFunc(name, unreadable)
}

// validDescription accepts what a person can read in several lines.
func validDescription(text string) bool {
	return text != "" && utf8.RuneCountInString(text) <= DescriptionMax &&
		!strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && unreadable(r) })
}

func unreadable(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }

var language = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$`)

func validTexts(texts map[string]string, valid func(string) bool) bool {
	return len(texts) <= LanguagesMax &&
		!slices.ContainsFunc(slices.Collect(maps.Keys(texts)), func(tag string) bool {
			return !language.MatchString(tag) || !valid(texts[tag])
		})
}

// validImageURL accepts what the page's security policy lets a browser load.
func validImageURL(text string) bool {
	if len(text) > ImageURLLenMax || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '\\' || unreadable(r) }) {
		return false
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.User != nil {
		return false
	}
	if parsed.Scheme == "" {
		return strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//")
	}
	return parsed.Scheme == "https" && parsed.Host != ""
}
