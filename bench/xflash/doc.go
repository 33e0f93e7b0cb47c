// Package xflash is what the k6 in this binary has beside its own parts.
//
// # The module k6/x/flash
//
//	import flash from 'k6/x/flash'
//	const { status, code, order } = flash.buy('http://127.0.0.1:8080', item, token, key)
//
// buys once, by fasthttp on connections that all VUs share, and so costs a fraction of what k6/http
// costs. It emits http_reqs, http_req_duration and http_req_failed with the tag name=buy, so that
// thresholds judge it as they judge k6/http. http_req_duration is the whole call, a new
// connection included, and so never looks better than k6/http would. 202 and 409 are right
// answers; without any the status is 0 and code says why. The bytes are not counted.
//
// # The output timeline
//
// `k6 run --out timeline=FILE` counts the metrics named flash_… and the latencies of purchases
// by quarters of a second, says each second what came, and writes a [Timeline] at the end. It
// keeps 8 bytes a purchase until then, as k6's own trends do.
package xflash

import (
	"go.k6.io/k6/js/modules"
	"go.k6.io/k6/output"
)

// Register makes both known to k6, before it runs and once a process.
func Register() {
	modules.Register("k6/x/flash", new(module))
	output.RegisterExtension("timeline", newTimeline)
}
