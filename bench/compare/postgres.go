package compare

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// ticksPerSecond is the unit of /proc/<pid>/stat (see proc.CPU).
const ticksPerSecond = 100

// stat is what /proc/<pid>/stat says of a process.
type stat struct {
	parent int
	own    int64 // ticks
	reaped int64 // ticks of its children that have ended
}

func readStat(path string) (s stat, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	// The name stands in parentheses and may hold spaces: count from the last one.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const ppid, utime, stime, cutime, cstime = 1, 11, 12, 13, 14 // fields of proc(5), less three
	if len(fields) <= cstime {
		return s, fmt.Errorf("%s: unexpected %q", path, text)
	}
	var ticks [cstime + 1]int64
	for _, n := range []int{ppid, utime, stime, cutime, cstime} {
		if ticks[n], err = strconv.ParseInt(string(fields[n]), 10, 64); err != nil {
			return s, fmt.Errorf("%s: %w", path, err)
		}
	}
	return stat{int(ticks[ppid]), ticks[utime] + ticks[stime], ticks[cutime] + ticks[cstime]}, nil
}

// postgresCPU is the processor time of all of a server's processes: the postmaster, its
// children, and those of them that have ended.
func postgresCPU(ctx context.Context, pool *pgxpool.Pool) (time.Duration, error) {
	var backend int
	if err := pool.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		return 0, fmt.Errorf("cpu of postgresql: %w", err)
	}
	one, err := readStat(fmt.Sprintf("/proc/%d/stat", backend))
	if err != nil {
		return 0, fmt.Errorf("cpu of postgresql: %w", err)
	}
	postmaster, err := readStat(fmt.Sprintf("/proc/%d/stat", one.parent))
	if err != nil {
		return 0, fmt.Errorf("cpu of postgresql: %w", err)
	}
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	ticks := postmaster.own + postmaster.reaped
	for _, path := range all {
		// A process may end between the list and the look.
		if child, err := readStat(path); err == nil && child.parent == one.parent {
			ticks += child.own + child.reaped
		}
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}
