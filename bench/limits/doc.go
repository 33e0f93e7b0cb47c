// Package limits measures how near the engine comes to what its stores can do at most on this
// machine: in Redis, the same reserve.lua, called by a client that does nothing but send calls
// written beforehand; in PostgreSQL, COPY of the same rows into a table like orders, which is the
// fastest way in and checks nothing of the sale. The engine's own figures are those of its Go
// benchmarks, without HTTP. For HTTP, package ratios measures the share of a bare handler.
//
// Each share is taken within a round. What was decided and copied is counted afterwards in the
// stores: a call that was not accepted whole, or a row that is missing, fails the run.
package limits
