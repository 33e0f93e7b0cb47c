package ratios

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"

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
	if err := json.NewEncoder(out).Encode(proc.Address{Addr: listener.Addr().String()}); err != nil {
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
	cmd := exec.CommandContext(context.Background(), program, "bare") // ends with us, or when it is stopped
	process, url, err := proc.Serve(cmd)
	if err != nil {
		return nil, fmt.Errorf("start the bare handler: %w", err)
	}
	return &bareServer{url: url, process: process}, nil
}
