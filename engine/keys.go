package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"flashsale"
)

// Channels and keys that belong to no partition.
const (
	ClearedChannel = "fs:cleared"  // "<item> <epoch>": a sold-out flag is cleared
	FlagsKey       = "fs:flags"    // hash: node -> the sold-out flags that it holds up
	sessionPrefix  = "fs:session:" // one session a token: JSON of the user, with TTL
	resultsPrefix  = "fs:results:" // one channel a shard of order numbers
)

// Group is the consumer group that persists the orders.
const Group = "workers"

// ResultShards is how many channels the order results are spread over: so many that the shoppers who
// wait at one moment seldom share one, and a node hears of the orders that are watched there and of
// few others. With ten nodes and 20,000 shoppers who wait, 1.3 nodes hear a result.
const ResultShards = 65536

// Partition returns where an item lives among n partitions. Items are numbered in sequence,
// so the remainder spreads them evenly; ids are positive, so it is never negative.
func Partition(item flashsale.ItemID, n int) int { return int(int64(item) % int64(n)) }

// ItemKey is the hash with an item's account.
func ItemKey(p int, item flashsale.ItemID) string { return tagged(p) + "item:" + item.String() }

// BuyersKey is the hash with the orders that each user holds of an item.
func BuyersKey(p int, item flashsale.ItemID) string { return tagged(p) + "buyers:" + item.String() }

// OrdersKey is the stream of accepted orders.
func OrdersKey(p int) string { return tagged(p) + "orders" }

// WaitingKey counts the orders in the stream that are not acknowledged.
func WaitingKey(p int) string { return tagged(p) + "waiting" }

// DeadKey is the stream of entries that can never be persisted.
func DeadKey(p int) string { return tagged(p) + "dead" }

// ResultsChannel carries the results of an order.
func ResultsChannel(order flashsale.OrderNo) string {
	// The low bits of a snowflake count within a millisecond and are mostly zero: mix them.
	h := uint64(order) * 0x9E3779B97F4A7C15
	return resultsPrefix + strconv.Itoa(int(h>>32%ResultShards))
}

// SessionKey is where a login system writes the session of a token. Redis holds only the
// hash of the token, so a dump of Redis logs nobody in.
func SessionKey(token string) string {
	sum := sha256.Sum256([]byte(token))
	return sessionPrefix + hex.EncodeToString(sum[:])
}

// tagged starts every key of a partition: the hash tag puts them all in one slot.
func tagged(p int) string { return "fs:{" + Tag(p) + "}:" }
