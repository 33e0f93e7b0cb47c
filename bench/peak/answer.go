package peak

import (
	"bytes"
	"errors"
	"fmt"
)

// answerBytesMax bounds an answer, head and body.
const answerBytesMax = 16 << 10

var (
	errTooLarge  = fmt.Errorf("the answer is larger than %d bytes", answerBytesMax)
	errChunked   = errors.New("the answer comes in chunks, which are not read here")
	errNoLength  = errors.New("the answer has no Content-Length")
	errUnasked   = errors.New("more bytes came than were announced")
	errMalformed = errors.New("the answer is not HTTP/1.1")
)

// answer is what we read of a response. Its bytes belong to the connection's buffer.
type answer struct {
	status []byte // three digits
	body   []byte
	last   bool // the server closes the connection
}

var (
	version       = []byte("HTTP/1.1 ")
	endOfHead     = []byte("\r\n\r\n")
	endOfLine     = []byte("\r\n")
	contentLength = []byte("Content-Length")
	encoding      = []byte("Transfer-Encoding")
	connection    = []byte("Connection")
	closes        = []byte("close")
	codeMember    = []byte(`"code":"`)
)

// parse reads an answer, and returns false as long as it is not complete. It is strict: a server
// that answers otherwise than announced has made the counts worthless.
func parse(text []byte) (answer, bool, error) {
	end := bytes.Index(text, endOfHead)
	if end < 0 {
		if n := min(len(text), len(version)); !bytes.Equal(text[:n], version[:n]) {
			return answer{}, false, errMalformed
		}
		return answer{}, false, nil
	}
	line, fields, _ := bytes.Cut(text[:end], endOfLine)
	status, err := parseStatus(line)
	if err != nil {
		return answer{}, false, err
	}
	a := answer{status: status}
	length, err := a.parseFields(fields)
	if err != nil {
		return answer{}, false, err
	}
	body := text[end+len(endOfHead):]
	switch total := end + len(endOfHead) + length; {
	case total > answerBytesMax:
		return answer{}, false, errTooLarge
	case len(body) < length:
		return answer{}, false, nil
	case len(body) > length:
		return answer{}, false, errUnasked
	}
	a.body = body
	return a, true, nil
}

// parseStatus takes the digits out of "HTTP/1.1 202 Accepted". We ask for nothing that an
// interim answer (1xx) would be due to.
func parseStatus(line []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(line, version)
	if !ok || len(rest) < 3 || len(rest) > 3 && rest[3] != ' ' || rest[0] < '2' || rest[0] > '5' {
		return nil, errMalformed
	}
	if _, ok := parseNumber(rest[:3]); !ok {
		return nil, errMalformed
	}
	return rest[:3], nil
}

// parseFields returns the length of the body. An answer must have one, once, even if it is 0.
func (a *answer) parseFields(fields []byte) (length int, err error) {
	length = -1
	for len(fields) > 0 {
		var line []byte
		line, fields, _ = bytes.Cut(fields, endOfLine)
		at := bytes.IndexByte(line, ':')
		if at <= 0 {
			return 0, errMalformed
		}
		name, value := line[:at], bytes.TrimSpace(line[at+1:])
		switch {
		case bytes.EqualFold(name, contentLength):
			n, ok := parseNumber(value)
			if !ok || length >= 0 {
				return 0, errMalformed
			}
			length = n
		case bytes.EqualFold(name, encoding):
			return 0, errChunked
		case bytes.EqualFold(name, connection):
			a.last = bytes.EqualFold(value, closes)
		}
	}
	if length < 0 {
		return 0, errNoLength
	}
	return length, nil
}

// parseNumber reads up to nine digits, which fit into every int.
func parseNumber(digits []byte) (int, bool) {
	if len(digits) == 0 || len(digits) > 9 {
		return 0, false
	}
	n := 0
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int(d-'0')
	}
	return n, true
}

// class names the outcome: a refusal by its code, whatever else by its status.
func (a answer) class() []byte {
	if a.status[0] != '4' || a.status[1] != '0' || a.status[2] != '9' {
		return a.status
	}
	at := bytes.Index(a.body, codeMember)
	if at < 0 {
		return a.status
	}
	code := a.body[at+len(codeMember):]
	end := bytes.IndexByte(code, '"')
	if end <= 0 {
		return a.status
	}
	return code[:end]
}
