// Package host says where and of what something was measured: without it a figure is worth
// nothing.
package host

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Facts are the machine, the versions and the source that was measured.
type Facts struct {
	Time       time.Time `json:"time"`
	Command    string    `json:"command"`
	Commit     string    `json:"commit"`
	CPU        string    `json:"cpu"`
	Cores      int       `json:"cores"`
	MemoryGiB  float64   `json:"memory_gib"`
	Kernel     string    `json:"kernel"`
	Filesystem string    `json:"filesystem"` // of the stores' data
	Priority   string    `json:"priority"`   // of this process and its children
	Load       string    `json:"load"`       // average of the last minute, before we began
	Go         string    `json:"go"`
	Redis      string    `json:"redis"`
	Postgres   string    `json:"postgres"`
}

// Read gathers the facts. What cannot be found out is "unknown".
func Read(ctx context.Context, source, data string) Facts {
	return Facts{
		Time:       time.Now(),
		Command:    strings.Join(append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...), " "),
		Commit:     commit(ctx, source),
		CPU:        cpuModel(),
		Cores:      runtime.NumCPU(),
		MemoryGiB:  memory(),
		Kernel:     kernel(),
		Filesystem: filesystem(data),
		Priority:   priority(),
		Load:       load(),
		Go:         runtime.Version(),
		Redis:      version(ctx, "redis-server", "--version"),
		Postgres:   version(ctx, postgres(), "--version"),
	}
}

// String is the head of a report.
func (f Facts) String() string {
	return fmt.Sprintf("machine   %s, %d cores, %.0f GiB, Linux %s, data on %s\n"+
		"versions  %s, %s, %s\ncommit    %s\ncommand   %s (priority: %s)\ntime      %s, at a load of %s",
		f.CPU, f.Cores, f.MemoryGiB, f.Kernel, f.Filesystem,
		f.Go, f.Redis, f.Postgres, f.Commit, f.Command, f.Priority, f.Time.Format(time.RFC3339), f.Load)
}

const unknown = "unknown"

func commit(ctx context.Context, source string) string {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", source}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	head, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return unknown
	}
	if changes, err := git("status", "--porcelain"); err != nil || changes != "" {
		head += " and changes"
	}
	return head
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func memory() float64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0
	}
	return float64(info.Totalram) * float64(info.Unit) / (1 << 30)
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return unknown
	}
	return string(bytes.TrimSpace(text))
}

// load is the number of programs that ran or wanted to.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return unknown
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}

// priority names how Linux schedules us: a report of a real-time run must say so.
func priority() string {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return unknown
	}
	_, rest, _ := bytes.Cut(text, []byte(") "))
	fields := strings.Fields(string(rest))
	const nice, policy = 16, 38 // fields 19 and 41 of proc(5), less the two cut off
	if len(fields) <= policy {
		return unknown
	}
	switch fields[policy] {
	case "0":
		return "nice " + fields[nice]
	case "1", "2":
		return "real-time"
	default:
		return "policy " + fields[policy]
	}
}

// filesystem names the kind of file system, because tmpfs is not durable and fsync on it free.
func filesystem(dir string) string {
	var info syscall.Statfs_t
	if err := syscall.Statfs(dir, &info); err != nil {
		return unknown
	}
	switch info.Type {
	case 0xEF53:
		return "ext4"
	case 0x01021994:
		return "tmpfs (not durable)"
	case 0x58465342:
		return "xfs"
	case 0x9123683E:
		return "btrfs"
	case 0x794C7630:
		return "overlayfs"
	default:
		return fmt.Sprintf("file system %#x", info.Type)
	}
}

// postgres finds the program where Debian keeps it off the PATH.
func postgres() string {
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(found) > 0 {
		return found[len(found)-1]
	}
	return "postgres"
}

func version(ctx context.Context, program string, args ...string) string {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return unknown
	}
	line, _, _ := strings.Cut(string(out), "\n")
	words := strings.Fields(line)
	switch { // "Redis server v=7.0.15 sha=..." and "postgres (PostgreSQL) 15.18 (...)"
	case len(words) >= 3 && strings.HasPrefix(words[2], "v="):
		return "Redis " + strings.TrimPrefix(words[2], "v=")
	case len(words) >= 3 && words[1] == "(PostgreSQL)":
		return "PostgreSQL " + words[2]
	}
	return line
}
