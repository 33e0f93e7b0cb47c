package engine

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"flashsale"
)

// Orders returns the orders that a user holds of the given items by what Redis says, as
// pending: whether the ledger has confirmed them only the ledger knows. It asks about all items
// in one round trip. With an error it returns what it could read.
func (e *Engine) Orders(ctx context.Context, user string, items []flashsale.ItemID) ([]flashsale.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	reads := make([]rueidis.Completed, len(items))
	for n, item := range items {
		reads[n] = e.client.B().Hget().Key(BuyersKey(e.Partition(item), item)).Field(user).Build()
	}
	var (
		orders []flashsale.Order
		failed error
	)
	for n, result := range e.client.DoMulti(ctx, reads...) {
		if isNil(result) {
			continue
		}
		item := items[n]
		entry, err := result.ToString()
		if err != nil {
			failed = fmt.Errorf("orders of item %d: %w", item, err)
			continue
		}
		held, err := parseEntry(item, user, entry)
		if err != nil {
			failed = err
			continue
		}
		orders = append(orders, held...)
	}
	return orders, failed
}

// Buyers calls fn for every user who holds the item by what Redis says. It pages through a
// hash that may change meanwhile: whoever holds the item throughout is seen, at least once.
func (e *Engine) Buyers(ctx context.Context, item flashsale.ItemID,
	fn func(user string, orders []flashsale.Order) error,
) error {
	return e.scanBuyers(ctx, item, func(user, entry string) error {
		orders, err := parseEntry(item, user, entry)
		if err != nil || len(orders) == 0 {
			return err
		}
		return fn(user, orders)
	})
}

func (e *Engine) scanBuyers(ctx context.Context, item flashsale.ItemID, fn func(user, entry string) error) error {
	key := BuyersKey(e.Partition(item), item)
	for cursor := uint64(0); ; {
		page, err := e.scanPage(ctx, key, cursor)
		if err != nil {
			return fmt.Errorf("scan buyers of item %d: %w", item, unreadable(err))
		}
		for i := 0; i+1 < len(page.Elements); i += 2 {
			if err := fn(page.Elements[i], page.Elements[i+1]); err != nil {
				return err
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

// parseEntry reads "order_no qty key[,order_no qty key...]", as lua/reserve.lua writes it, without
// the orders that are over, whose qty is negative.
func parseEntry(item flashsale.ItemID, user, entry string) ([]flashsale.Order, error) {
	var orders []flashsale.Order
	for line := range strings.SplitSeq(entry, ",") {
		orderText, rest, _ := strings.Cut(line, " ")
		qtyText, key, ok := strings.Cut(rest, " ")
		order, err := flashsale.ParseID[flashsale.OrderNo](orderText)
		qty, qtyErr := strconv.Atoi(qtyText)
		if !ok || err != nil || qtyErr != nil || qty == 0 {
			return nil, fmt.Errorf("buyers entry %q of item %d: %w", entry, item, ErrUnreadable)
		}
		if qty < 0 {
			continue
		}
		orders = append(orders, flashsale.Order{
			OrderNo: order, ItemID: item, User: user, Quantity: qty, IdempotencyKey: key,
			Status: flashsale.Pending, ReservedAt: order.Time(),
		})
	}
	return orders, nil
}
