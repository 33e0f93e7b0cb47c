package server

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// packedMin is the size below which compression is not worth its headers.
const packedMin = 600

// document is a JSON object that everybody gets: encoded, tagged and compressed once, however many
// ask. It lacks its last member, the time of the answer, which is put in for each of them: behind
// the compressed part in a block that is stored as it is, as the format allows.
type document struct {
	open   []byte // the object without its end
	packed []byte // gzip of open, at a byte's boundary, without the trailer; nil: too small
	sum    uint32 // CRC-32 of open
	etag   []byte
}

var (
	gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255} // deflate, no name, no time, any system

	packers = sync.Pool{New: func() any {
		w, _ := flate.NewWriter(nil, flate.DefaultCompression) // the level is valid
		return w
	}}
)

// newDocument encodes an object that is not closed. What has not changed since stays as it is.
func newDocument(open []byte, since *document) *document {
	if since != nil && bytes.Equal(open, since.open) {
		return since
	}
	digest := sha256.Sum256(open)
	d := &document{
		open: open,
		sum:  crc32.ChecksumIEEE(open),
		// Weak: answers of one tag differ in their time, and in how they are compressed.
		etag: []byte(`W/"` + base64.RawURLEncoding.EncodeToString(digest[:12]) + `"`),
	}
	if len(open) >= packedMin {
		d.packed = pack(open)
	}
	return d
}

func pack(text []byte) []byte {
	packed := bytes.NewBuffer(make([]byte, 0, len(text)/8))
	packed.Write(gzipHeader)
	w := packers.Get().(*flate.Writer)
	defer packers.Put(w)
	w.Reset(packed)
	_, _ = w.Write(text) // a buffer takes everything
	_ = w.Flush()
	return packed.Bytes()
}

// answerDocument sends the document with the time of the answer, or says that the client has it.
func answerDocument(ctx *fasthttp.RequestCtx, d *document, now time.Time) {
	header := &ctx.Response.Header
	header.SetCanonical(headerETag, d.etag)
	varyEncoding(header)
	header.SetCanonical(headerCacheControl, cacheBriefly)
	if notModified(ctx, d.etag) {
		return
	}
	header.SetStatusCode(fasthttp.StatusOK)
	header.SetContentType(typeJSON)
	var buf [64]byte
	end := append(appendInt(buf[:0], "server_time_ms", now.UnixMilli()), '}')
	if d.packed == nil || !acceptsGzip(&ctx.Request.Header) {
		ctx.Response.SetBody(d.open)
		ctx.Response.AppendBody(end)
		return
	}
	header.SetContentEncoding("gzip")
	ctx.Response.SetBody(d.packed)
	ctx.Response.AppendBody(storedLast(end))
	var trailer [8]byte
	binary.LittleEndian.PutUint32(trailer[:4], crc32.Update(d.sum, crc32.IEEETable, end))
	binary.LittleEndian.PutUint32(trailer[4:], uint32(len(d.open)+len(end)))
	ctx.Response.AppendBody(trailer[:])
}

// varyEncoding adds that the answer depends on Accept-Encoding.
func varyEncoding(header *fasthttp.ResponseHeader) {
	vary := varyByEncoding
	if others := header.PeekBytes(headerVary); len(others) > 0 {
		vary = slices.Concat(others, []byte(", "), varyByEncoding)
	}
	header.SetCanonical(headerVary, vary)
}

// storedLast is the last block of a deflate stream, with the text as it is.
func storedLast(text []byte) []byte {
	block := make([]byte, 5, 5+len(text))
	block[0] = 1
	binary.LittleEndian.PutUint16(block[1:], uint16(len(text)))
	binary.LittleEndian.PutUint16(block[3:], ^uint16(len(text)))
	return append(block, text...)
}

// notModified answers 304 if the client says that it has what the tag stands for.
func notModified(ctx *fasthttp.RequestCtx, etag []byte) bool {
	have := ctx.Request.Header.Peek(fasthttp.HeaderIfNoneMatch)
	if len(have) == 0 || !matchesTag(string(have), string(etag)) {
		return false
	}
	ctx.Response.Header.SetStatusCode(fasthttp.StatusNotModified)
	return true
}

// matchesTag compares as RFC 9110 says for If-None-Match: weakly, and * is any.
func matchesTag(list, etag string) bool {
	for candidate := range strings.SplitSeq(list, ",") {
		candidate = strings.TrimSpace(candidate)
		if candidate == "*" || strings.TrimPrefix(candidate, "W/") == strings.TrimPrefix(etag, "W/") {
			return true
		}
	}
	return false
}

// acceptsGzip reads Accept-Encoding: what is named counts, also when it says no.
func acceptsGzip(header *fasthttp.RequestHeader) bool {
	accepted := false
	for part := range strings.SplitSeq(string(header.Peek(fasthttp.HeaderAcceptEncoding)), ",") {
		name, parameter, _ := strings.Cut(part, ";")
		weight, _ := strings.CutPrefix(strings.ReplaceAll(parameter, " ", ""), "q=")
		refused := weight != "" && strings.Trim(weight, "0.") == ""
		switch name = strings.TrimSpace(name); {
		case strings.EqualFold(name, "gzip"), strings.EqualFold(name, "x-gzip"):
			return !refused
		case name == "*":
			accepted = !refused
		}
	}
	return accepted
}
