package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"flashsale/bench/peak"
)

// peakRun is what `bench peak` found.
type peakRun struct {
	Result *peak.Result `json:"result"`
	Proof  *peak.Proof  `json:"proof,omitempty"` // none of a target of the caller's
}

// peakFlags are the flags of `bench peak`.
type peakFlags struct {
	config  peak.Config
	rate    int
	seconds int
	closed  bool
	spike   bool
	stock   int64
	source  string
	json    string
}

// runPeak sends as much as it is told to, and proves the counts where it has started the server.
func runPeak(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	f, err := parsePeak(args, progress)
	if err != nil {
		return err
	}
	var run peakRun
	if len(f.config.URLs) > 0 {
		run.Result, err = peak.Run(ctx, f.config)
	} else {
		run, err = f.private(ctx)
	}
	if err != nil {
		return err
	}
	if err := run.Result.WriteText(out); err != nil {
		return err
	}
	if f.json != "" {
		text, err := json.MarshalIndent(run, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(f.json, append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	if run.Proof == nil {
		return nil
	}
	fmt.Fprintf(out, "\n%s", run.Proof.Audit)
	if failures := run.Proof.Failures; len(failures) > 0 {
		return fmt.Errorf("the counts are not true:\n%s", strings.Join(failures, "\n"))
	}
	return nil
}

func parsePeak(args []string, progress io.Writer) (f peakFlags, err error) {
	f.config.Progress = progress
	flags := flag.NewFlagSet("bench peak", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.Func("target", "`URL` of a running server, or several, comma-separated; nothing is started", func(urls string) error {
		f.config.URLs = strings.Split(urls, ",")
		return nil
	})
	flags.StringVar(&f.config.Item, "item", "", "of the target: the `id` of an item")
	tokens := flags.String("tokens", "", "of the target: `file` with a token a line, each of another user")
	flags.IntVar(&f.config.Users, "users", 0, fmt.Sprintf("distinct users (default: one a request; %d in a closed loop)", peak.DefaultUsers))
	flags.IntVar(&f.rate, "rate", 5000, "requests due each second")
	flags.IntVar(&f.seconds, "seconds", 5, "how long at that rate")
	flags.IntVar(&f.config.Connections, "connections", 0, fmt.Sprintf("how many requests can be on their way (default %d)", peak.DefaultConnections))
	flags.DurationVar(&f.config.Timeout, "timeout", 0, fmt.Sprintf("how long an answer may take (default %s)", peak.DefaultTimeout))
	flags.BoolVar(&f.closed, "closed", false, "a closed loop: ask again as soon as answered, as fast as it goes; --rate is ignored")
	flags.BoolVar(&f.spike, "spike", false, "a second at a hundredth of the rate first, then the step")
	flags.Int64Var(&f.stock, "stock", 10_000_000, "units of the private item")
	flags.StringVar(&f.source, "source", "", "`folder` of the engine's module (default: found above this one)")
	flags.StringVar(&f.json, "json", "", "write the result to this `file` too")
	if err := flags.Parse(args); err != nil {
		return f, err
	}
	private := len(f.config.URLs) == 0
	switch {
	case flags.NArg() > 0:
		return f, fmt.Errorf("bench peak takes flags only, not %q", flags.Arg(0))
	case private && (f.config.Item != "" || *tokens != ""):
		return f, errors.New("--item and --tokens are of a --target")
	case !private && f.config.Item == "":
		return f, errors.New("--target needs --item")
	case f.closed && f.spike:
		return f, errors.New("--closed has no rate that --spike could step to")
	case f.rate < 1 || f.seconds < 1 || f.stock < 1:
		return f, errors.New("--rate, --seconds and --stock must be at least 1")
	}
	f.config.Phases = f.phases()
	if *tokens != "" {
		f.config.Tokens, err = readTokens(*tokens)
	}
	return f, err
}

func (f peakFlags) phases() []peak.Phase {
	length := time.Duration(f.seconds) * time.Second
	switch {
	case f.closed:
		return []peak.Phase{{Rate: 0, Duration: length}}
	case f.spike:
		return []peak.Phase{{Rate: max(1, f.rate/100), Duration: time.Second}, {Rate: f.rate, Duration: length}}
	}
	return []peak.Phase{{Rate: f.rate, Duration: length}}
}

// private plays on a stack of its own, which is gone afterwards.
func (f peakFlags) private(ctx context.Context) (run peakRun, err error) {
	if err := f.config.Validate(); err != nil {
		return run, err
	}
	fmt.Fprintln(f.config.Progress, "building the engine; starting redis, postgresql, a server and a worker")
	stage, err := peak.StartStage(ctx, "", f.source, "")
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	items, err := stage.Server.CreateItems(ctx, 1, f.stock)
	if err != nil {
		return run, err
	}
	if err := stage.Crowd(ctx, f.config); err != nil {
		return run, err
	}
	f.config.URLs, f.config.Item = []string{stage.Server.URL}, items[0]
	if run.Result, err = peak.Run(ctx, f.config); err != nil {
		return run, err
	}
	fmt.Fprintln(f.config.Progress, "waiting for the worker, then the audit")
	proof, err := stage.Prove(ctx, items[0], f.stock, run.Result)
	run.Proof = &proof
	return run, err
}

func readTokens(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var tokens []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if token := strings.TrimSpace(lines.Text()); token != "" {
			tokens = append(tokens, token)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("read tokens: %s holds none", path)
	}
	return tokens, nil
}
