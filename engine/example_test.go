package engine_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack"
)

// Example sells the only unit of an item, as another Go service would: the engine needs no
// more of this project than a Redis. Several processes would share a registry.
func Example() {
	ctx := context.Background()
	stack, err := devstack.Start(ctx, devstack.Config{Redis: true}) // or the Redis that you have
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := errors.Join(sell(ctx, stack.RedisURL()), stack.Stop()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// ann accepted
	// ann replayed
	// ann duplicate_order
	// bob sold_out
	// units left: 1
}

func sell(ctx context.Context, redisURL string) error {
	e, err := engine.New(ctx, engine.Config{RedisURL: redisURL, Registry: engine.NewMemoryRegistry()})
	if err != nil {
		return err
	}
	defer e.Close()

	now := time.Now()
	item := flashsale.Item{
		ID: 42, Stock: 1, Limit: 1, OpensAt: now.Add(-time.Second), ClosesAt: now.Add(time.Hour), Generation: 1,
	}
	if err := e.Preheat(ctx, item); err != nil {
		return err
	}
	var annsOrder flashsale.OrderNo
	for _, request := range []engine.Request{
		{Item: 42, User: "ann", Quantity: 1, IdempotencyKey: "attempt-1"},
		{Item: 42, User: "ann", Quantity: 1, IdempotencyKey: "attempt-1"}, // the answer got lost
		{Item: 42, User: "ann", Quantity: 1, IdempotencyKey: "attempt-2"},
		{Item: 42, User: "bob", Quantity: 1},
	} {
		reply, err := e.Reserve(ctx, request)
		if err != nil {
			return err // with engine.ErrUnknown: ask again with the same key
		}
		fmt.Println(request.User, reply.Outcome)
		if request.User == "ann" {
			annsOrder = reply.OrderNo // the same each time
		}
	}

	if _, err := e.Release(ctx, 42, []engine.Held{{OrderNo: annsOrder, User: "ann"}}); err != nil {
		return err
	}
	account, err := e.Item(ctx, 42)
	if err != nil {
		return err
	}
	fmt.Println("units left:", account.Stock)
	return nil
}
