// Package wrk runs wrk, the lightest closed-loop generator there is: on a small machine the
// generator's own cost is what limits every measurement. Its latencies are those of a closed
// loop, in which a slow server is asked less often; only its rates are used for verdicts.
package wrk

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"flashsale/bench/proc"
)

//go:embed wrk.lua
var script []byte

// ErrMissing tells that wrk is not installed.
var ErrMissing = errors.New("wrk is missing: install it: sudo apt-get install -y wrk")

// Load is what wrk sends and for how long.
type Load struct {
	URL         string
	Path        string // {a-b} in it stands for each number from a to b, a user each
	FirstUser   int
	Users       int
	Connections int
	Threads     int
	Length      time.Duration // whole seconds
}

// Result is what wrk counted.
type Result struct {
	Requests     int64 `json:"requests"`
	Refused      int64 `json:"refused"` // statuses above 399
	SocketErrors int64 `json:"socket_errors"`
	DurationUS   int64 `json:"duration_us"`
	Wrapped      int64 `json:"wrapped"` // requests of users who had been sent before
	P50US        int64 `json:"p50_us"`
	P99US        int64 `json:"p99_us"`
	MaxUS        int64 `json:"max_us"`

	CPU time.Duration `json:"-"` // what wrk itself used
}

// Accepted is the number of answers below 400.
func (r Result) Accepted() int64 { return r.Requests - r.Refused }

// Rate is a count over wrk's own clock, each second.
func (r Result) Rate(count int64) float64 { return float64(count) / (float64(r.DurationUS) / 1e6) }

// Runner holds the script where wrk can read it.
type Runner struct{ program, script string }

// New prepares wrk; the script is written into a folder of the caller's.
func New(dir string) (*Runner, error) {
	program, err := exec.LookPath("wrk")
	if err != nil {
		return nil, ErrMissing
	}
	path := filepath.Join(dir, "wrk.lua")
	return &Runner{program: program, script: path}, os.WriteFile(path, script, 0o600)
}

// Version is what wrk calls itself.
func (r *Runner) Version(ctx context.Context) string {
	out, _ := exec.CommandContext(ctx, r.program, "--version").Output() // it exits 1 after telling
	line, _, _ := strings.Cut(string(out), "[")
	return strings.TrimSpace(line)
}

// Command is the line that a run would have on a terminal.
func (r *Runner) Command(l Load) []string {
	return []string{
		r.program, "--threads", strconv.Itoa(l.Threads), "--connections", strconv.Itoa(l.Connections),
		"--duration", strconv.Itoa(int(l.Length.Seconds())) + "s", "--timeout", "10s",
		"--script", r.script, l.URL, "--",
		l.Path, strconv.Itoa(l.FirstUser), strconv.Itoa(l.Users), strconv.Itoa(l.Threads),
	}
}

// Run sends the load.
func (r *Runner) Run(ctx context.Context, l Load) (Result, error) {
	args := r.Command(l)
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	process, err := proc.Start(cmd)
	if err != nil {
		return Result{}, err
	}
	if err := process.Wait(); err != nil {
		return Result{}, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out.Bytes())
	}
	start := bytes.LastIndexByte(out.Bytes(), '{')
	var result Result
	if start < 0 || json.Unmarshal(out.Bytes()[start:], &result) != nil {
		return Result{}, fmt.Errorf("%s: unexpected output\n%s", strings.Join(args, " "), out.Bytes())
	}
	result.CPU = process.Used()
	return result, nil
}
