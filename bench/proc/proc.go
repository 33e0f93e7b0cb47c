// Package proc runs child processes that cannot outlive us, and reads what they cost.
//
// Linux sends the parent-death signal when the thread that forked ends, not when the process
// does, and the Go runtime ends threads as it likes. So one goroutine forks and waits, locked
// to its thread from before the fork until the child is gone.
package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// patience is how long a child may take to obey a signal before a harsher one follows.
const patience = 20 * time.Second

// Process is a running child.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the child is gone and reaped
	err  error         // how it ended; read after done
}

// Start starts a child in a process group of its own, so that Ctrl-C at the terminal reaches
// only us and we stop the children in order. It is killed when we die, however we die.
func Start(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &Process{cmd: cmd, done: make(chan struct{})}
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
		p.err = cmd.Wait()
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed once the child is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns how the child ended.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Used is the processor time of a child that has ended.
func (p *Process) Used() time.Duration {
	<-p.done
	if state := p.cmd.ProcessState; state != nil {
		return state.UserTime() + state.SystemTime()
	}
	return 0
}

// Signal sends a signal; a child that is gone is none of the caller's trouble.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Stop asks the child to end, then makes it. It is safe to stop twice.
func (p *Process) Stop() error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := p.Signal(sig); err != nil {
			return err
		}
		timer := time.NewTimer(patience)
		select {
		case <-p.done:
			timer.Stop()
			return p.err
		case <-timer.C:
		}
	}
	return p.Wait() // SIGKILL cannot be refused
}
