package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	tempPattern  = "flashsale-stack-"
	lockName     = "lock"
	lockPatience = 5 * time.Second
	lockInterval = 20 * time.Millisecond

	// leftoverAgeMin keeps the sweep from a folder that another process has just made and not
	// locked yet.
	leftoverAgeMin = time.Minute
)

// ErrInUse tells that another stack works in the data folder.
var ErrInUse = errors.New("data folder is in use by another stack")

// account is the unprivileged user that PostgreSQL runs as when we are root.
type account struct {
	name     string
	uid, gid int
}

// unprivileged returns whom PostgreSQL runs as: nil means us.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return nil, fmt.Errorf("uid of %s: %w", name, err)
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return nil, fmt.Errorf("gid of %s: %w", name, err)
		}
		return &account{name: name, uid: uid, gid: gid}, nil
	}
	return nil, errors.New("we are root, and there is no user postgres or nobody to run PostgreSQL as")
}

func (a *account) credential() *syscall.Credential {
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// reaches says which folder on the way to dir is closed to the account, if any is. It looks at
// the mode bits only.
func (a *account) reaches(dir string) error {
	if a == nil {
		return nil
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("stat %s: no owner", dir)
		}
		search := fs.FileMode(0o001)
		switch {
		case int(owner.Uid) == a.uid:
			search = 0o100
		case int(owner.Gid) == a.gid:
			search = 0o010
		}
		if info.Mode()&search == 0 {
			return fmt.Errorf("PostgreSQL does not run as root, and the user %s that it runs as "+
				"cannot enter %s (%s): choose a data folder elsewhere, such as %s",
				a.name, dir, info.Mode(), rootDir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// rootDir is where root keeps lasting data: every user can reach it.
const rootDir = "/var/lib/flashsale"

// DefaultDir is a folder for lasting data that the servers can reach, whoever we are:
// /var/lib/flashsale for root, else $XDG_DATA_HOME/flashsale or ~/.local/share/flashsale.
func DefaultDir() string {
	if os.Geteuid() == 0 {
		return rootDir
	}
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "flashsale")
	}
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "flashsale")
	}
	return filepath.Join(os.TempDir(), "flashsale-"+strconv.Itoa(os.Getuid()))
}

// makeTemp makes a temporary folder that the account can reach.
func makeTemp(a *account) (string, error) {
	var errs []error
	for _, base := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if err := a.reaches(base); err != nil {
			errs = append(errs, err)
			continue
		}
		removeLeftovers(base)
		dir, err := os.MkdirTemp(base, tempPattern)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		return dir, os.Chmod(dir, 0o711) //nolint:gosec // The account must pass; each server's folder is closed.
	}
	return "", fmt.Errorf("no usable temporary folder: %w", errors.Join(errs...))
}

// removeLeftovers removes the temporary data of stacks whose process was killed: what nobody
// holds the lock of. It is housekeeping: what cannot be removed stays.
func removeLeftovers(base string) {
	dirs, err := filepath.Glob(filepath.Join(base, tempPattern+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, lockName)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < leftoverAgeMin {
			continue
		}
		lock, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if tryLock(lock) == nil {
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
}

// lockFolder takes the folder for us. Every server process inherits the open file and with it
// the lock, which therefore ends with the last of them and not with us: when we have it, no
// process of an earlier stack is alive in the folder. That is why it waits a little: a parent
// that was killed leaves servers that are about to end.
func lockFolder(ctx context.Context, dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	ticker := time.NewTicker(lockInterval)
	defer ticker.Stop()
	for {
		err := tryLock(lock)
		if err == nil {
			return lock, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = lock.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			_ = lock.Close()
			return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
		case <-ticker.C:
		}
	}
}

func tryLock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
