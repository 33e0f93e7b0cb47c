package worker

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"flashsale"
	"flashsale/engine"
)

const examplesMax = 20

// Difference tells how far Redis and the ledger are apart in one item.
type Difference struct {
	ItemID          flashsale.ItemID `json:"item"`
	Generation      int64            `json:"generation"`       // of the ledger, before the rebuild
	RedisGeneration int64            `json:"redis_generation"` // 0: Redis has no account
	Stock           int64            `json:"stock"`            // what Redis should hold
	RedisStock      int64            `json:"redis_stock"`

	Unreadable bool     `json:"unreadable,omitempty"` // what Redis holds is not ours; nothing else was compared
	Fields     int      `json:"fields"`               // limit and times of the account that are not the ledger's
	Missing    int      `json:"missing"`              // live orders that Redis has forgotten
	Unknown    int      `json:"unknown"`              // orders in Redis that the ledger does not count
	Changed    int      `json:"changed"`              // orders of another user or quantity
	Examples   []string `json:"examples,omitempty"`   // the first few of them

	Fenced  bool  `json:"fenced"`            // false: compared while both moved, so orders on their way count
	Rebuilt int64 `json:"rebuilt,omitempty"` // generation in which the item was opened again; 0: left as it was
}

// Intact reports whether Redis holds exactly what the ledger says.
func (d Difference) Intact() bool {
	return !d.Unreadable && d.RedisGeneration == d.Generation && d.RedisStock == d.Stock &&
		d.Fields+d.Missing+d.Unknown+d.Changed == 0
}

// String is the difference for people: one line, and one more for each example.
func (d Difference) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "item %s: ", d.ItemID)
	switch {
	case d.Intact():
		fmt.Fprintf(&b, "intact, generation %d, stock %d", d.Generation, d.Stock)
	case d.Unreadable:
		fmt.Fprintf(&b, "what Redis holds cannot be read, the ledger is at generation %d", d.Generation)
	default:
		fmt.Fprintf(&b, "generation %d in Redis and %d in the ledger, stock %d instead of %d, "+
			"%d orders missing, %d unknown to the ledger, %d changed, %d fields wrong", d.RedisGeneration,
			d.Generation, d.RedisStock, d.Stock, d.Missing, d.Unknown, d.Changed, d.Fields)
	}
	if d.Rebuilt > 0 {
		fmt.Fprintf(&b, "; rebuilt in generation %d", d.Rebuilt)
	}
	if !d.Fenced {
		b.WriteString("; compared without a fence: orders on their way count as differences")
	}
	for _, example := range d.Examples {
		b.WriteString("\n  " + example)
	}
	if all := d.Fields + d.Missing + d.Unknown + d.Changed; all > len(d.Examples) {
		fmt.Fprintf(&b, "\n  and %d more", all-len(d.Examples))
	}
	return b.String()
}

func (d *Difference) addf(count *int, format string, args ...any) {
	*count++
	if len(d.Examples) < examplesMax {
		d.Examples = append(d.Examples, fmt.Sprintf(format, args...))
	}
}

// redisItem is an item as Redis holds it.
type redisItem struct {
	account    engine.Account
	orders     map[flashsale.OrderNo]flashsale.Order
	unreadable bool
}

// compare holds Redis against the ledger. A release that is owed may have been carried out
// without being struck off; whether its order is still among the buyers tells. So does the
// number of the last restock.
func compare(redis redisItem, ledger flashsale.RebuildState) Difference {
	account, item := redis.account, ledger.Item
	d := Difference{
		ItemID: item.ID, Generation: item.Generation, RedisGeneration: account.Generation,
		Stock: item.Stock, RedisStock: account.Stock, Unreadable: redis.unreadable,
	}
	if redis.unreadable {
		return d
	}
	expected := make(map[flashsale.OrderNo]flashsale.Order, len(ledger.Orders))
	for _, order := range ledger.Orders {
		if order.Status.Live() {
			expected[order.OrderNo] = order
		}
	}
	for _, row := range ledger.Owed {
		switch row.Kind {
		case flashsale.Release:
			if _, held := redis.orders[row.OrderNo]; held {
				d.Stock -= int64(row.Quantity)
				expected[row.OrderNo] = flashsale.Order{OrderNo: row.OrderNo, User: row.User, Quantity: row.Quantity}
			}
		case flashsale.Restock:
			if row.ID > account.Restock {
				d.Stock -= int64(row.Quantity)
			}
		}
	}
	if account.Generation > 0 {
		d.compareFields("limit", int64(account.Limit), int64(item.Limit))
		d.compareFields("opens_at_ms", account.OpensAt.UnixMilli(), item.OpensAt.UnixMilli())
		d.compareFields("closes_at_ms", account.ClosesAt.UnixMilli(), item.ClosesAt.UnixMilli())
	}
	for _, no := range slices.Sorted(maps.Keys(expected)) {
		want := expected[no]
		got, held := redis.orders[no]
		switch {
		case !held:
			d.addf(&d.Missing, "missing: order %s of %s for %d", no, want.User, want.Quantity)
		case got.User != want.User || got.Quantity != want.Quantity:
			d.addf(&d.Changed, "changed: order %s of %s for %d is of %s for %d in Redis",
				no, want.User, want.Quantity, got.User, got.Quantity)
		}
	}
	for _, no := range slices.Sorted(maps.Keys(redis.orders)) {
		if _, ok := expected[no]; !ok {
			got := redis.orders[no]
			d.addf(&d.Unknown, "unknown to the ledger: order %s of %s for %d", no, got.User, got.Quantity)
		}
	}
	return d
}

func (d *Difference) compareFields(name string, got, want int64) {
	if got != want {
		d.addf(&d.Fields, "%s is %d in Redis and %d in the ledger", name, got, want)
	}
}
