// Package peak plays a crowd: it sends each request when it is due, whether or not earlier ones
// were answered, and measures how long the shopper waited.
//
// It is made for one small machine, which it shares with what it measures. A request costs a
// write, a read, and no memory: raw connections, requests that are built before the clock
// starts, answers that are read for their status and their code only.
//
// # What is promised
//
//   - The schedule is fixed before the first request. Latency counts from the moment at which a
//     request was due, so a server that stalls is charged with everybody who waited meanwhile
//     (no coordinated omission). Service counts from the moment at which it was sent, which is
//     what most tools print.
//   - A request that is due while every connection is busy is sent as soon as one is free.
//     What could not be sent within [Config.Grace] after the schedule's end is counted as unsent.
//     Nothing is dropped in silence.
//   - Every request is counted in exactly one class: accepted; a refusal by its code, such as
//     sold_out; another answer by its status; or [Unknown], [Broken] and [Unconnected].
//   - Memory does not grow with the number of requests.
//
// # What is not promised
//
// The generator is late itself: an idle Go program wakes up to a millisecond after its timer,
// and on a machine without a free processor it waits for one. Spinning until the moment would be
// exact and cost a processor, which the server needs. So it sleeps, and [Result.Late] says how
// late requests were sent for which a connection stood ready. Below it, latencies mean nothing;
// Service shows what remains without it.
//
// There is no pipelining, no TLS, no HTTP/2, and no answer above 16 KiB or in chunks.
package peak
