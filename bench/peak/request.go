package peak

import (
	"net/url"
	"strings"
)

// tokenPrefix and tokenDigits make the token of a user's number, as target.Token does.
const (
	tokenPrefix = "bench-"
	tokenDigits = 20
)

// request holds the bytes of a request, all but the token of which stay the same.
type request struct {
	bytes  []byte
	head   int // length of what stays the same
	first  int64
	users  int64
	tokens []string
}

func newRequest(c Config, to *url.URL) *request {
	var head strings.Builder
	head.WriteString(c.Method + " " + strings.TrimSuffix(to.Path, "/") + c.Path + " HTTP/1.1\r\n")
	head.WriteString("Host: " + to.Host + "\r\nContent-Length: 0\r\nAuthorization: Bearer ")
	r := &request{
		bytes: []byte(head.String()), head: head.Len(),
		first: int64(c.FirstUser), users: int64(c.Users), tokens: c.Tokens,
	}
	return r
}

// of builds the request of a number, which is valid until the next call.
func (r *request) of(n int64) []byte {
	user := n % r.users
	r.bytes = r.bytes[:r.head]
	if len(r.tokens) > 0 {
		r.bytes = append(r.bytes, r.tokens[user]...)
	} else {
		r.bytes = appendToken(r.bytes, r.first+user)
	}
	r.bytes = append(r.bytes, "\r\n\r\n"...)
	return r.bytes
}

func appendToken(dst []byte, user int64) []byte {
	var digits [tokenDigits]byte
	for n := len(digits) - 1; n >= 0; n-- {
		digits[n] = byte('0' + user%10)
		user /= 10
	}
	return append(append(dst, tokenPrefix...), digits[:]...)
}
