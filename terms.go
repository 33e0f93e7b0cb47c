package flashsale

import (
	"fmt"
	"time"
)

// Terms are what a way to pay takes, stated by the way itself.
type Terms struct {
	Method        Method
	AmountMax     int64         // of one order, in fen or points
	PayTimeoutMin time.Duration // with less time than that nobody can pay in this way
	Offered       bool          // the shop is set up for it
}

// CheckPayable reports the first field of a sale with which orders could never be paid, by its JSON
// name: an amount that a way to pay cannot take, or an item that none of the ways that the shop
// offers can pay. A shop that offers none sells what is paid elsewhere.
func (s Sale) CheckPayable(ways []Terms) error {
	for n, item := range s.Items {
		if err := item.checkPayable(ways); err != nil {
			return fmt.Errorf("items[%d].%w", n, err)
		}
	}
	return nil
}

func (i Item) checkPayable(ways []Terms) error {
	var offered, priced bool
	var least Terms // of the offered ways that the item has a price for: the quickest
	for _, way := range ways {
		field, price := i.price(way.Method)
		if price > way.AmountMax/int64(max(i.Limit, 1)) {
			return fmt.Errorf("%s × limit is %d, and %s takes at most %d for one order",
				field, price*int64(i.Limit), way.Method, way.AmountMax)
		}
		offered = offered || way.Offered
		if way.Offered && price > 0 && (!priced || way.PayTimeoutMin < least.PayTimeoutMin) {
			priced, least = true, way
		}
	}
	switch {
	case !offered:
		return nil
	case !priced:
		return fmt.Errorf("points_price must be positive: the shop takes nothing but points, so nobody could pay")
	case i.PayTimeout < least.PayTimeoutMin:
		return fmt.Errorf("pay_timeout_s must be at least %d: %s needs that much, and nothing quicker can pay the item",
			int64((least.PayTimeoutMin+time.Second-1)/time.Second), least.Method)
	}
	return nil
}

// price is what one unit costs in a way to pay, 0 if it cannot be paid so, and the field it stands in.
func (i Item) price(method Method) (field string, amount int64) {
	if method == Points {
		return "points_price", i.PointsPrice
	}
	return "price_fen", i.PriceFen
}
