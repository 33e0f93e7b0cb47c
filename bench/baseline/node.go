package baseline

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale/bench/proc"
)

const stopTimeout = 15 * time.Second // longer than a decision may take

// Config says what a node serves.
type Config struct {
	DatabaseURL string
	Item        int64
	Node        int64 // number of the node, other for each: 0 to 1023
	RedisURL    string
	Strategy    string
}

// args are the command line that [Command] reads.
func (c Config) args() []string {
	return []string{
		"baseline", "--redis", c.RedisURL, "--database", c.DatabaseURL,
		"--item", strconv.FormatInt(c.Item, 10), "--node", strconv.FormatInt(c.Node, 10), c.Strategy,
	}
}

// Command is one node, as a program of its own: it prints its address and serves until ctx
// ends. The item was prepared by whoever starts it.
func Command(ctx context.Context, args []string, out, errs io.Writer) error {
	var config Config
	flags := flag.NewFlagSet("bench baseline", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.Usage = func() {
		fmt.Fprintln(errs, "usage: bench baseline [flags] STRATEGY, one node for an item that is prepared")
		for _, way := range Ways() {
			fmt.Fprintf(errs, "  %-12s %s\n", way.Name, way.About)
		}
		flags.PrintDefaults()
	}
	flags.StringVar(&config.RedisURL, "redis", "", "`URL` of Redis")
	flags.StringVar(&config.DatabaseURL, "database", "", "`URL` of PostgreSQL")
	flags.Int64Var(&config.Item, "item", 0, "`number` of the item")
	flags.Int64Var(&config.Node, "node", 0, "`number` of this node, 0 to 1023, other for each")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("usage: bench baseline [flags] STRATEGY")
	}
	if config.Node < 0 || config.Node >= 1<<nodeBits {
		return fmt.Errorf("--node is 0 to %d, not %d", 1<<nodeBits-1, config.Node)
	}
	config.Strategy = flags.Arg(0)
	return serve(ctx, config, out, errs)
}

func serve(ctx context.Context, config Config, out, errs io.Writer) error {
	stores, err := Open(ctx, config)
	if err != nil {
		return err
	}
	defer stores.Close()
	strategy, err := New(config.Strategy, stores)
	if err != nil {
		return err
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h := &handler{
		// What has begun is decided to its end, also while the node stops. A context that
		// never ends also costs the Redis client no hand-over between goroutines.
		ctx: context.WithoutCancel(ctx), strategy: strategy, errs: errs,
		sessions: &sessions{redis: stores.Redis, warm: make(map[string]string)},
		path:     []byte("/v1/items/" + strconv.FormatInt(config.Item, 10) + "/orders"),
	}
	h.numbers.start(config.Node)
	server := &fasthttp.Server{Handler: h.serve, NoDefaultServerHeader: true, CloseOnShutdown: true}
	if err := json.NewEncoder(out).Encode(proc.Address{Addr: listener.Addr().String()}); err != nil {
		return errors.Join(err, listener.Close())
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return errors.Join(server.ShutdownWithContext(stop), <-served)
}

// Node is a node that runs as our child.
type Node struct {
	URL string

	process *proc.Process
}

// Start starts a node: program is our own, or whatever hands its arguments to [Command].
func Start(ctx context.Context, program string, config Config) (*Node, error) {
	process, url, err := proc.Serve(exec.CommandContext(context.WithoutCancel(ctx), program, config.args()...))
	if err != nil {
		return nil, fmt.Errorf("start a node of %s: %w", config.Strategy, err)
	}
	return &Node{URL: url, process: process}, nil
}

// PID is the node's process id.
func (n *Node) PID() int { return n.process.PID() }

// Stop lets the node answer what it has accepted, and ends it.
func (n *Node) Stop() error { return n.process.Stop() }
