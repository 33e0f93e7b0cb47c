package lua

import _ "embed"

// The scripts. Each text is passed to Redis as it is: a text with values pasted in would fill
// the script cache.
var (
	// Ack takes persisted entries off the stream.
	//go:embed ack.lua
	Ack string
	// Aside moves a key of a wrong type out of the way.
	//go:embed aside.lua
	Aside string
	// DeadLetter sets one entry aside with its reason.
	//go:embed dead_letter.lua
	DeadLetter string
	// DeadRetry puts a dead letter back into its stream.
	//go:embed dead_retry.lua
	DeadRetry string
	// Fence takes an item off sale for a rebuild.
	//go:embed fence.lua
	Fence string
	// FenceLift puts an intact item back on sale.
	//go:embed fence_lift.lua
	FenceLift string
	// Preheat loads an item that is not in Redis.
	//go:embed preheat.lua
	Preheat string
	// RebuildBuyers writes some buyers of a fenced item anew.
	//go:embed rebuild_buyers.lua
	RebuildBuyers string
	// RebuildOpen writes the account of a fenced item anew and puts it on sale.
	//go:embed rebuild_open.lua
	RebuildOpen string
	// Release gives units of orders back.
	//go:embed release.lua
	Release string
	// Remove takes an item out of Redis that nobody has bought from.
	//go:embed remove.lua
	Remove string
	// Reserve decides a run of requests for items of one partition.
	//go:embed reserve.lua
	Reserve string
	// Restock adds units to an item.
	//go:embed restock.lua
	Restock string
	// Run tells which run of Redis answers for a partition.
	//go:embed run.lua
	Run string
	// SetState pauses or resumes an item.
	//go:embed set_state.lua
	SetState string
)
