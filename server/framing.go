package server

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

var (
	nameContentLength    = []byte(fasthttp.HeaderContentLength)
	nameTransferEncoding = []byte(fasthttp.HeaderTransferEncoding)
)

// misframed returns what is wrong with a request on which two readers could disagree: where it ends,
// or what its headers are. What a proxy in front of us takes for one request could be two to us,
// and the second somebody else's. fasthttp refuses most of this while it reads; the rest is found
// here, in the bytes as they came.
func misframed(header *fasthttp.RequestHeader) *problem {
	if protocol := header.Protocol(); string(protocol) != "HTTP/1.1" && string(protocol) != "HTTP/1.0" {
		return problemVersion
	}
	var length, encoding bool
	for raw := header.RawHeaders(); len(raw) > 0; {
		line := raw
		if end := bytes.IndexByte(raw, '\n'); end >= 0 {
			line, raw = raw[:end], raw[end+1:]
		} else {
			raw = nil
		}
		if len(line) == 0 || line[0] == '\r' {
			continue
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || line[0] == ' ' || line[0] == '\t' { // none, or a line folded into the next
			return problemMalformedRequest
		}
		name := line[:colon]
		if bytes.IndexByte(name, ' ') >= 0 || bytes.IndexByte(name, '\t') >= 0 {
			return problemMalformedRequest
		}
		switch len(name) {
		case len(nameContentLength):
			if bytes.EqualFold(name, nameContentLength) {
				if length || encoding {
					return problemMalformedRequest
				}
				length = true
			}
		case len(nameTransferEncoding):
			if bytes.EqualFold(name, nameTransferEncoding) {
				if length || encoding {
					return problemMalformedRequest
				}
				encoding = true
			}
		}
	}
	return nil
}
