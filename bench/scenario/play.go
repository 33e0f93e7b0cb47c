package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"flashsale/bench/report"
	"flashsale/bench/target"
)

// run is the scenes of a configuration under way.
type run struct {
	Config
	began time.Time
	dir   string
	stage *stage // nil until the first scene, and after one that failed
}

// PlayAll plays the scenes of a configuration and hands over what they found.
func PlayAll(ctx context.Context, config Config) (*report.Part, error) {
	results, err := Play(ctx, config)
	if err != nil {
		return nil, err
	}
	return newPart(config.withDefaults(), results), nil
}

// Play plays the scenes of a configuration, one after the other. An error means that one could
// not be played; what went wrong in one is in its result.
func Play(ctx context.Context, config Config) (results []*Result, err error) {
	r := &run{Config: config.withDefaults(), began: time.Now()}
	if err := r.validate(); err != nil {
		return nil, err
	}
	if r.dir, err = target.Folder(""); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := Eject(r.dir); err != nil {
		return nil, err
	}
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	for _, name := range r.Scenes {
		scene, _ := find(name)
		result, err := r.play(ctx, scene.staged(r.Config))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		results = append(results, result)
		r.sayf("%s", result)
	}
	return results, nil
}

func (r *run) sayf(format string, args ...any) {
	fmt.Fprintf(r.Progress, "%6.1f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// build compiles the engine where it is needed and not given.
func (r *run) build(ctx context.Context) (err error) {
	if r.Target.URL != "" || r.Binary != "" {
		return nil
	}
	if r.Source == "" {
		if r.Source, err = target.Source(); err != nil {
			return err
		}
	}
	if r.Plant != "" {
		r.sayf("building an engine with the bug %q", r.Plant)
		r.Binary, err = target.BuildPlanted(ctx, r.Source, r.dir, r.Plant)
		return err
	}
	r.sayf("building the engine")
	r.Binary, err = target.Build(ctx, r.Source, r.dir)
	return err
}

// open makes sure of a stage.
func (r *run) open(ctx context.Context) (err error) {
	switch {
	case r.stage != nil:
		return nil
	case r.Target.URL != "":
		r.stage, err = openTarget(r.Target)
		return err
	}
	r.sayf("starting redis, postgresql, a local alipay, a server and a worker")
	r.stage, err = openStage(ctx, r.Binary, r.dir)
	return err
}

// play plays one scene from its items to the proof of its counts.
func (r *run) play(ctx context.Context, scene Scene) (*Result, error) {
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	p := &play{
		run: r, scene: scene, items: []string{r.Target.Item},
		result: &Result{Scene: scene.Name, About: scene.About, Rate: scene.rate, Stock: scene.stock},
	}
	if scene.rate > 0 {
		p.result.Seconds = r.Seconds
	}
	err := r.stage.login(ctx, scene.users)
	if err == nil && r.Target.Item == "" {
		p.items, err = r.stage.offer(ctx, scene)
	}
	if err != nil {
		return nil, err
	}
	if scene.pays && r.stage.sells() {
		if p.before, err = r.stage.server.Audit(ctx); err != nil {
			return nil, err
		}
	}
	if err := p.crowd(ctx); err != nil {
		return nil, err
	}
	if err := p.reconcile(ctx); err != nil {
		return nil, err
	}
	p.result.Took = time.Since(began)
	if !p.result.OK() && r.stage.stack != nil {
		stage := r.stage
		r.stage = nil
		return p.result, stage.close()
	}
	return p.result, nil
}

// close ends everything and removes it.
func (r *run) close() error {
	var err error
	if r.stage != nil {
		err = r.stage.close()
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

// path is a file of the run's.
func (r *run) path(name string) string { return filepath.Join(r.dir, name) }

// settings are what makes this run another than the usual one.
func (c Config) settings() string {
	var s []string
	add := func(format string, value any, usual bool) {
		if !usual {
			s = append(s, fmt.Sprintf(format, value))
		}
	}
	add("engine with the bug %q", c.Plant, c.Plant == "")
	add("target %s", c.Target.URL, c.Target.URL == "")
	add("%d iterations a second", c.Rate, c.Rate == 0)
	add("for %d s", c.Seconds, c.Seconds == DefaultSeconds)
	add("%d units", c.Stock, c.Stock == 0)
	add("%d requests at once", c.Connections, c.Connections == 0)
	add("client %s", c.Client, c.Client == "")
	add("k6 %s", strings.Join(c.Args, " "), len(c.Args) == 0)
	return strings.Join(s, ", ")
}
