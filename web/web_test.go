package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// loadedMax is what a shopper may have to load, compressed: the page with its style and scripts, in one language.
const loadedMax = 15_000

func shop(t *testing.T) *Site {
	t.Helper()
	site, err := Shop()
	if err != nil {
		t.Fatal(err)
	}
	return site
}

// Protects a plain clone: everything in the folder is embedded, and everything that a file names is
// there.
func TestShop_Whole(t *testing.T) {
	t.Parallel()
	site := shop(t)
	err := filepath.WalkDir("shop", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if name := strings.TrimPrefix(filepath.ToSlash(path), "shop/"); name != indexName && site.files[name] == nil {
			t.Errorf("%s is not in the program", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile(`"/a/`+site.digest+`/([^"]+)"`).FindAllStringSubmatch(string(site.Page.Body), -1) {
		if site.files[found[1]] == nil {
			t.Errorf("the page loads %s, which is not there", found[1])
		}
	}
	for name, file := range site.files {
		for _, found := range regexp.MustCompile(`from"\./([^"]+)"`).FindAllStringSubmatch(string(file.Body), -1) {
			if site.files[found[1]] == nil {
				t.Errorf("%s imports %s, which is not there", name, found[1])
			}
			if !bytes.Contains(site.Page.Body, []byte("/"+found[1]+`"`)) {
				t.Errorf("the page does not preload %s: it would be found only when %s has come", found[1], name)
			}
		}
	}
}

// Protects the shopper on a slow network at the second of the opening.
func TestShop_Small(t *testing.T) {
	t.Parallel()
	site := shop(t)
	for _, language := range []string{"en", "zh"} {
		loaded := len(site.Page.Packed)
		for name, file := range site.files {
			other := name == "en.js" || name == "zh.js"
			if strings.HasPrefix(name, "demo/") || other && name != language+".js" {
				continue
			}
			loaded += len(file.Packed)
		}
		t.Logf("%s: %d bytes", language, loaded)
		if loaded > loadedMax {
			t.Errorf("a shopper loads %d bytes in %s, more than %d", loaded, language, loadedMax)
		}
	}
}

// Protects the policy: nothing inline, nothing from elsewhere, nothing that would need Trusted Types.
func TestShop_KeepsThePolicy(t *testing.T) {
	t.Parallel()
	site := shop(t)
	if found := regexp.MustCompile(`(?i)<script[^>]*>[^<]|<style|\son\w+=|\sstyle=|https?://`).Find(site.Page.Body); found != nil {
		t.Errorf("the page has %q", found)
	}
	for name, file := range site.files {
		if found := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://(?:www\.w3\.org/2000/svg)?`).
			FindAll(file.Body, -1); len(found) > 0 && !strings.HasSuffix(name, ".svg") {
			t.Errorf("%s has %q", name, found)
		}
	}
}

// Protects caches: what a digest names never changes, and another release's pages still find their
// files.
func TestSite_Digest(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"s/index.html": {Data: []byte(`<script src="/a/0/x.js"></script>`)},
		"s/x.js": {Data: []byte(`// told to nobody
export const long = 1;`)},
	}
	first, err := load(files, "s")
	if err != nil {
		t.Fatal(err)
	}
	files["s/x.js"] = &fstest.MapFile{Data: []byte(`export const long = 2;`)}
	second, err := load(files, "s")
	if err != nil {
		t.Fatal(err)
	}
	if first.digest == second.digest || first.Page.ETag == second.Page.ETag {
		t.Error("another release has the same names")
	}
	if file, forEver := second.File(second.digest, "x.js"); file == nil || !forEver {
		t.Errorf("%v, kept %t", file, forEver)
	}
	if file, forEver := second.File(first.digest, "x.js"); file == nil || forEver || !bytes.Contains(file.Body, []byte("2")) {
		t.Errorf("an older page: %v, kept %t", file, forEver)
	}
	if file, _ := second.File(second.digest, "index.html"); file != nil {
		t.Error("the page has a second address")
	}
	if text := first.files["x.js"].Body; bytes.Contains(text, []byte("nobody")) {
		t.Errorf("not made smaller: %s", text)
	}
}

// Protects an installation behind a content delivery network: the folder holds what the program
// serves.
func TestSite_Export(t *testing.T) {
	t.Parallel()
	site, dir := shop(t), t.TempDir()
	if err := site.Export(dir); err != nil {
		t.Fatal(err)
	}
	for name, file := range site.files {
		got, err := os.ReadFile(filepath.Join(dir, "a", site.digest, name))
		if err != nil || !bytes.Equal(got, file.Body) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, indexName)); err != nil || !bytes.Equal(got, site.Page.Body) {
		t.Errorf("the page: %v", err)
	}
	if err := site.Export(filepath.Join(dir, indexName)); err == nil {
		t.Error("written below a file")
	}
}

// Protects what is compressed once: it is the file.
func TestSite_Packed(t *testing.T) {
	t.Parallel()
	for name, file := range shop(t).files {
		if file.Packed == nil {
			continue
		}
		r, err := gzip.NewReader(bytes.NewReader(file.Packed))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, file.Body) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Protects the two languages: they say the same things, with the same values in them.
func TestShop_Languages(t *testing.T) {
	t.Parallel()
	words := func(name string) map[string]string {
		text, err := os.ReadFile(filepath.Join("shop", name))
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[string]string)
		for _, line := range regexp.MustCompile(`(?m)^ {2}(\w+): '(.*)',$`).FindAllStringSubmatch(string(text), -1) {
			var values []string
			values = append(values, regexp.MustCompile(`\{\w+\}`).FindAllString(line[2], -1)...)
			found[line[1]] = strings.Join(values, " ")
		}
		return found
	}
	en, zh := words("en.js"), words("zh.js")
	if len(en) < 50 {
		t.Fatalf("only %d words were found", len(en))
	}
	for word, values := range en {
		if got, ok := zh[word]; !ok || len(got) != len(values) {
			t.Errorf("%s has %q in English, and %q in Chinese (%t)", word, values, got, ok)
		}
	}
	if len(zh) != len(en) {
		t.Errorf("%d words in English, %d in Chinese", len(en), len(zh))
	}
}

// boardMax is what the board may take on its way, compressed.
const boardMax = 40_000

// Protects the board: everything that it names is there, and it is small.
func TestBoard_WholeAndSmall(t *testing.T) {
	t.Parallel()
	site, err := Board()
	if err != nil {
		t.Fatal(err)
	}
	size := len(site.Page.Packed)
	loads := regexp.MustCompile(`(?:from|import)"\./([^"]+)"|/a/` + site.digest + `/([^"> ]+)`)
	for name, file := range site.files {
		size += len(file.Packed)
		for _, found := range loads.FindAllStringSubmatch(string(file.Body)+string(site.Page.Body), -1) {
			if site.files[found[1]+found[2]] == nil {
				t.Errorf("%s needs %s, which is not there", name, found[1]+found[2])
			}
		}
	}
	t.Logf("%d bytes", size)
	if size > boardMax || len(site.files) < 5 {
		t.Errorf("%d files of %d bytes, at most %d", len(site.files), size, boardMax)
	}
}
