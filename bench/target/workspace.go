package target

import (
	"context"
	"errors"
	"os"
)

// Workspace is what a run needs before anything can start: a folder of its own, the engine's
// sources and its binary.
type Workspace struct {
	Dir    string
	Source string
	Binary string
}

// NewWorkspace makes the folder below dir ("": where temporary files are), and finds the sources
// and builds the binary where they are not named. The caller closes it.
func NewWorkspace(ctx context.Context, dir, source, binary string) (_ Workspace, err error) {
	w := Workspace{Source: source, Binary: binary}
	if w.Dir, err = Folder(dir); err != nil {
		return Workspace{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if w.Source == "" {
		if w.Source, err = Source(); err != nil {
			return Workspace{}, err
		}
	}
	if w.Binary == "" {
		if w.Binary, err = Build(ctx, w.Source, w.Dir); err != nil {
			return Workspace{}, err
		}
	}
	return w, nil
}

// Close removes the folder. It is safe to call twice, and without one.
func (w Workspace) Close() error {
	if w.Dir == "" {
		return nil
	}
	return os.RemoveAll(w.Dir)
}

// Folder makes a temporary folder below dir. PostgreSQL runs as another user when we are root, and
// must be able to pass.
func Folder(dir string) (string, error) {
	folder, err := os.MkdirTemp(dir, "flashsale-bench-")
	if err != nil {
		return "", err
	}
	return folder, os.Chmod(folder, 0o711) //nolint:gosec // others may pass, not read
}
