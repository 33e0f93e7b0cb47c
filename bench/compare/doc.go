// Package compare sets the engine beside the classical ways to take stock (package baseline):
// how fast each of them is on this machine, what an order costs it, and whether what it sold is
// true.
//
// All run on one private stack, one at a time, as processes that answer the same requests. They
// are measured in rounds whose order rotates, each time as fresh processes with a fresh item,
// and a ratio is taken within a round. Every window proves its own counts. At the end a crowd
// asks two nodes of each at once, and asks again while one of the two is killed in the middle
// of the sale: what was sold twice, stranded or told and not kept is counted. A baseline that
// is wrong says so in its row; an engine that is wrong fails the run.
package compare
