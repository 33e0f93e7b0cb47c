package devstack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
)

// Tool is a program that runs beside a stack, such as a balancer or a pooler. Like the servers it
// cannot outlive us.
type Tool struct {
	name, logPath string
	proc          *process
}

// StartTool starts a program of the machine; what it prints is in its log.
func StartTool(name, logPath string, args ...string) (*Tool, error) {
	path, err := exec.LookPath(name)
	if err != nil { // Debian keeps daemons off the PATH of users
		path = "/usr/sbin/" + name
		if !executable("/usr/sbin", name) {
			return nil, fmt.Errorf("devstack: %s: %w: install it: sudo apt-get install -y %s", name, ErrMissingProgram, name)
		}
	}
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("devstack: log of %s: %w", name, err)
	}
	defer logFile.Close()
	cmd := exec.CommandContext(context.Background(), path, args...) // lives until it is stopped or we are gone
	cmd.Stdout, cmd.Stderr = logFile, logFile
	proc, err := launch(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, fmt.Errorf("devstack: %w", err)
	}
	return &Tool{name: name, logPath: logPath, proc: proc}, nil
}

// Running is nil while the program runs, and then tells the end of what it has printed.
func (t *Tool) Running() error {
	if !t.proc.ended() {
		return nil
	}
	return fmt.Errorf("%s ended: %s:\n%s", t.name, t.proc.cmd.ProcessState, logTail(t.logPath, 0))
}

// Stop ends the program at once. It is safe to stop twice.
func (t *Tool) Stop() { t.proc.end(syscall.SIGKILL) }

// FreePort returns a port that nobody listens on now, and that no client is given by chance.
func FreePort(ctx context.Context) (int, error) {
	for range portAttemptsMax {
		port := portMin + rand.IntN(portMax-portMin)
		err := probePort(ctx, port)
		if err == nil {
			return port, nil
		}
		if !errors.Is(err, ErrPortTaken) {
			return 0, err
		}
	}
	return 0, ErrPortTaken
}
