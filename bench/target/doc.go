// Package target starts what is measured: the engine's own binary and the stores that it
// brings along, as child processes. It knows the engine by its command line, its HTTP API and
// its keys in Redis only, and never imports it: what is measured is what users run.
package target
