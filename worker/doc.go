// Package worker is what runs behind a sale: it makes pending orders a promise, carries out
// what committed transactions owe to Redis, cancels what is not paid in time, loads items
// before their sale, rebuilds what Redis has lost and proves that nothing is lost.
//
//	w, err := worker.New(worker.Config{RedisURL: url, Ledger: ledger, Engine: engine})
//	…
//	err = w.Run(ctx) // until ctx ends and what was in hand is flushed
//
// # Delivery
//
// Every entry of a stream reaches the ledger at least once, and counts there exactly once:
//
//   - An entry leaves the stream only by ack.lua, after the transaction that holds its order
//     has committed, or by dead_letter.lua, when no transaction can ever hold it. Neither age,
//     length nor a count of deliveries removes one.
//   - Until then it is in the pending entries list of a consumer. A consumer reads its own
//     list when it starts and after every fault, because the reply that delivered an entry may
//     have been lost; entries of consumers that died are claimed by the others.
//   - So an entry may come twice: after a crash between commit and ack, after a claim from a
//     consumer that was slow rather than dead. The order number is its identity, never the
//     stream id, and the ledger takes each number once.
//
// While the ledger is away, or refuses, the consumer keeps its batch, reads no further and tries again; the
// stream keeps the rest, and a full stream makes reserve.lua answer overloaded.
//
// The ledger names the orders of a batch that it can never store; they are set aside in the dead
// stream with the reason, and their neighbours are persisted. There they hold their units until
// an operator retries or drops them, see [DeadLetters]. What the ledger has against every order (a
// schema that was changed, a right that is missing) is held against none: the consumer stands
// and says so in the log, in flashsale_consumer_stands and in its readiness.
//
// # When Redis loses its memory
//
// The guardian compares what Redis holds with what the ledger has seen. An item that is gone, of
// another generation, behind in its sequence, or in a run of Redis that nobody has vouched for is
// taken off sale; what the stream still holds of it is persisted, by the rebuild itself; then it is
// written anew as the ledger has it, in a new generation, and sells on. Each item by itself, the open
// ones first: none waits for another. A confirmed order is never forgotten, and a pending one that
// Redis has lost is never confirmed afterwards: the ledger rejects whatever is of an older generation.
// The argument is at rebuilder. By hand the same is a [Rebuilder].
//
// Keys of ours that are of a wrong type are moved to fs:{<p>}:aside:…, for an operator to look at, and
// entries that are in nobody's hands are found and delivered.
//
// # One worker of many
//
// Consumers, canceller and relay share their work by what the stores lock. Preheating on
// schedule and rebuilding are done by one worker at a time, under the Redis locks
// fs:lock:preheat and fs:lock:guardian:{<p>}, one a partition. The locks save work; no correctness rests on them.
//
// # Not promised
//
// Results on pub/sub are at most once: whoever needs one asks the ledger. Orders are persisted
// about in the order of their decision, not exactly: claims and several workers mix them.
// Any number of workers may run on one Redis and one ledger, each with a name of its own.
package worker
