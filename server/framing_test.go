package server

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Protects from smuggling: a request whose end, or whose headers, a proxy may read otherwise is
// refused and its connection closed, so that nothing that follows is taken for another request.
func TestMisframed(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	const second = "GET /v1/sales HTTP/1.1\r\nHost: x\r\n\r\n"
	post := "POST /v1/items/7/orders HTTP/1.1\r\nHost: x\r\nToken: ann-token\r\n"
	cases := map[string]string{
		"HTTP/1.2":                 "GET /v1/sales HTTP/1.2\r\nHost: x\r\n\r\n",
		"HTTP/2.0":                 "GET /v1/sales HTTP/2.0\r\nHost: x\r\n\r\n",
		"HTTP/0.9":                 "GET /v1/sales HTTP/0.9\r\nHost: x\r\n\r\n",
		"HTTP/1.10":                "GET /v1/sales HTTP/1.10\r\nHost: x\r\n\r\n",
		"no version":               "GET /v1/sales\r\nHost: x\r\n\r\n",
		"http/1.1":                 "GET /v1/sales http/1.1\r\nHost: x\r\n\r\n",
		"space in a name":          "GET /v1/sales HTTP/1.1\r\nHost: x\r\nX Y: z\r\n\r\n",
		"space after a name":       "GET /v1/sales HTTP/1.1\r\nHost: x\r\nX-Y : z\r\n\r\n",
		"tab in a name":            "GET /v1/sales HTTP/1.1\r\nHost: x\r\nX\tY: z\r\n\r\n",
		"a folded line":            "GET /v1/sales HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n",
		"no colon":                 "GET /v1/sales HTTP/1.1\r\nHost: x\r\nX\r\n\r\n",
		"two lengths":              post + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
		"two lengths that differ":  post + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
		"two lengths in one":       post + "Content-Length: 0, 0\r\n\r\n",
		"a length with a sign":     post + "Content-Length: +0\r\n\r\n",
		"two encodings":            post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"encoding twice in one":    post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
		"an encoding of HTTP/1.0":  strings.Replace(post, "1.1", "1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"an unknown encoding":      post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"a length that overflows":  post + "Content-Length: 18446744073709551616\r\n\r\n",
		"a chunk with a sign":      post + "Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
		"identity beside a length": post + "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
	}
	for _, name := range []string{"Transfer-Encoding", "transfer-encoding", "TRANSFER-ENCODING", "Transfer-encoding"} {
		for _, value := range []string{"chunked", "Chunked", " chunked", "\tchunked", "chunked ", "identity"} {
			for _, lengthFirst := range []bool{true, false} {
				encoding, length := name+":"+value+"\r\n", "content-LENGTH: 5\r\n"
				headers := encoding + length
				if lengthFirst {
					headers = length + encoding
				}
				cases["length beside "+headers] = post + headers + "\r\n0\r\n\r\n"
			}
		}
	}
	for name, text := range cases {
		conn, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(testTimeout))
		if _, err := io.WriteString(conn, text+second); err != nil {
			t.Fatal(err)
		}
		reader := bufio.NewReader(conn)
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var p struct{ Code string }
		_ = json.NewDecoder(response.Body).Decode(&p)
		if got := response.StatusCode; got != 400 && (got != 505 || !strings.Contains(text, "HTTP/")) || p.Code == "" {
			t.Errorf("%q: %d %s", name, got, p.Code)
		}
		if rest, _ := io.ReadAll(reader); len(rest) > 0 {
			t.Errorf("%q: what follows is answered: %s", name, rest)
		}
		_ = conn.Close()
	}
	if len(r.redis.asked) > 0 {
		t.Errorf("reached the engine: %+v", r.redis.asked)
	}
}
