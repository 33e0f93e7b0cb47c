package devstack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const callTimeout = 2 * time.Second

// call sends one command, written as a person would type it, and returns its reply of one line or
// one text. It speaks the protocol by hand, so that no Redis library has a second home.
func call(ctx context.Context, port int, command string) (string, error) {
	dialer := net.Dialer{Timeout: callTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address(port))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
		return "", err
	}
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch line[:min(1, len(line))] {
	case "-":
		return "", errors.New(line[1:])
	case "+", ":":
		return line[1:], nil
	case "$":
		length, err := strconv.Atoi(line[1:])
		if err != nil || length < 0 {
			return "", fmt.Errorf("%s: reply %q", command, line)
		}
		text := make([]byte, length)
		_, err = io.ReadFull(reader, text)
		return string(text), err
	default:
		return "", fmt.Errorf("%s: reply %q", command, line)
	}
}
