package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is one run of a server: a child that cannot outlive us.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the child is gone and reaped
}

// launch starts a child that receives deathSignal when we end, however we end.
//
// Linux sends the parent-death signal when the *thread* that forked ends, not when the process
// does, and the Go runtime ends threads as it likes. So one goroutine forks and waits, locked
// to its thread from before the fork until the child is gone.
func launch(cmd *exec.Cmd, deathSignal syscall.Signal) (*process, error) {
	bind(cmd, deathSignal)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		_ = cmd.Wait() // How it ended is in cmd.ProcessState.
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// run runs a short-lived tool to its end, with the same promise about orphans, and returns an
// error that holds what the tool printed.
func run(cmd *exec.Cmd) error {
	bind(cmd, syscall.SIGKILL)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd.Path, err, out)
	}
	return nil
}

// bind ties a command's life to ours. A process group of its own keeps a Ctrl-C at the
// terminal from the servers, so that we can drain before we stop them. The environment is
// ours: no PGDATA or locale of the user's changes what happens.
func bind(cmd *exec.Cmd, deathSignal syscall.Signal) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = deathSignal
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.Dir = "/"
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// patience is how long a server may take to obey a signal before a harsher one follows.
const patience = 20 * time.Second

// end sends the signals one after the other until the child is gone. It reports whether the
// child ended in good order.
func (p *process) end(signals ...syscall.Signal) bool {
	for _, sig := range append(signals, syscall.SIGKILL) {
		if err := p.cmd.Process.Signal(sig); errors.Is(err, os.ErrProcessDone) {
			break
		}
		timer := time.NewTimer(patience)
		select {
		case <-p.done:
		case <-timer.C:
		}
		timer.Stop()
		if p.ended() {
			break
		}
	}
	<-p.done // SIGKILL cannot be refused.
	return p.cmd.ProcessState.Success()
}
