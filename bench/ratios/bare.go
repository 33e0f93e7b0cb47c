package ratios

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale/bench/proc"
)

// accepted is an answer as long as that to an accepted purchase.
const accepted = `{"order_no":"1234567890123456789","status":"pending"}`

// ServeBare answers every request alike until ctx ends, and prints its address. It is the most
// that this HTTP library can do here.
func ServeBare(ctx context.Context, out io.Writer) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(map[string]string{"addr": listener.Addr().String()}); err != nil {
		return err
	}
	body := []byte(accepted)
	server := &fasthttp.Server{
		NoDefaultServerHeader: true,
		Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.SetStatusCode(fasthttp.StatusAccepted)
			ctx.SetContentType("application/json")
			ctx.SetBody(body)
		},
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

// bareServer is the child that runs ServeBare.
type bareServer struct {
	url     string
	process *proc.Process
}

func startBare(program string) (*bareServer, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	cmd := exec.CommandContext(context.Background(), program, "bare") // ends with us, or when it is stopped
	cmd.Stdout, cmd.Stderr = write, os.Stderr
	process, err := proc.Start(cmd)
	_ = write.Close()
	if err != nil {
		return nil, err
	}
	var where struct {
		Addr string `json:"addr"`
	}
	_ = read.SetReadDeadline(time.Now().Add(20 * time.Second))
	if err := json.NewDecoder(bufio.NewReader(read)).Decode(&where); err != nil {
		_ = process.Stop()
		return nil, fmt.Errorf("start the bare handler: %w", err)
	}
	return &bareServer{url: "http://" + where.Addr, process: process}, nil
}
