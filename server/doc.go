// Package server is what shoppers and operators talk to: the HTTP API, the websocket that
// pushes the fate of an order, and the ops listener.
//
//	s, err := server.New(server.Config{Reserver: e, Sessions: e, Ledger: ledger, …})
//	…
//	err = s.Run(ctx) // serves until ctx ends, then shuts down in order
//
// # Promises
//
// Every answer that is not a success is application/problem+json with a stable code; the
// codes stand in one table, respond.go. Losing is an answer (409), never an error. An answer
// of 503 says whether asking again is safe: outcome_unknown means that the order may have
// been accepted, and that the same Idempotency-Key will tell. What went wrong inside is
// logged, at a bounded rate, and never sent to a client.
//
// An order belongs to its user: for everybody else it does not exist. One place,
// [Server.requireUser], turns a token into a user; handlers behind it are given the user.
//
// A push is never the only road to a result. Redis pub/sub delivers at most once, so whoever
// waits subscribes first, then reads the state, then reads it again from time to time:
// a lost message delays the answer, it does not lose it. A socket may miss a state that was
// overtaken, it never shows one out of order, and it closes at a final state.
//
// # Limits
//
// Connections, connections of one address, header and body sizes, read, write and idle times,
// long polls, sockets in all and of one user: everything has a bound in [Config] and an answer
// beyond it. A shopper who reads slowly is dropped, not waited for.
//
// # Shutdown
//
// When the context of [Server.Run] ends: /readyz turns 503, the listener closes, long polls
// answer what they know, requests in flight are answered, sockets are closed with 1001, and
// Run returns. The caller then stops the worker and closes the pools.
//
// # The hot path
//
// Creating an order allocates next to nothing: the token is copied once, answers are constant
// bytes or appended into the response, metrics are counters resolved beforehand, and the
// handler runs on the goroutine of its connection. Tests hold the number of allocations.
package server
