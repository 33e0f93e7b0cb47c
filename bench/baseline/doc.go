// Package baseline is what the engine is compared with: the classical ways to take stock, each
// behind the same HTTP handler as one process a node, and each for one item.
//
// They are written as a careful team would write them, with pools, pipelining and warm
// sessions, so that what differs is the way alone. Some are wrong by design; their files say
// how, and package compare counts it. None of them is part of the engine, and nothing here is
// meant to be sold with.
//
//	mutex        a lock in the process around read, check and write in PostgreSQL
//	lock         the same under a lock in Redis that all nodes share
//	optimistic   PostgreSQL: write if the version is still the one that was read, or try again
//	conditional  PostgreSQL: take a unit where one is left, and a unique order, in one transaction
//	separate     Redis: buyers, stock and queue in three calls
//	script       Redis: one script a request, one stream entry an order
package baseline
