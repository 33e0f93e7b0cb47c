package server

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// requestIDMax bounds an id that a client or a proxy gives to its request.
const requestIDMax = 64

var (
	headerRequestID = []byte("X-Request-Id")
	// processID tells the requests of one process from those of every other.
	processID = rand.Uint64()
)

// nameRequest gives the answer the id of its request: the one that the client or a proxy has
// given, if that may stand in a log, or else one of our own.
func nameRequest(ctx *fasthttp.RequestCtx) {
	id := ctx.Request.Header.PeekBytes(headerRequestID)
	if len(id) == 0 || len(id) > requestIDMax || !flashsale.ValidIdempotencyKey(unsafeString(id)) {
		var buf [32]byte
		id = appendRequestID(buf[:0], ctx.ID())
	}
	ctx.Response.Header.SetCanonical(headerRequestID, id)
}

// requestID is the id that the answer carries.
func requestID(ctx *fasthttp.RequestCtx) []byte {
	return ctx.Response.Header.PeekBytes(headerRequestID)
}

// appendRequestID makes an id of a number that the process gives once.
func appendRequestID(dst []byte, number uint64) []byte {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], processID)
	binary.BigEndian.PutUint64(raw[8:], number)
	return hex.AppendEncode(dst, raw[:])
}
