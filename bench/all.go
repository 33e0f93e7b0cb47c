package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"flashsale/bench/compare"
	"flashsale/bench/limits"
	"flashsale/bench/peak"
	"flashsale/bench/ratios"
	"flashsale/bench/report"
	"flashsale/bench/scenario"
	"flashsale/bench/target"
)

// partLimit ends a part that hangs, so that the others' report is not lost with it. Each takes
// five minutes at most on two cores.
const partLimit = 12 * time.Minute

// What the ratios take is most of the time. Windows a second shorter than those of `bench ratios`,
// for which fewer users are enough, and less patience with a busy machine keep the whole suite
// below fifteen minutes on two cores, the first build with all that k6 brings included.
const (
	ratiosWindow   = 3 * time.Second
	ratiosUsers    = 240_000
	ratiosPatience = 20 * time.Second
)

// suite is one run of everything.
type suite struct {
	source, dir string
	out         string // folder of the reports
	binary      string // the engine, built once for all parts
	only        []string
	plant       string
	quick       bool
	strict      bool
	progress    io.Writer
	began       time.Time

	appendix *report.Part // what the ratios' profiles say, shown last
}

// part is one of the measurements, by the name that its report has.
type part struct {
	name, title string
	run         func(ctx context.Context) (*report.Part, error)
}

// parts are what there is, in the order in which it is measured: what is judged first.
func (s *suite) parts() []part {
	return []part{
		{"ratios", "What is promised", s.ratios},
		{"compare", "Beside other ways", s.compare},
		{"limits", "How near to the limits", s.limits},
		{"rush", "The opening", s.rush},
		{"scenarios", "Scenes of a sale", s.scenarios},
	}
}

// runAll measures everything and writes one report.
func runAll(ctx context.Context, args []string, out, progress io.Writer) error {
	s := &suite{progress: progress, began: time.Now()}
	if err := s.parse(args); err != nil {
		return err
	}
	s.sayf("building the engine")
	work, err := target.NewWorkspace(ctx, "", s.source, "")
	if err != nil {
		return err
	}
	defer work.Close()
	s.binary = work.Binary
	if err := os.MkdirAll(s.out, 0o755); err != nil { //nolint:gosec // results are no secret
		return err
	}
	parts := s.measure(ctx)
	if s.appendix != nil {
		parts = append(parts, s.appendix)
	}
	files := outputs{
		html: filepath.Join(s.out, "report.html"), json: filepath.Join(s.out, "report.json"), strict: s.strict,
	}
	r := newReport(context.WithoutCancel(ctx), s.source, s.dir, s.quick, s.began, parts...)
	err = files.write(out, r)
	fmt.Fprintf(out, "\nto read      %s\nto compare   %s\n", files.html, files.json)
	return err
}

func (s *suite) parse(args []string) error {
	flags := flag.NewFlagSet("bench all", flag.ContinueOnError)
	flags.SetOutput(s.progress)
	flags.BoolVar(&s.quick, "quick", false, "everything once and shortly: shows that it runs, judges nothing")
	flags.BoolVar(&s.strict, "strict", false, "exit 1 when a promise is missed")
	flags.StringVar(&s.out, "out", "", "`folder` for report.html, report.json and profiles (default: bench-report beside the engine's go.mod)")
	flags.StringVar(&s.plant, "plant", "", "play the scenes against an engine with this `bug`, such as limit: the run must fail")
	addPlaces(flags, &s.dir, &s.source)
	only := flags.String("only", "", "measure only these `parts`, comma-separated: ratios, compare, limits, rush, scenarios")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("bench all takes flags only, not %q", flags.Arg(0))
	}
	if *only != "" {
		s.only = strings.Split(*only, ",")
	}
	for _, name := range s.only {
		if !slices.ContainsFunc(s.parts(), func(p part) bool { return p.name == name }) {
			return fmt.Errorf("there is no part %q", name)
		}
	}
	if s.plant != "" && !slices.ContainsFunc(target.Bugs(), func(b target.Bug) bool { return b.Name == s.plant }) {
		return fmt.Errorf("there is no bug %q to plant", s.plant)
	}
	if s.plant != "" && !s.wants("scenarios") {
		return errors.New("a bug is planted for the scenes: --only must not leave them out")
	}
	var err error
	if s.source == "" {
		if s.source, err = target.Source(); err != nil {
			return err
		}
	}
	if s.out == "" {
		s.out = filepath.Join(s.source, "bench-report")
	}
	s.out, err = filepath.Abs(s.out)
	return err
}

func (s *suite) wants(name string) bool { return len(s.only) == 0 || slices.Contains(s.only, name) }

func (s *suite) sayf(format string, args ...any) {
	fmt.Fprintf(s.progress, "\n%s after %s\n", fmt.Sprintf(format, args...), time.Since(s.began).Round(time.Second))
}

// measure runs the parts one after the other. One that could not measure, or whose figures were
// not true, fails the run, but the others are measured all the same. An interrupted run keeps
// what it has, and the part that was cut off fails it.
func (s *suite) measure(ctx context.Context) []*report.Part {
	var measured []*report.Part
	for n, p := range s.parts() {
		if !s.wants(p.name) || ctx.Err() != nil {
			continue
		}
		s.sayf("[%d/%d] %s (%s)", n+1, len(s.parts()), p.title, p.name)
		limited, cancel := context.WithTimeoutCause(ctx, partLimit, fmt.Errorf("it took longer than %s", partLimit))
		found, err := p.run(limited)
		if err != nil && limited.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(limited), err)
		}
		cancel()
		if err != nil {
			found = &report.Part{Name: p.name, Title: p.title, Failures: []string{err.Error()}}
		}
		for _, failure := range found.Failures {
			s.sayf("FAILED  %s", failure)
		}
		measured = append(measured, found)
	}
	return measured
}

func (s *suite) ratios(ctx context.Context) (*report.Part, error) {
	config := ratios.Config{
		Binary: s.binary, Dir: s.dir, Program: self(), Progress: s.progress, Quick: s.quick, Source: s.source,
		Profiles: filepath.Join(s.out, "profiles"), Profiled: []string{"accepted", "sold-out"},
	}
	if !s.quick {
		config.Window, config.Users, config.Patience = ratiosWindow, ratiosUsers, ratiosPatience
	}
	found, err := ratios.Run(ctx, config)
	if err != nil {
		return nil, err
	}
	s.appendix = &report.Part{
		Name: "appendix", Title: "Appendix: where the time goes",
		About: "Of the server, its CPU profile while it was asked as fast as it could answer, in a further round " +
			"that does not count. Of Redis no profile, which needs a tool of the system: what it counts itself " +
			"of each command in the same seconds, by wall time inside the command.",
		Tables: found.Tables,
	}
	found.Tables = nil
	return found, nil
}

func (s *suite) compare(ctx context.Context) (*report.Part, error) {
	return compare.Run(ctx, compare.Config{
		Binary: s.binary, Dir: s.dir, Program: self(), Progress: s.progress, Quick: s.quick, Source: s.source,
	})
}

func (s *suite) limits(ctx context.Context) (*report.Part, error) {
	return limits.Run(ctx, limits.Config{
		Binary: s.binary, Dir: s.dir, Progress: s.progress, Quick: s.quick, Source: s.source,
	})
}

func (s *suite) rush(ctx context.Context) (*report.Part, error) {
	config := peak.RushConfig{Binary: s.binary, Dir: s.dir, Progress: s.progress, Source: s.source}
	if s.quick {
		config.Rounds, config.Length, config.Rate, config.Stock = 1, time.Second, 2000, 500
	}
	return peak.Rush(ctx, config)
}

// quickScenes are enough to find each bug that can be planted.
var quickScenes = []string{"smoke", "soldout", "duplicate"}

func (s *suite) scenarios(ctx context.Context) (*report.Part, error) {
	config := scenario.Config{Binary: s.binary, Program: self(), Progress: s.progress, Source: s.source}
	if s.plant != "" {
		config.Binary, config.Plant = "", s.plant
	}
	if s.quick {
		config.Scenes, config.Seconds = quickScenes, 1
	}
	return scenario.PlayAll(ctx, config)
}
