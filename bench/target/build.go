package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
