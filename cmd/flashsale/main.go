// Command flashsale is the flash-sale engine: one binary for the demo, the server, the worker
// and the operator's tools. `flashsale --help` lists the commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"flashsale/internal/devstack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errBroken ends a command with exit code 1 after it has printed why itself.
var errBroken = errors.New("an invariant is broken")

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// run is main without its globals, so that tests run commands as a user does.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var cli cli
	exit := -1
	parser, err := kong.New(&cli,
		kong.Name("flashsale"),
		kong.Description("A flash-sale engine: exactly the stock is sold, one each, nothing lost."),
		kong.Vars{"demo_dir": devstack.DefaultDir(), "order_page": orderPage},
		limitDefaults,
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(stdout, (*io.Writer)(nil)),
	)
	if err != nil {
		fmt.Fprintln(stderr, "flashsale:", err)
		return exitUsage
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help and --version end here
		return exit
	}
	if err != nil {
		fmt.Fprintln(stderr, "flashsale:", err)
		fmt.Fprintln(stderr, "try: flashsale --help")
		return exitUsage
	}
	logger, err := cli.logger(stderr, command.Command())
	if err != nil {
		fmt.Fprintln(stderr, "flashsale:", err)
		return exitUsage
	}
	switch err := command.Run(logger); {
	case errors.Is(err, errBroken):
		return exitFailed
	case err != nil:
		fmt.Fprintln(stderr, "flashsale:", err)
		return exitFailed
	}
	return exitOK
}
