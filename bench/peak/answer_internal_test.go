package peak

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Counts stand on what is read here: a refusal has the name of its code, all else its status.
func TestParse_Class(t *testing.T) {
	t.Parallel()
	problem := func(status int, body string) string {
		return fmt.Sprintf("HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
	}
	for _, test := range []struct {
		text, want string
		last       bool
	}{
		{text: problem(202, `{"order_no":"1"}`), want: "202"},
		{text: problem(409, `{"status":409,"code":"sold_out","title":"Gone."}`), want: "sold_out"},
		{text: problem(409, `{"code":"duplicate_order","order_no":"41"}`), want: "duplicate_order"},
		{text: problem(409, `{"title":"none"}`), want: "409"},
		{text: problem(409, `{"code":""}`), want: "409"},
		{text: problem(409, `{"code":"cut`), want: "409"},
		{text: problem(503, `{"code":"overloaded"}`), want: "503"},
		{text: "HTTP/1.1 200\r\nserver: x\r\ncontent-LENGTH:  0 \r\n\r\n", want: "200"},
		{text: "HTTP/1.1 202 Accepted\r\nConnection: Close\r\nContent-Length: 1\r\n\r\nx", want: "202", last: true},
	} {
		got, whole, err := parse([]byte(test.text))
		if err != nil || !whole {
			t.Errorf("%q: whole %t, %v", test.text, whole, err)
			continue
		}
		if class := string(got.class()); class != test.want || got.last != test.last {
			t.Errorf("%q: got %s (last: %t)", test.text, class, got.last)
		}
	}
}

// TCP cuts where it likes: an answer that is not there yet must be neither an answer nor a fault.
func TestParse_Split(t *testing.T) {
	t.Parallel()
	const text = "HTTP/1.1 409 Conflict\r\nDate: today\r\nContent-Length: 19\r\n\r\n{\"code\":\"sold_out\"}"
	for n := range len(text) {
		if _, whole, err := parse([]byte(text[:n])); whole || err != nil {
			t.Errorf("%q: whole %t, %v", text[:n], whole, err)
		}
	}
	if got, whole, err := parse([]byte(text)); !whole || err != nil || string(got.class()) != "sold_out" {
		t.Errorf("all of it: %s, whole %t, %v", got.class(), whole, err)
	}
}

// What is not plain HTTP/1.1 must not be guessed at: a wrong guess would be a wrong count.
func TestParse_Odd(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"SSH-2.0-x": errMalformed,
		"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n":                         errMalformed,
		"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n":                         errMalformed,
		"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n":                        errMalformed,
		"HTTP/1.1 100 Continue\r\n\r\n":                                        errMalformed,
		"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n":             errMalformed,
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n":                        errMalformed,
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n":    errMalformed,
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n":               errMalformed,
		"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n":                                 errNoLength,
		"HTTP/1.1 200 OK\r\n\r\n":                                              errNoLength,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":       errChunked,
		"HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n":                     errTooLarge,
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n": errUnasked,
	} {
		if _, whole, err := parse([]byte(text)); whole || !errors.Is(err, want) {
			t.Errorf("%q: whole %t, got %v, want %v", strings.TrimSpace(text), whole, err, want)
		}
	}
}
