package compare

import (
	"fmt"
	"strings"

	"flashsale/bench/baseline"
)

// told is what users were answered.
type told struct {
	Accepted   []baseline.Order
	Duplicate  []string // users who were told that they hold an order
	SoldOut    int64
	Overloaded int64
	Lost       int64 // no answer, or one that says nothing
}

// verdict counts what is wrong with a sale. Its zero value is an exact one.
type verdict struct {
	Oversold int64 // orders, or promises, that no unit stands behind
	Doubled  int64 // orders beyond one a user
	Stranded int64 // units that are neither sold nor left, or left though it was said they were sold out
	Untrue   int64 // answers that the store does not bear out
	Lost     int64 // requests without an answer
}

// check compares what was on sale, what users were told, and what the stores hold at rest.
func check(stock int64, told told, state baseline.State) (v verdict) {
	orders, promised := int64(len(state.Orders)), int64(len(told.Accepted))
	// An order that has cost no unit is oversold also while others are left: the last unit
	// will be missing.
	v.Oversold = max(0, orders-stock, promised-stock, orders+state.Left-stock)
	v.Stranded = max(0, stock-orders-state.Left)
	if told.SoldOut > 0 {
		v.Stranded += state.Left
	}
	v.Lost = told.Lost
	numbers := make(map[int64]string, len(state.Orders))
	holders := make(map[string]bool, len(state.Orders))
	for _, order := range state.Orders {
		if holders[order.User] {
			v.Doubled++
		}
		numbers[order.Number], holders[order.User] = order.User, true
	}
	for _, promise := range told.Accepted {
		if numbers[promise.Number] != promise.User {
			v.Untrue++
		}
	}
	for _, user := range told.Duplicate {
		if !holders[user] {
			v.Untrue++
		}
	}
	return v
}

func (v verdict) wrong() bool { return v != verdict{} }

// String is the verdict in words.
func (v verdict) String() string {
	if !v.wrong() {
		return "exact"
	}
	var parts []string
	for _, part := range []struct {
		count int64
		text  string
	}{
		{v.Oversold, "oversold by %d"},
		{v.Doubled, "%d orders too many for their users"},
		{v.Stranded, "%d units stranded"},
		{v.Untrue, "%d answers not true"},
		{v.Lost, "%d requests without an answer"},
	} {
		if part.count > 0 {
			parts = append(parts, fmt.Sprintf(part.text, part.count))
		}
	}
	return strings.Join(parts, ", ")
}
