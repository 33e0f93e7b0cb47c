package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"flashsale/bench/host"
	"flashsale/bench/report"
	"flashsale/bench/target"
)

// outputs are the flags of every command that measures.
type outputs struct {
	json, html string
	strict     bool
}

func addOutputs(flags *flag.FlagSet) *outputs {
	var o outputs
	flags.StringVar(&o.json, "json", "", "write the report to this `file` too, for `bench history`")
	flags.StringVar(&o.html, "html", "", "write the report to this `file` too, to be read")
	flags.BoolVar(&o.strict, "strict", false, "exit 1 when a promise is missed")
	return &o
}

// newReport puts parts beside what they were measured on.
func newReport(ctx context.Context, source, dir string, quick bool, began time.Time, parts ...*report.Part) *report.Report {
	if source == "" {
		source, _ = target.Source() // not found: the commit is unknown
	}
	facts := host.Read(ctx, source, cmp.Or(dir, os.TempDir()))
	facts.Time = began
	return &report.Report{Host: facts, Quick: quick, Took: time.Since(began), Parts: parts}
}

// write shows a report and files it. What was not true is an error, and a missed promise is one
// where it was asked for. Everything is written before anything is judged.
func (o *outputs) write(out io.Writer, r *report.Report) error {
	errs := []error{r.WriteText(out)}
	if o.html != "" {
		errs = append(errs, create(o.html, r.WriteHTML))
	}
	if o.json != "" {
		errs = append(errs, create(o.json, r.WriteJSON))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if !r.OK() {
		return errors.New("what was measured was not true: see FAILED above")
	}
	if missed := r.Missed(); o.strict && len(missed) > 0 {
		return fmt.Errorf("%d promises are missed", len(missed))
	}
	return nil
}

// create writes a whole file.
func create(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}

// runHistory compares two reports.
func runHistory(_ context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench history", flag.ContinueOnError)
	strict := flags.Bool("strict", false, "exit 1 when something promised got worse by more than the noise")
	flags.SetOutput(progress)
	flags.Usage = func() {
		fmt.Fprintln(progress, "usage: bench history [--strict] OLD.json NEW.json")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		flags.Usage()
		return errors.New("two reports are compared")
	}
	var reports [2]*report.Report
	for n := range reports {
		var err error
		if reports[n], err = report.Read(flags.Arg(n)); err != nil {
			return err
		}
	}
	comparison := report.Compare(reports[0], reports[1])
	if err := comparison.WriteText(out); err != nil {
		return err
	}
	if worse := comparison.Broken(); *strict && len(worse) > 0 {
		return fmt.Errorf("%d promised figures got worse by more than the noise", len(worse))
	}
	return nil
}
