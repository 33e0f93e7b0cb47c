package baseline

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/redis/rueidis"
)

// separate notes the buyer, takes a unit and queues the order in three calls to Redis. Who
// finds no unit left gives back what he took, and from then on this node refuses everybody by
// itself.
//
// It is the usual advice for flash sales: each command is atomic, and no lock is needed. It
// never oversells. But the three are not one: a node that dies between them leaves a buyer
// without a unit, or a unit without an order, and nothing finds them again. A user who asks
// twice at once can be told that he holds an order while his first request is about to be
// refused. And every order pays three round trips.
type separate struct {
	redis   rueidis.Client
	account Account
	soldOut atomic.Bool // units never come back here, so it is never cleared
}

func openSeparate(s Stores) (Strategy, error) {
	return &separate{redis: s.Redis, account: accountOf(s.Item)}, nil
}

// Prepare implements [Strategy].
func (s *separate) Prepare(ctx context.Context, stock int64) error {
	set := s.redis.B().Hset().Key(s.account.Item).FieldValue().
		FieldValue("stock", strconv.FormatInt(stock, 10)).Build()
	if err := s.redis.Do(ctx, set).Error(); err != nil {
		return fmt.Errorf("prepare %s: %w", s.account.Item, err)
	}
	return nil
}

// Buy implements [Strategy].
func (s *separate) Buy(ctx context.Context, user string, number int64) (Outcome, error) {
	if s.soldOut.Load() {
		return SoldOut, nil
	}
	noted, err := s.note(ctx, user, number)
	if err != nil {
		return 0, err
	}
	if !noted {
		return Duplicate, nil
	}
	left, err := s.take(ctx)
	if err != nil {
		return 0, err
	}
	if left < 0 {
		s.soldOut.Store(true)
		return SoldOut, s.giveBack(ctx, user)
	}
	return Accepted, s.queue(ctx, user, number)
}

// note makes the user a buyer, unless he is one.
func (s *separate) note(ctx context.Context, user string, number int64) (bool, error) {
	return s.redis.Do(ctx, s.redis.B().Hsetnx().Key(s.account.Buyers).Field(user).
		Value(strconv.FormatInt(number, 10)).Build()).AsBool()
}

// take takes a unit and returns how many are left: below zero, there was none.
func (s *separate) take(ctx context.Context) (int64, error) {
	return s.redis.Do(ctx, s.redis.B().Hincrby().Key(s.account.Item).Field("stock").Increment(-1).Build()).AsInt64()
}

// queue puts the order where a worker would find it.
func (s *separate) queue(ctx context.Context, user string, number int64) error {
	return s.redis.Do(ctx, s.redis.B().Xadd().Key(s.account.Orders).Id("*").FieldValue().
		FieldValue("order", strconv.FormatInt(number, 10)).FieldValue("user", user).Build()).Error()
}

// giveBack undoes note and take.
func (s *separate) giveBack(ctx context.Context, user string) error {
	for _, result := range s.redis.DoMulti(ctx,
		s.redis.B().Hincrby().Key(s.account.Item).Field("stock").Increment(1).Build(),
		s.redis.B().Hdel().Key(s.account.Buyers).Field(user).Build(),
	) {
		if err := result.Error(); err != nil {
			return err
		}
	}
	return nil
}

// State implements [Strategy]. The queue is the truth: what is not in it will never be sent.
func (s *separate) State(ctx context.Context) (State, error) { return s.account.State(ctx, s.redis) }

// Forget implements [Strategy].
func (s *separate) Forget(ctx context.Context) error { return s.account.forget(ctx, s.redis) }
