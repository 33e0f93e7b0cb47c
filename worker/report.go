package worker

import (
	"fmt"
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
	moneyAddsUp   = 5
	atRest        = 6
)

// Report is the result of an audit.
type Report struct {
	OK         bool         `json:"ok"`
	Moving     bool         `json:"moving"` // orders were on their way, so invariant 6 was not judged
	Invariants []Invariant  `json:"invariants"`
	Items      []ItemReport `json:"items"`

	Money   []flashsale.MoneyFigures `json:"money,omitempty"` // by the way of paying
	Paying  int                      `json:"paying"`          // payments and refunds under way
	Stream  int64                    `json:"stream"`          // entries of all partitions
	Pending int64                    `json:"pending"`         // of them read but not acknowledged
	Outbox  int64                    `json:"outbox"`
	Dead    int64                    `json:"dead"` // dead letters: their units are stranded until re-driven or dropped
}

// Invariant is one of the invariants of the design with what breaks it, a line each.
type Invariant struct {
	Number int      `json:"number"`
	Name   string   `json:"name"`
	OK     bool     `json:"ok"`
	Broken []string `json:"broken,omitempty"`
}

// ItemReport is the sum of an item's units.
type ItemReport struct {
	ItemID      flashsale.ItemID `json:"item"`
	Total       int64            `json:"total"`
	RedisStock  int64            `json:"redis_stock"`  // 0 when Redis does not hold the item
	LiveUnits   int64            `json:"live_units"`   // in live orders of the ledger
	StreamUnits int64            `json:"stream_units"` // not yet in the ledger
	OwedUnits   int64            `json:"owed_units"`   // in the outbox
	Gap         int64            `json:"gap"`          // units too many (above 0) or stranded (below 0)
	Slack       int64            `json:"slack"`        // 0: the sum is exact; else what was moving
	Oversold    bool             `json:"oversold"`     // more was sold than there is, or more is on sale

	paused bool
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

// judge makes a report of a sample. What takes two looks is broken only if it was so in the
// previous sample too; without one it is, and so makes the caller look again.
func (s *sample) judge(previous, first *sample) Report {
	r := Report{
		Items:   make([]ItemReport, 0, len(s.figures.Items)),
		Stream:  int64(len(s.stream.units) + s.stream.unreadable),
		Pending: s.stream.pending,
		Outbox:  int64(s.figures.Outbox),
		Dead:    s.stream.dead,
	}
	oversold := Invariant{Number: neverOversold, Name: "no item is oversold"}
	limit := Invariant{Number: withinLimit, Name: "no user holds more than an item's limit"}
	sum := Invariant{Number: conservation, Name: "every unit is in stock, in an order or on its way between"}
	rest := Invariant{Number: atRest, Name: "at rest, stream, pending entries list and outbox are empty"}
	for _, item := range s.figures.Items {
		ledger := ledgerFault(item)
		oversold.add(ledger)
		if item.UsersOverLimit > 0 {
			limit.add(fmt.Sprintf("item %d: %d users hold more than %d units", item.ID, item.UsersOverLimit, item.Limit))
		}
		figures, fault := s.conserve(item)
		if !previous.alsoBroken(item.ID) {
			figures.Gap, fault = 0, "" // seen once: look again first
		}
		sum.add(fault)
		figures.Oversold, figures.paused = ledger != "" || figures.Gap > 0, item.Paused
		if s.after[item.ID].State == engine.StateRebuilding {
			rest.add(fmt.Sprintf("item %d: off sale until it is rebuilt", item.ID))
		}
		r.Items = append(r.Items, figures)
	}
	if r.Dead > 0 && len(sum.Broken) > 0 {
		sum.add(fmt.Sprintf("%d dead letters hold units until they are re-driven or dropped", r.Dead))
	}
	if r.Stream+r.Pending+r.Outbox > 0 {
		r.Moving = first != nil && s.movedSince(first)
		if !r.Moving {
			rest.add(fmt.Sprintf("%d stream entries (%d unreadable), %d pending, %d outbox rows are left",
				r.Stream, s.stream.unreadable, r.Pending, r.Outbox))
		}
	}
	r.OK = true
	invariants := []Invariant{oversold, limit, sum, rest}
	if s.money != nil {
		r.Money, r.Paying = s.money.Figures, s.money.Open
		invariants = slices.Insert(invariants, len(invariants)-1, s.judgeMoney(previous))
	}
	for _, invariant := range invariants {
		invariant.OK = len(invariant.Broken) == 0
		r.OK = r.OK && invariant.OK
		r.Invariants = append(r.Invariants, invariant)
	}
	return r
}

// judgeMoney is invariant 5. A contradiction that only one of two samples shows was a payment
// under way.
func (s *sample) judgeMoney(previous *sample) Invariant {
	money := Invariant{Number: moneyAddsUp, Name: "every payment is an order's, or given back, once"}
	for _, m := range s.money.Figures {
		if m.Received != m.Held+m.Refunding+m.Refunded {
			money.add(fmt.Sprintf("%s: received %d is not held %d + refunding %d + refunded %d",
				m.Method, m.Received, m.Held, m.Refunding, m.Refunded))
		}
	}
	for _, line := range s.money.Broken {
		if previous == nil || previous.money == nil || slices.Contains(previous.money.Broken, line) {
			money.add(line)
		}
	}
	return money
}

func (i *Invariant) add(line string) {
	if line != "" {
		i.Broken = append(i.Broken, line)
	}
}

// ledgerFault tells where the ledger contradicts itself, which one snapshot shows exactly.
func ledgerFault(item flashsale.ItemFigures) string {
	switch {
	case item.LiveUnits > item.Total:
		return fmt.Sprintf("item %d: oversold, %d units in live orders of %d", item.ID, item.LiveUnits, item.Total)
	case item.Stock+item.LiveUnits != item.Total:
		return fmt.Sprintf("item %d: the ledger's stock %d and live orders %d do not add up to %d",
			item.ID, item.Stock, item.LiveUnits, item.Total)
	}
	return ""
}

// alsoBroken reports whether the item's sum was wrong in this sample as well. A missing sample
// contradicts nothing.
func (s *sample) alsoBroken(item flashsale.ItemID) bool {
	if s == nil {
		return true
	}
	for _, figures := range s.figures.Items {
		if figures.ID == item {
			_, fault := s.conserve(figures)
			return fault != ""
		}
	}
	return false
}

// conserve adds an item's units up, between the bounds that [Auditor] derives.
func (s *sample) conserve(item flashsale.ItemFigures) (r ItemReport, fault string) {
	before, wasThere := s.before[item.ID]
	after, isThere := s.after[item.ID]
	r = ItemReport{
		ItemID: item.ID, Total: item.Total, RedisStock: after.Stock, LiveUnits: item.LiveUnits,
		StreamUnits: s.unknownAfter[item.ID], OwedUnits: item.OwedUnits,
	}
	switch {
	case item.Generation == 0:
		return r, "" // not on sale yet: nothing but the ledger to ask
	case !isThere && !wasThere && over(item) && s.unknownBefore[item.ID] == 0:
		return r, "" // removed from Redis after its sale
	case !isThere && !wasThere:
		r.Gap = r.LiveUnits + r.StreamUnits + r.OwedUnits - r.Total
		return r, fmt.Sprintf("item %d: not in Redis, though loaded %d times: run `flashsale sale rebuild`",
			item.ID, item.Generation)
	case before.State == engine.StateRebuilding || after.State == engine.StateRebuilding:
		return r, "" // behind a fence: the guardian is comparing it
	case isThere != wasThere || before.Generation != after.Generation:
		return r, "" // being loaded or rebuilt at this moment
	case after.Generation != item.Generation:
		return r, fmt.Sprintf("item %d: Redis holds generation %d, the ledger %d: run `flashsale sale rebuild`",
			item.ID, after.Generation, item.Generation)
	case after.Sequence < item.Sequence:
		return r, fmt.Sprintf("item %d: Redis is at order %d, the ledger has seen %d: Redis lost writes, run `flashsale sale rebuild`",
			item.ID, after.Sequence, item.Sequence)
	}

	var back int64 // units that may have come back between the two looks at the account
	if before.Epoch != after.Epoch {
		back = max(0, after.Stock-before.Stock+(after.Sequence-before.Sequence)*int64(item.Limit))
	}
	lowest := after.Stock + s.unknownAfter[item.ID] + item.LiveUnits - back // nothing owed any more
	highest := before.Stock + s.unknownBefore[item.ID] + item.LiveUnits + item.OwedUnits + back
	r.Slack = highest - lowest
	switch {
	case lowest > item.Total:
		r.Gap = lowest - item.Total
		fault = fmt.Sprintf("item %d: %d units too many: ", item.ID, r.Gap)
	case highest < item.Total:
		r.Gap = highest - item.Total
		fault = fmt.Sprintf("item %d: %d units stranded: ", item.ID, -r.Gap)
	default:
		return r, ""
	}
	return r, fault + fmt.Sprintf("redis %d + live %d + stream %d + owed %d, but total %d",
		r.RedisStock, r.LiveUnits, r.StreamUnits, r.OwedUnits, r.Total)
}

func over(item flashsale.ItemFigures) bool { return time.Now().After(item.ClosesAt) }

// movedSince reports whether anything went on between two samples.
func (s *sample) movedSince(first *sample) bool {
	return s.stream.oldest != first.stream.oldest || s.stream.pending != first.stream.pending ||
		len(s.stream.units) != len(first.stream.units) ||
		s.figures.Outbox != first.figures.Outbox || movements(s.after) != movements(first.after)
}

// movements counts what the accounts have seen.
func movements(accounts map[flashsale.ItemID]engine.Account) (n int64) {
	for _, account := range accounts {
		n += account.Sequence + account.Epoch
	}
	return n
}
