// Command bench measures the engine. It is a module of its own, under a licence of its own, and
// knows the engine only as its users do: by its binary, its HTTP API and its keys in Redis.
// `bench` alone lists the commands; README.md says how to read what they print.
package main
