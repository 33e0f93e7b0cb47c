package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrMissingProgram tells that a server is not installed; the message holds the line that
// installs it.
var ErrMissingProgram = errors.New("program is missing")

// debianPostgres is where Debian keeps one folder of programs for each major version.
const debianPostgres = "/usr/lib/postgresql/*/bin"

type redisPrograms struct{ server, checkAOF string }

type postgresPrograms struct{ bin string }

func findRedis() (redisPrograms, error) {
	server, err := exec.LookPath("redis-server")
	if err != nil {
		return redisPrograms{}, missing("redis-server")
	}
	checkAOF, err := exec.LookPath("redis-check-aof")
	if err != nil {
		return redisPrograms{}, missing("redis-check-aof")
	}
	return redisPrograms{server: server, checkAOF: checkAOF}, nil
}

// findPostgres finds the programs of a major version, or with "" the newest. Debian does not
// put them on the PATH.
func findPostgres(ctx context.Context, version string) (postgresPrograms, error) {
	bins, err := filepath.Glob(debianPostgres)
	if err != nil {
		return postgresPrograms{}, err
	}
	slices.SortFunc(bins, func(a, b string) int { return majorOf(b) - majorOf(a) })
	if path, err := exec.LookPath("postgres"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			bins = append(bins, filepath.Dir(target))
		}
	}
	for _, bin := range bins {
		if version != "" && !hasVersion(ctx, bin, version) {
			continue
		}
		if executable(bin, "postgres", "initdb", "createdb", "dropdb") {
			return postgresPrograms{bin: bin}, nil
		}
	}
	if version != "" {
		return postgresPrograms{}, fmt.Errorf("postgres %s, which wrote the data folder: %w: "+
			"install it: sudo apt-get install -y postgresql-%s", version, ErrMissingProgram, version)
	}
	return postgresPrograms{}, missing("postgres")
}

func majorOf(bin string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	if err != nil {
		return 0
	}
	return n
}

// hasVersion asks the program itself: the folder's name says it only on Debian.
func hasVersion(ctx context.Context, bin, version string) bool {
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	fields := strings.Fields(string(out))
	return err == nil && len(fields) >= 3 && strings.HasPrefix(fields[2], version+".")
}

func executable(dir string, names ...string) bool {
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

func missing(name string) error {
	return fmt.Errorf("%s: %w: install it: sudo apt-get install -y redis-server postgresql",
		name, ErrMissingProgram)
}
