package flashsale

import "time"

// DeadFilter chooses dead letters. The zero filter chooses all.
type DeadFilter struct {
	IDs    []string // these only; empty: all
	Item   ItemID   // 0: of any
	Reason string   // part of the reason, in any case
}

// ItemChange is what an operator changes of an item. Members that are nil stay as they are; all are
// what shall be, so that asking again changes nothing more.
type ItemChange struct {
	OpensAt     *time.Time // before it has opened
	ClosesAt    *time.Time
	PriceFen    *int64 // before it has opened
	PointsPrice *int64 // before it has opened
	Limit       *int   // no less than what any user holds
	Total       *int64 // all units offered, no less than what is held
}

// Empty reports whether nothing is to be changed.
func (c ItemChange) Empty() bool { return c == ItemChange{} }

// InRedis reports whether Redis has to know of the change.
func (c ItemChange) InRedis() bool {
	return c.OpensAt != nil || c.ClosesAt != nil || c.Limit != nil || c.Total != nil
}

// BeforeOpening reports whether the change may be made only while nobody can have bought.
func (c ItemChange) BeforeOpening() bool {
	return c.OpensAt != nil || c.PriceFen != nil || c.PointsPrice != nil
}

// Apply returns the item as it would be.
func (c ItemChange) Apply(item Item) Item {
	set(&item.OpensAt, c.OpensAt)
	set(&item.ClosesAt, c.ClosesAt)
	set(&item.PriceFen, c.PriceFen)
	set(&item.PointsPrice, c.PointsPrice)
	set(&item.Limit, c.Limit)
	if c.Total != nil {
		item.Stock += *c.Total - item.Total
		item.Total = *c.Total
	}
	return item
}

func set[T any](field, to *T) {
	if to != nil {
		*field = *to
	}
}

// ValidateChange reports the first field of a changed item that is not acceptable, by its JSON name,
// whatever it was before.
func (i Item) ValidateChange(now time.Time) error {
	sale := Sale{Name: "sale", OpensAt: i.OpensAt, ClosesAt: i.ClosesAt, Items: []Item{i}}
	if err := i.validate(); err != nil {
		return err
	}
	return sale.ValidateNew(now)
}
