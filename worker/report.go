package worker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"flashsale"
	"flashsale/engine"
)

// Numbers of the invariants, as in the design.
const (
	neverOversold = 1
	withinLimit   = 2
	conservation  = 3
	nothingLost   = 4
	moneyAddsUp   = 5
	atRest        = 6
)

// Bounds of a report: beyond them it counts, and leaves out what is right.
const (
	reportLines = 100
	reportItems = 10_000
)

// Report is the result of an audit.
type Report struct {
	OK         bool         `json:"ok"`
	Moving     bool         `json:"moving"` // orders were on their way, so invariant 6 was not judged
	Invariants []Invariant  `json:"invariants"`
	Items      []ItemReport `json:"items"`

	Money   []flashsale.MoneyFigures `json:"money,omitempty"` // by the way of paying
	Paying  int                      `json:"paying"`          // payments and refunds under way
	Stream  int64                    `json:"stream"`          // orders of all partitions, and entries that are none
	Pending int64                    `json:"pending"`         // entries read but not acknowledged
	Outbox  int64                    `json:"outbox"`
	Dead    int64                    `json:"dead"` // dead letters: their units are stranded until retried or dropped
}

// Invariant is one of the invariants of the design, with the figures of all items together and
// what breaks it, a line each.
type Invariant struct {
	Number  int              `json:"number"`
	Name    string           `json:"name"`
	OK      bool             `json:"ok"`
	Figures map[string]int64 `json:"figures"`
	Broken  []string         `json:"broken,omitempty"`

	more int // lines left out
}

// ItemReport is the sum of an item's units, and of its orders.
type ItemReport struct {
	ItemID      flashsale.ItemID `json:"item"`
	OK          bool             `json:"ok"`
	Total       int64            `json:"total"`
	RedisStock  int64            `json:"redis_stock"`  // 0 when Redis does not hold the item
	LiveUnits   int64            `json:"live_units"`   // in live orders of the ledger
	StreamUnits int64            `json:"stream_units"` // not yet in the ledger
	OwedUnits   int64            `json:"owed_units"`   // in the outbox
	Gap         int64            `json:"gap"`          // units too many (above 0) or stranded (below 0)
	Slack       int64            `json:"slack"`        // 0: the sum is exact; else what was moving
	Oversold    bool             `json:"oversold"`     // more was sold than there is, or more is on sale

	Orders        int64 `json:"orders"`         // of the ledger, whatever became of them
	Sequences     int64 `json:"sequences"`      // distinct ones of this generation's orders in the ledger
	Highest       int64 `json:"highest"`        // of them
	RedisSequence int64 `json:"redis_sequence"` // orders that Redis has accepted in this generation
	Waiting       int64 `json:"waiting"`        // orders in the stream, and dead letters, that the ledger does not know
	Buyers        int64 `json:"buyers"`         // orders that hold units by what Redis says
	ProvedAtMS    int64 `json:"proved_at_ms"`

	paused bool
	seals  map[int64]flashsale.Seal // of generations that are over and have none yet
}

// String is the report for people: a line each invariant, one more for each break.
func (r Report) String() string {
	var b strings.Builder
	for _, invariant := range r.Invariants {
		verdict := "ok"
		if !invariant.OK {
			verdict = "BROKEN"
		}
		fmt.Fprintf(&b, "%d  %-6s  %s\n", invariant.Number, verdict, invariant.Name)
		for _, line := range invariant.Broken {
			fmt.Fprintf(&b, "           %s\n", line)
		}
	}
	for _, item := range r.Items {
		fmt.Fprintf(&b, "item %s: total %d = redis %d + live %d + stream %d + owed %d (gap %d, slack %d)\n",
			item.ItemID, item.Total, item.RedisStock, item.LiveUnits, item.StreamUnits, item.OwedUnits,
			item.Gap, item.Slack)
	}
	for _, m := range r.Money {
		fmt.Fprintf(&b, "%s: received %d = held %d + refunding %d + refunded %d\n",
			m.Method, m.Received, m.Held, m.Refunding, m.Refunded)
	}
	fmt.Fprintf(&b, "stream %d, pending %d, outbox %d, dead %d", r.Stream, r.Pending, r.Outbox, r.Dead)
	if r.Moving {
		b.WriteString("; orders were on their way")
	}
	return b.String()
}

// add puts a line under the invariant.
func (i *Invariant) add(line string) {
	if len(i.Broken) < reportLines {
		i.Broken = append(i.Broken, line)
	} else {
		i.more++
	}
}

// reporter gathers a report.
type reporter struct {
	Report

	byNumber map[int]*Invariant
}

func newReporter() *reporter {
	r := &reporter{byNumber: make(map[int]*Invariant)}
	r.Items = []ItemReport{}
	for number, name := range map[int]string{
		neverOversold: "no item is oversold",
		withinLimit:   "no user holds more than an item's limit",
		conservation:  "every unit is in stock, in an order or on its way between",
		nothingLost:   "every accepted order is in one place, as it was decided, and both stores tell the same",
		atRest:        "at rest, stream, pending entries list and outbox are empty",
	} {
		r.byNumber[number] = &Invariant{Number: number, Name: name, Figures: make(map[string]int64)}
	}
	return r
}

// item takes in what was found out about an item, and what two looks agree is wrong with it.
func (r *reporter) item(e *examination, confirmed findings) {
	item := ItemReport{
		ItemID: e.item.ID, OK: len(confirmed) == 0, Total: e.books.Total,
		LiveUnits: e.liveUnits, StreamUnits: e.streamUnits, OwedUnits: e.owedUnits,
		RedisStock: e.after.Stock, Slack: e.slack,
		Orders: e.orders, Sequences: e.sequences.count, Highest: e.sequences.highest,
		RedisSequence: e.before.Sequence, Waiting: e.waiting,
		Buyers: e.buyers, ProvedAtMS: time.Now().UnixMilli(), paused: e.books.Paused,
	}
	for _, f := range confirmed {
		switch f.kind {
		case "too many":
			item.Gap, item.Oversold = e.gap, true
		case "stranded", "gone":
			item.Gap = e.gap
		case "oversold":
			item.Oversold = true
		}
		r.byNumber[f.invariant].add(fmt.Sprintf("item %d: %s", item.ItemID, f))
	}
	if item.OK {
		item.seals = e.seals
		maps.DeleteFunc(item.seals, func(generation int64, _ flashsale.Seal) bool {
			_, sealed := e.books.Seals[generation]
			return sealed || generation >= e.books.Generation
		})
	}
	r.sum(item, e)
	if len(r.Items) < reportItems || !item.OK {
		r.Items = append(r.Items, item)
	}
}

// sum adds the item to the figures of the invariants.
func (r *reporter) sum(item ItemReport, e *examination) {
	for number, figures := range map[int]map[string]int64{
		neverOversold: {"items": 1, "total": item.Total, "live_units": item.LiveUnits},
		withinLimit:   {"live_orders": e.live, "users_over_limit": e.usersOver},
		conservation: {
			"total": item.Total, "redis_stock": item.RedisStock, "live_units": item.LiveUnits,
			"stream_units": item.StreamUnits, "owed_units": item.OwedUnits, "gap": item.Gap,
		},
		nothingLost: {
			"orders": item.Orders, "sequences": item.Sequences, "highest": item.Highest,
			"redis_sequence": item.RedisSequence, "waiting": item.Waiting, "buyers": item.Buyers,
			"live_orders": e.live,
		},
	} {
		for name, n := range figures {
			r.byNumber[number].Figures[name] += n
		}
	}
	if e.after.State == engine.StateRebuilding {
		r.byNumber[atRest].Figures["rebuilding"]++
	}
}

// money is invariant 5.
func (r *reporter) money(m flashsale.MoneyReport) {
	r.Money, r.Paying = m.Figures, m.Open
	invariant := &Invariant{
		Number: moneyAddsUp, Name: "every payment is an order's, or given back, once",
		Figures: map[string]int64{"under_way": int64(m.Open)},
	}
	r.byNumber[moneyAddsUp] = invariant
	for _, f := range m.Figures {
		for name, n := range map[string]int64{
			"received": f.Received, "held": f.Held, "refunding": f.Refunding, "refunded": f.Refunded,
		} {
			invariant.Figures[string(f.Method)+"_"+name] = n
		}
		if f.Received != f.Held+f.Refunding+f.Refunded {
			invariant.add(fmt.Sprintf("%s: received %d is not held %d + refunding %d + refunded %d",
				f.Method, f.Received, f.Held, f.Refunding, f.Refunded))
		}
	}
	for _, line := range m.Broken {
		invariant.add(line)
	}
}

// rest is invariant 6: what is left at the end of the audit, unless it has moved since its start.
func (r *reporter) rest(first, last, later motion) {
	rest := r.byNumber[atRest]
	for _, p := range last.partitions {
		r.Pending, r.Dead = r.Pending+p.pending, r.Dead+p.dead
	}
	r.Stream, r.Outbox = last.unreadable, last.outbox
	for _, orders := range last.orders {
		r.Stream += orders
	}
	for name, n := range map[string]int64{
		"stream": r.Stream, "pending": r.Pending, "outbox": r.Outbox, "dead": r.Dead,
	} {
		rest.Figures[name] = n
	}
	for _, line := range slices.Concat(last.wrong, last.miscounted(later)) {
		rest.add(line)
	}
	if last.left() == 0 {
		return
	}
	r.Moving = first.outbox != last.outbox || !slices.Equal(first.partitions, last.partitions)
	if !r.Moving {
		rest.add(fmt.Sprintf("%d stream entries (%d unreadable), %d pending, %d outbox rows are left",
			r.Stream, last.unreadable, r.Pending, r.Outbox))
	}
}

// report is what was gathered.
func (r *reporter) report() Report {
	r.OK = true
	slices.SortFunc(r.Items, func(a, b ItemReport) int { return cmp.Compare(a.ItemID, b.ItemID) })
	for _, number := range slices.Sorted(maps.Keys(r.byNumber)) {
		invariant := r.byNumber[number]
		invariant.OK = len(invariant.Broken) == 0
		if invariant.more > 0 {
			invariant.Broken = append(invariant.Broken, fmt.Sprintf("and %d more", invariant.more))
		}
		r.OK = r.OK && invariant.OK
		r.Invariants = append(r.Invariants, *invariant)
	}
	return r.Report
}
