package scenario

import (
	"context"
	"os"
	"os/exec"
	"time"

	k6 "go.k6.io/k6/cmd"

	"flashsale/bench/proc"
	"flashsale/bench/xflash"
)

// childEnv makes our own program play k6: k6's public API is its command line only, which reads
// the process' arguments and ends in os.Exit.
const childEnv = "FLASHSALE_BENCH_K6"

// MaybeChild runs k6 instead of the program, and does not return, where it was started for that.
func MaybeChild() {
	if os.Getenv(childEnv) == "" {
		return
	}
	_ = os.Unsetenv(childEnv)
	K6(os.Args[1:])
}

// K6 runs k6 itself, which knows what package xflash adds, with its own arguments. It does not
// return.
func K6(args []string) {
	os.Args = append([]string{"k6"}, args...)
	// It must not call home, nor fetch another binary for an import that it does not know.
	_ = os.Setenv("K6_NO_USAGE_REPORT", "true")
	_ = os.Setenv("K6_AUTO_EXTENSION_RESOLUTION", "false")
	xflash.Register()
	k6.Execute()
	os.Exit(0)
}

// runChild runs k6 as a child, for at most a time: a websocket that is never closed keeps k6
// for ever, past every limit of its own.
func runChild(ctx context.Context, program string, limit time.Duration, prepare func(*exec.Cmd)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	child := exec.CommandContext(context.WithoutCancel(ctx), program)
	prepare(child)
	child.Env = append(child.Env, childEnv+"=1")
	process, err := proc.Start(child)
	if err != nil {
		return err
	}
	select {
	case <-process.Done():
		return process.Wait()
	case <-ctx.Done():
		_ = process.Stop() // its exit code says no more than that we ended it
		return context.Cause(ctx)
	}
}
