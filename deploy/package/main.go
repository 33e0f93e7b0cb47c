// Command package makes the Debian package that nfpm.yaml describes, as `make package` asks it to. It is a
// module of its own: what makes packages is no part of the program.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
)

func main() {
	config := flag.String("config", "deploy/package/nfpm.yaml", "what the package holds; its paths are those of the working folder")
	target := flag.String("target", "dist", "folder for the package")
	flag.Parse()
	path, err := build(*config, *target)
	if err != nil {
		fmt.Fprintln(os.Stderr, "package:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

func build(config, target string) (path string, err error) {
	parsed, err := nfpm.ParseFileWithEnvMapping(config, os.Getenv)
	if err != nil {
		return "", err
	}
	info := nfpm.WithDefaults(&parsed.Info)
	if err := nfpm.PrepareForPackager(info, "deb"); err != nil {
		return "", err
	}
	path = filepath.Join(target, deb.Default.ConventionalFileName(info))
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	return path, errors.Join(deb.Default.Package(info, file), file.Close())
}
