package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"flashsale/bench/scenario"
	"flashsale/bench/target"
)

func runList(_ context.Context, _ []string, out, _ io.Writer) error {
	for _, scene := range scenario.Scenes() {
		if _, err := fmt.Fprintf(out, "%-10s %s\n", scene.Name, scene.About); err != nil {
			return err
		}
	}
	return nil
}

func runEject(_ context.Context, args []string, out, _ io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: bench eject FOLDER")
	}
	if err := scenario.Eject(args[0]); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "written; lib.js names the variables, for example: bench k6 run -e BENCH_URL=http://127.0.0.1:8080 -e BENCH_ITEM=1 %s/steady.js\n", args[0])
	return err
}

func runK6(_ context.Context, args []string, _, _ io.Writer) error {
	scenario.K6(args)
	return nil
}

// runScenarios plays the named scenarios, or all. What follows -- goes to k6.
func runScenarios(ctx context.Context, args []string, out, progress io.Writer) error {
	var (
		config  = scenario.Config{Program: self(), Progress: progress}
		flags   = flag.NewFlagSet("bench run", flag.ContinueOnError)
		outputs = addOutputs(flags)
	)
	if at := slices.Index(args, "--"); at >= 0 {
		args, config.Args = args[:at], args[at+1:]
	}
	flags.SetOutput(progress)
	flags.Usage = func() {
		fmt.Fprintln(progress, "usage: bench run [flags] [SCENARIO …] [-- arguments of k6, such as -e NAME=VALUE or --out json=FILE]")
		flags.PrintDefaults()
		for _, plant := range target.Bugs() {
			fmt.Fprintf(progress, "  --plant %s: an engine that %s\n", plant.Name, plant.About)
		}
	}
	flags.IntVar(&config.Rate, "rate", 0, "iterations begun each second (default: the scenario's own)")
	flags.IntVar(&config.Seconds, "seconds", 0, fmt.Sprintf("how long at that rate (default %d)", scenario.DefaultSeconds))
	flags.Int64Var(&config.Stock, "stock", 0, "units of the item (default: the scenario's own)")
	flags.IntVar(&config.Connections, "connections", 0, "requests under way at once, at most (default: half of the rate)")
	flags.StringVar(&config.Client, "client", "", "what buys: http, k6's own, or flash, the faster one of this k6 (default: flash where it counts)")
	flags.StringVar(&config.Plant, "plant", "", "build an engine with this `bug`: the run must fail")
	flags.StringVar(&config.Dashboard, "dashboard", "", "write k6's dashboard to this `file`; one scenario only")
	flags.StringVar(&config.Binary, "binary", "", "the engine's `file` (default: built from its source)")
	flags.StringVar(&config.Source, "source", "", "`folder` of the engine's module (default: found above this one)")
	flags.StringVar(&config.Target.URL, "target", "", "`URL` of a running server; nothing is started")
	flags.StringVar(&config.Target.Tokens, "tokens", "", "of the target: `file` with a token a line, each of another user")
	flags.StringVar(&config.Target.Item, "item", "", "of the target: the `id` of a fresh item, for one scenario (default: each creates its own)")
	flags.StringVar(&config.Target.Ops, "ops", "", "of the target: `URL` of its ops listener, for items, counts and audit")
	flags.StringVar(&config.Target.Admin, "admin-token", os.Getenv("ADMIN_TOKEN"), "of the target: its admin `token` (default $ADMIN_TOKEN)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if config.Scenes = flags.Args(); slices.Equal(config.Scenes, []string{"all"}) {
		config.Scenes = nil
	}
	began := time.Now()
	part, err := scenario.PlayAll(ctx, config)
	if err != nil {
		return err
	}
	report := newReport(ctx, config.Source, "", false, began, part)
	if token := config.Target.Admin; token != "" { // reports are shown around
		report.Host.Command = strings.ReplaceAll(report.Host.Command, token, "…")
	}
	return outputs.write(out, report)
}
