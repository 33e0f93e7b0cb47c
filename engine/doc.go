// Package engine is the hot path of a flash sale: it decides, on Redis, who gets a unit.
//
//	e, err := engine.New(ctx, engine.Config{RedisURL: "redis://127.0.0.1:6379", Registry: ledger})
//	…
//	reply, err := e.Reserve(ctx, engine.Request{Item: 1, User: "ann", Quantity: 1})
//	if err == nil && reply.Outcome == flashsale.Accepted { … reply.OrderNo … }
//
// # Promises
//
// Never oversold: an accepted request has taken its units, its place among the buyers and its
// entry in the stream in one atomic run of lua/reserve.lua. Losing is an [flashsale.Outcome],
// not an error. An error from [Engine.Reserve] is [ErrInvalid] or [ErrUnavailable], nothing was
// done, or [ErrUnknown], the request may or may not have been accepted: ask again with the
// same idempotency key (or the same user) and learn which.
//
// Redis can lose writes that it has acknowledged, so an accepted order is pending, not
// promised; package worker makes it a promise.
//
// # Order numbers
//
// No two processes ever make the same number, whatever Redis forgets and whatever their clocks
// show: the [Registry] gives each a node id and a span of milliseconds of its own clock, and a
// number outside of the span is not made. While the registry is away a node goes on for as long
// as its span lasts, hours as a rule.
//
// # Group commit
//
// Each item has a lane. While [Config.InFlight] script calls of a lane run, requests gather,
// and the next call carries all that have gathered. No timer is involved: an idle lane adds
// no wait, a busy one decides hundreds of requests in one run. A full lane answers
// [flashsale.Overloaded] at once, and the lane of an idle item goes away.
//
// # Sold-out flags
//
// Once an item is sold out, a node answers from memory, without Redis. The flag is a hint: it
// carries the epoch of the stock that it speaks of, expires within [Config.FlagTTL], is
// renewed by a single probe, is cleared by pub/sub whenever units come back, and all flags
// drop when the subscription is renewed. The losers are answered from the flag; the users on
// the roster (the buyers at that epoch) still reach Redis, so that a winner who asks again
// learns the order he holds on every node.
package engine
