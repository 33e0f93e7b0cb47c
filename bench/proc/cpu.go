package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc/<pid>/stat: USER_HZ, which is 100 on every architecture
// that Go supports on Linux.
const ticksPerSecond = 100

// CPU is the processor time that a process has used, all its threads together.
func CPU(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("cpu of process %d: %w", pid, err)
	}
	// The name stands in parentheses and may hold spaces: count from the last one.
	_, rest, _ := bytes.Cut(text, []byte(") "))
	fields := strings.Fields(string(rest))
	const utime, stime = 11, 12 // fields 14 and 15 of proc(5), less the three cut off
	if len(fields) <= stime {
		return 0, fmt.Errorf("cpu of process %d: unexpected stat %q", pid, text)
	}
	var ticks int64
	for _, n := range []int{utime, stime} {
		t, err := strconv.ParseInt(fields[n], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("cpu of process %d: %w", pid, err)
		}
		ticks += t
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// Machine is the processor time that all programs together have used since the start of the
// machine, with what the hypervisor took away, over all its processors. The network's own
// share (softirq) is left out, as it is from what each process is charged with.
func Machine() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("cpu of the machine: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return 0, fmt.Errorf("cpu of the machine: unexpected stat %q", line)
	}
	var ticks int64
	for _, n := range []int{1, 2, 3, 8} { // user, nice, system, steal
		t, err := strconv.ParseInt(fields[n], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("cpu of the machine: %w", err)
		}
		ticks += t
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// RSS is the memory that a process holds, in bytes.
func RSS(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("memory of process %d: unexpected statm %q", pid, text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	return pages * int64(os.Getpagesize()), nil
}
