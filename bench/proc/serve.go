package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// serveTimeout is how long a server may take to say where it listens.
const serveTimeout = 20 * time.Second

// Address is the line with which a server of ours says where it listens.
type Address struct {
	Addr string `json:"addr"`
}

// Serve starts a child that prints an [Address] once it listens, and returns its URL.
func Serve(cmd *exec.Cmd) (_ *Process, url string, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	defer read.Close()
	cmd.Stdout, cmd.Stderr = write, os.Stderr
	process, err := Start(cmd)
	_ = write.Close()
	if err != nil {
		return nil, "", err
	}
	var where Address
	_ = read.SetReadDeadline(time.Now().Add(serveTimeout))
	if err := json.NewDecoder(bufio.NewReader(read)).Decode(&where); err != nil {
		return nil, "", errors.Join(fmt.Errorf("it does not say where it listens: %w", err), process.Stop())
	}
	return process, "http://" + where.Addr, nil
}
