// Package lua holds the atomic operations of the engine, one script a file, and embeds them.
//
// # What a script promises
//
// Redis runs a script alone, so its reads and writes are one step. It does not roll back:
// every script reads and checks first, decides, and only then writes, so that a refusal
// changes nothing. Each starts with a shebang, which makes Redis refuse the whole script up
// front when it could not write (out of memory, disk errors, read-only replica) or when keys
// cross slots. Scripts that give back or drain carry allow-oom: they free memory.
//
// # Rules
//
//   - Each file opens with its contract: keys with pattern and type, arguments with unit and
//     range, every status, side effects, cost. A test compares the header with the Go side.
//   - Every key is declared; the keys of one partition share one hash tag.
//   - Ids stay strings. Large numbers are formatted with %.0f, because Lua prints 14 digits.
//   - A reply is an array of fixed length whose first element is a status, mirrored in
//     status.go. No nil, no float, no boolean, and no bytes from users in an error.
//   - A script that needs the time calls TIME once.
package lua
