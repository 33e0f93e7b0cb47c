package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"flashsale/bench/scenario"
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

// runScenarios plays the named scenarios, or all.
func runScenarios(ctx context.Context, args []string, out, progress io.Writer) error {
	var (
		config = scenario.Config{Program: self(), Output: progress}
		flags  = flag.NewFlagSet("bench run", flag.ContinueOnError)
		path   = flags.String("json", "", "write the results to this `file` too")
		plant  = flags.String("plant", "", "build an engine with this `bug`: limit. The run must fail")
	)
	flags.SetOutput(progress)
	flags.IntVar(&config.Rate, "rate", 0, "iterations begun each second (default: the scenario's own)")
	flags.IntVar(&config.Seconds, "seconds", 0, "how long at that rate (default 5)")
	flags.Int64Var(&config.Stock, "stock", 0, "units of the item (default: the scenario's own)")
	flags.StringVar(&config.HTML, "html", "", "write k6's dashboard to this `file`; one scenario only")
	flags.StringVar(&config.Source, "source", "", "`folder` of the engine's module (default: found above this one)")
	flags.StringVar(&config.URL, "target", "", "`URL` of a running server; nothing is started")
	flags.StringVar(&config.Item, "item", "", "of the target: the `id` of a fresh item")
	flags.StringVar(&config.Tokens, "tokens", "", "of the target: `file` with a token a line, each of another user")
	flags.StringVar(&config.Ops, "ops", "", "of the target: `URL` of its ops listener, for the audit")
	flags.StringVar(&config.Admin, "admin-token", os.Getenv("ADMIN_TOKEN"), "of the target: its admin `token` (default $ADMIN_TOKEN)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch *plant {
	case "", "limit":
		config.Planted = *plant != ""
	default:
		return fmt.Errorf("there is no bug %q to plant: limit", *plant)
	}
	names := flags.Args()
	if len(names) == 0 || len(names) == 1 && names[0] == "all" {
		names = nil
		for _, scene := range scenario.Scenes() {
			names = append(names, scene.Name)
		}
	}
	if len(names) > 1 && (config.HTML != "" || config.URL != "") {
		return errors.New("--html and --target take one scenario")
	}
	var results []*scenario.Result
	failed := 0
	for _, name := range names {
		config.Scene = name
		result, err := scenario.Play(ctx, config)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := result.WriteText(out); err != nil {
			return err
		}
		if !result.OK() {
			failed++
		}
		results = append(results, result)
	}
	if *path != "" {
		text, err := json.MarshalIndent(results, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(*path, append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d scenarios failed", failed, len(names))
	}
	return nil
}
