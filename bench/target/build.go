package target

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Source finds the engine's module: the folder above ours that holds its go.mod.
func Source() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module flashsale\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the engine's sources are not above this folder: start in bench/, or name a binary")
		}
		dir = parent
	}
}

// Build compiles the engine's binary into a folder and returns its path.
func Build(ctx context.Context, source, into string) (string, error) {
	binary := filepath.Join(into, "flashsale")
	return binary, goTool(ctx, source, "build", "-trimpath", "-o", binary, "./cmd/flashsale")
}

// BuildAt compiles the engine as it was at a commit of its history, and returns the binary's path.
func BuildAt(ctx context.Context, source, commit, into string) (string, error) {
	dir := filepath.Join(into, "source-"+commit)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	archive := exec.CommandContext(ctx, "git", "-C", source, "archive", "--format=tar", commit)
	unpack := exec.CommandContext(ctx, "tar", "--extract", "--directory", dir)
	var faults bytes.Buffer
	archive.Stderr, unpack.Stdout = &faults, &faults
	var err error
	if unpack.Stdin, err = archive.StdoutPipe(); err != nil {
		return "", err
	}
	if err := unpack.Start(); err != nil {
		return "", err
	}
	err = archive.Run()
	if err = errors.Join(err, unpack.Wait()); err != nil {
		return "", fmt.Errorf("the sources of %s, from the repository's history: %w\n%s", commit, err, faults.Bytes())
	}
	return Build(ctx, dir, dir)
}

// A Bug can be planted: lines of reserve.lua that are taken out.
type Bug struct {
	Name   string
	About  string
	checks []string
}

// Bugs are all there are. A suite that finds nothing wrong with such an engine is worth nothing.
func Bugs() []Bug {
	return []Bug{
		{"limit", "sells to a user as often as he asks", []string{
			"elseif holds.units > 0 and (closed or limit == 1) then",
			"elseif holds.units + qty > limit or holds.orders >= ORDERS_MAX or holds.over >= RELEASES_MAX\n" +
				"          or holds ~= NOTHING and holds.orders + holds.over == 0 then",
		}},
		{"oversell", "sells more than there is", []string{"elseif stock < qty then"}},
	}
}

// BuildPlanted compiles an engine with a bug. The compiler is shown another reserve.lua in the
// place of the real one, so that no such switch exists in the engine itself.
func BuildPlanted(ctx context.Context, source, into, bug string) (string, error) {
	at := slices.IndexFunc(Bugs(), func(b Bug) bool { return b.Name == bug })
	if at < 0 {
		return "", fmt.Errorf("there is no bug %q to plant", bug)
	}
	script := filepath.Join(source, "lua", "reserve.lua")
	text, err := os.ReadFile(script)
	if err != nil {
		return "", err
	}
	for _, check := range Bugs()[at].checks {
		if bytes.Count(text, []byte(check)) != 1 {
			return "", fmt.Errorf("%s has changed: there is not one %q to take out", script, check)
		}
		text = bytes.Replace(text, []byte(check), []byte("elseif false then"), 1)
	}
	planted := filepath.Join(into, "reserve.lua")
	if err := os.WriteFile(planted, text, 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {script: planted}})
	if err != nil {
		return "", err
	}
	list := filepath.Join(into, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	binary := filepath.Join(into, "flashsale")
	return binary, goTool(ctx, source, "build", "-trimpath", "-overlay", list, "-o", binary, "./cmd/flashsale")
}

// BuildTest compiles the test binary of one of the engine's packages and returns its path.
func BuildTest(ctx context.Context, source, pkg, into string) (string, error) {
	binary := filepath.Join(into, filepath.Base(pkg)+".test")
	return binary, goTool(ctx, source, "test", "-c", "-trimpath", "-o", binary, "./"+pkg)
}

func goTool(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
