// Package web holds the pages: static files, which it names by their content, minifies and compresses
// once, when they are first asked for. Nothing is built beforehand, and nothing in here is anybody
// else's.
//
// A file's address is /a/<digest>/<name>, where the digest is that of all files of a site together:
// what it names never changes, so relative imports need no rewriting and caches may keep it for ever.
// The page itself has fixed addresses and is asked for anew.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tdewolff/minify/v2"
	"github.com/tdewolff/minify/v2/css"
	"github.com/tdewolff/minify/v2/js"
)

//go:embed shop ops
var sources embed.FS

const (
	indexName = "index.html"
	// filesAt is where the page looks for the files of its site, in its source.
	filesAt = "/a/0/"
)

// Policy is the Content-Security-Policy of every page: it loads, sends to and runs nothing but its
// own, and nobody frames it. Pictures of goods may be anywhere that speaks TLS.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https:; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// File is one that is served as it is.
type File struct {
	Type   string // media type
	Body   []byte
	Packed []byte // gzip of Body; nil where that is no smaller
	ETag   string // quoted
}

// Site is a page with the files that it loads.
type Site struct {
	Page   *File
	digest string
	files  map[string]*File
}

// Shop is the storefront.
var Shop = sync.OnceValues(func() (*Site, error) { return load(sources, "shop") })

// Board is the operators' page.
var Board = sync.OnceValues(func() (*Site, error) { return load(sources, "ops") })

// load reads a site from a folder.
func load(from fs.FS, dir string) (*Site, error) {
	raw := make(map[string][]byte)
	digest := sha256.New()
	err := fs.WalkDir(from, dir, func(name string, entry fs.DirEntry, err error) error { // in order
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		name = strings.TrimPrefix(name, dir+"/")
		fmt.Fprintf(digest, "%s %d\n%s", name, len(text), text)
		raw[name] = text
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the site %s: %w", dir, err)
	}
	s := &Site{digest: hex.EncodeToString(digest.Sum(nil)[:8]), files: make(map[string]*File)}
	for name, text := range raw {
		if name == indexName {
			text = bytes.ReplaceAll(text, []byte(filesAt), []byte("/a/"+s.digest+"/"))
		}
		f, err := newFile(name, text)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", dir, name, err)
		}
		if name == indexName {
			s.Page = f
		} else {
			s.files[name] = f
		}
	}
	if s.Page == nil {
		return nil, fmt.Errorf("the site %s has no %s", dir, indexName)
	}
	return s, nil
}

// Media types of what a site may consist of. [mime] reads tables of the machine, too.
var types = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

func newFile(name string, text []byte) (*File, error) {
	kind, ok := types[path.Ext(name)]
	if !ok {
		return nil, fmt.Errorf("files of this kind have no media type here: %s", path.Ext(name))
	}
	media, _, err := mime.ParseMediaType(kind)
	if err != nil {
		return nil, err
	}
	m := minify.New()
	m.AddFunc("text/javascript", js.Minify)
	m.AddFunc("text/css", css.Minify)
	if small, err := m.Bytes(media, text); err == nil {
		text = small
	} else if err != minify.ErrNotExist { //nolint:errorlint // returned as it is
		return nil, err
	}
	sum := sha256.Sum256(text)
	f := &File{Type: kind, Body: text, ETag: `"` + hex.EncodeToString(sum[:8]) + `"`}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if packed.Len() < len(text) {
		f.Packed = packed.Bytes()
	}
	return f, nil
}

// File returns the file of a name, or nil. It may be kept for ever unless it was asked for by the
// digest of another release, which a page that was loaded before an update does: it gets what there
// is now.
func (s *Site) File(digest, name string) (f *File, forEver bool) {
	return s.files[name], digest == s.digest
}

// Export writes the site into a folder as a content delivery network serves it: the files at their
// addresses and the page as index.html.
func (s *Site) Export(dir string) error {
	write := func(name string, f *File) error {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { //nolint:gosec // to be served to everybody
			return err
		}
		return os.WriteFile(name, f.Body, 0o644) //nolint:gosec // likewise
	}
	for name, f := range s.files {
		if err := write(path.Join("a", s.digest, name), f); err != nil {
			return fmt.Errorf("export pages: %w", err)
		}
	}
	if err := write(indexName, s.Page); err != nil {
		return fmt.Errorf("export pages: %w", err)
	}
	return nil
}
