// Package scenario plays the sale's scenes with k6, whose thresholds judge them, and then
// compares what the crowd was told with what Redis and the ledger hold: a fast run that oversells
// is a failed run.
//
// k6 is linked into this binary and runs as a child of it, with the scripts that are embedded
// here. All scenes of a run share one private stack with a server and a worker; each has a fresh
// item, and a scene that failed takes its stack with it, so that the next one's sums are its own.
//
// On a small machine k6 judges correctness, not peak rates: it costs more than the engine.
package scenario
