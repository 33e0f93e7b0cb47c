package limits

import (
	"bufio"
	"strings"
	"testing"
)

// A limit that counts refusals as decisions would flatter nobody but Redis: whatever is not
// accepted whole fails the run.
func TestAccepted(t *testing.T) {
	t.Parallel()
	reply := func(outcomes, orders string) string {
		return "*8\r\n:1\r\n:1\r\n:98\r\n$13\r\n1700000000000\r\n$1\r\n1\r\n$1\r\n2\r\n" + outcomes + orders
	}
	for name, test := range map[string]struct {
		reply string
		ok    bool
	}{
		"accepted":          {reply("$2\r\nAA\r\n", "*0\r\n"), true},
		"one is refused":    {reply("$2\r\nAD\r\n", "*1\r\n$1\r\n7\r\n"), false},
		"one is missing":    {reply("$1\r\nA\r\n", "*0\r\n"), false},
		"not ready":         {"*8\r\n:2\r\n:0\r\n:0\r\n$1\r\n0\r\n$1\r\n0\r\n$1\r\n0\r\n$0\r\n\r\n*0\r\n", false},
		"an error":          {"-NOSCRIPT No matching script\r\n", false},
		"cut off":           {reply("$2\r\nA", ""), false},
		"another protocol":  {"HTTP/1.1 400 Bad Request\r\n", false},
		"an absurd length":  {"*99999999999\r\n", false},
		"nothing":           {"", false},
		"a negative length": {"$-1\r\n", false},
	} {
		if err := accepted(bufio.NewReader(strings.NewReader(test.reply)), 6, 2); (err == nil) != test.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
