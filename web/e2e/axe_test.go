package e2e

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// axe-core, fetched for the tests and never committed: its licence is its own.
const (
	axeVersion = "4.10.3"
	axeSum     = "880970c081707360e64f34cea25ff91892f5bc95675b0776925b9709dd8a68bb"
	axeURL     = "https://registry.npmjs.org/axe-core/-/axe-core-" + axeVersion + ".tgz"
	axeMax     = 4 << 20
)

// axe is its script.
var axe = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	path := filepath.Join(cache, "flashsale", "axe-"+axeVersion+".js")
	text, err := os.ReadFile(path)
	if err != nil || sumOf(text) != axeSum {
		if text, err = fetchAxe(); err != nil {
			return "", fmt.Errorf("fetch axe-core, which tests accessibility: %w", err)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			_ = os.WriteFile(path, text, 0o644) // it is fetched again next time
		}
	}
	return string(text), nil
})

func sumOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func fetchAxe() ([]byte, error) {
	response, err := http.Get(axeURL)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	unzipped, err := gzip.NewReader(response.Body)
	if err != nil {
		return nil, err
	}
	for files := tar.NewReader(unzipped); ; {
		file, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the package lacks axe.min.js")
		}
		if err != nil {
			return nil, err
		}
		if file.Name != "package/axe.min.js" {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(files, axeMax))
		if err != nil {
			return nil, err
		}
		if sum := sumOf(text); sum != axeSum {
			return nil, fmt.Errorf("its SHA-256 is %s, not %s", sum, axeSum)
		}
		return text, nil
	}
}

// accessible holds the page as it is against WCAG 2.2 AA, and makes sure that what is said to be
// hidden is not to be seen, which axe does not look at.
func (p *tab) accessible(state string) {
	p.t.Helper()
	script, err := axe()
	if err != nil {
		p.t.Fatal(err)
	}
	eval[any](p, script+";0")
	found := eval[[]string](p, `axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
		.then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ': ' + n.html.slice(0, 160) + ' ' + n.failureSummary.slice(0, 240))))`)
	if len(found) > 0 {
		p.t.Errorf("%s: %d violations of accessibility\n%s", state, len(found), strings.Join(found, "\n"))
	}
	shown := eval[[]string](p, `[...document.querySelectorAll('[hidden]')].filter(e => e.checkVisibility()).map(e => e.outerHTML.slice(0, 120))`)
	if len(shown) > 0 {
		p.t.Errorf("%s: hidden, yet to be seen: %s", state, strings.Join(shown, "\n"))
	}
	if wide := eval[bool](p, `document.documentElement.scrollWidth > document.documentElement.clientWidth`); wide {
		p.t.Errorf("%s: the page is wider than its window", state)
	}
}
