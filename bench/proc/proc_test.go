package proc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"flashsale/bench/proc"
)

const childEnv = "PROC_TEST_CHILD"

// TestMain lets the test binary play the parent that is killed.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		parent()
	}
	os.Exit(m.Run())
}

// parent starts a child, prints its pid and waits for what comes.
func parent() {
	child, err := proc.Start(exec.CommandContext(context.Background(), "sleep", "600"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(child.PID())
	_ = child.Wait()
	os.Exit(1)
}

// An orphaned Redis or server would spoil every later measurement, so children must not
// survive even a kill -9.
func TestStart_ChildDiesWithParent(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(20 * time.Second); alive(pid); {
		if time.Now().After(deadline) {
			t.Fatalf("child %d has survived its parent", pid)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// alive is false of a process that is gone or only waits to be reaped.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// What processes cost is half of the verdicts: the figures must be of the process asked for,
// in the right unit.
func TestCPU(t *testing.T) {
	t.Parallel()
	child, err := proc.Start(exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done"))
	if err != nil {
		t.Fatal(err)
	}
	machine, err := proc.Machine()
	if err != nil {
		t.Fatal(err)
	}
	const enough = 200 * time.Millisecond
	var used time.Duration
	for deadline := time.Now().Add(20 * time.Second); used < enough; {
		if used, err = proc.CPU(child.PID()); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("a busy child used %s", used)
		}
		<-time.After(10 * time.Millisecond)
	}
	after, err := proc.Machine()
	if err != nil {
		t.Fatal(err)
	}
	if after-machine < enough/2 {
		t.Errorf("the machine used %s, but one child of it %s", after-machine, used)
	}
	if err := child.Stop(); err == nil {
		t.Error("the end by a signal is no error")
	}
	if total := child.Used(); total < used {
		t.Errorf("used %s in all, but %s before the end", total, used)
	}
	if _, err := proc.CPU(child.PID()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("cpu of a process that is gone: got %v", err)
	}
	if err := child.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("signal to a process that is gone: %v", err)
	}
}
