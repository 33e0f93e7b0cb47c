package server

import (
	"bytes"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"flashsale/web"
)

// Protects the shop's addresses: each view's is the page with its policy, files may be kept for
// ever, and nothing of it stands in the API's way.
func TestPages(t *testing.T) {
	t.Parallel()
	site, err := web.Shop()
	if err != nil {
		t.Fatal(err)
	}
	b := setup(t, func(c *Config) { c.Pages = site })
	for _, path := range []string{"/", "/orders", "/orders/123?item=4", "/items/7?utm_source=mail"} {
		got := b.call("GET", path, "")
		if got.StatusCode() != 200 || !bytes.Equal(got.Body(), site.Page.Body) ||
			string(got.Header.Peek("Content-Security-Policy")) != web.Policy ||
			string(got.Header.Peek("Cache-Control")) != "no-cache" {
			t.Errorf("%s: %d %s", path, got.StatusCode(), got.Header.String())
		}
		tag := string(got.Header.Peek("ETag"))
		if again := b.call("GET", path, "", "If-None-Match", tag); again.StatusCode() != 304 || len(again.Body()) > 0 {
			t.Errorf("%s: %d for who has it", path, again.StatusCode())
		}
	}
	_, rest, _ := strings.Cut(string(site.Page.Body), `"/a/`)
	digest, _, _ := strings.Cut(rest, "/")
	file := "/a/" + digest + "/shop.js"
	for _, c := range []struct {
		path, keep string
		status     int
	}{
		{file, "public, max-age=31536000, immutable", 200},
		{"/a/0/shop.js", "no-cache", 200},
		{"/a/0/demo/mug.svg", "no-cache", 200},
		{"/a/0/none.js", "no-store", 404},
		{"/a/0/index.html", "no-store", 404},
		{"/a/0/../../go.mod", "no-store", 404},
		{"/a/0/", "no-store", 404},
		{"/nowhere", "no-store", 404},
	} {
		got := b.call("GET", c.path, "", "Accept-Encoding", "gzip")
		if got.StatusCode() != c.status || string(got.Header.Peek("Cache-Control")) != c.keep {
			t.Errorf("%s: %d %s", c.path, got.StatusCode(), got.Header.String())
		}
		if packed := string(got.Header.Peek("Content-Encoding")) == "gzip"; packed != (c.status == 200) {
			t.Errorf("%s: compressed %t", c.path, packed)
		}
	}
	if got := b.call("HEAD", "/", ""); got.StatusCode() != 200 {
		t.Errorf("HEAD: %d %s", got.StatusCode(), got.Header.String())
	}
	if got := b.call("POST", "/", ""); got.StatusCode() != fasthttp.StatusMethodNotAllowed {
		t.Errorf("POST: %d", got.StatusCode())
	}
	without := setup(t, func(*Config) {})
	if got := without.call("GET", "/", ""); got.StatusCode() != 404 {
		t.Errorf("without pages: %d", got.StatusCode())
	}
}
