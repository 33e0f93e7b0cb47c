// Package ratios measures what the engine promises of its speed, as ratios: against itself
// without group commit, and against a bare HTTP handler that decides nothing. Absolute figures
// are those of one machine on one day; a ratio taken within one round holds on others.
//
// Everything is measured in rounds, the candidates of a round one after the other in an order
// that rotates, and each verdict is the median of the rounds' own ratios. Every round also
// proves that what was counted is true: accepted answers as wrk, the server's metrics and
// Redis have counted them must agree, and behind the worker the audit must be clean.
package ratios
