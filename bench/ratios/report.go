package ratios

import (
	"fmt"
	"io"
	"strings"
	"time"

	"flashsale/bench/host"
	"flashsale/bench/stats"
)

// Report is what was measured, beside what is promised.
type Report struct {
	Host     host.Facts    `json:"host"`
	Wrk      string        `json:"wrk"`
	Settings string        `json:"settings"`
	Rounds   int           `json:"rounds"`
	Quick    bool          `json:"quick"`
	Took     time.Duration `json:"took_ns"`
	Ratios   []Ratio       `json:"ratios"`
	Figures  []Figure      `json:"figures"`
	Audit    string        `json:"audit"`
}

// Ratio is one promise: its median must not be on the wrong side of the bound.
type Ratio struct {
	Name   string       `json:"name"`
	Bound  float64      `json:"bound"`
	AtMost bool         `json:"at_most"` // the bound is a ceiling, else a floor
	Sample stats.Sample `json:"sample"`
}

// Met reports whether the promise is kept.
func (r Ratio) Met() bool {
	if r.AtMost {
		return r.Sample.Median() <= r.Bound
	}
	return r.Sample.Median() >= r.Bound
}

// Figure is what ratios are made of. It belongs to one machine.
type Figure struct {
	Name   string       `json:"name"`
	Unit   string       `json:"unit"`
	Sample stats.Sample `json:"sample"`
}

func (r *run) report(wrkVersion, audit string) *Report {
	f := &r.figures
	return &Report{
		Host: r.host, Wrk: wrkVersion, Rounds: r.Rounds, Quick: r.Quick,
		Took: time.Since(r.began), Audit: strings.TrimSpace(audit),
		Settings: fmt.Sprintf("%d connections, %d threads, %s each, %d users in turn with %d others, Redis appendfsync everysec, PostgreSQL with fsync",
			r.Connections, r.Threads, r.Window, r.Users, (userSets-1)*r.Users),
		Ratios: []Ratio{
			{Name: "engine.Reserve, group commit / batches of 1", Bound: 2.5, Sample: f.reserveGroup.rate.Over(f.reserveSingle.rate)},
			{Name: "script runs an accepted order", Bound: 0.03, AtMost: true, Sample: f.reserveGroup.scripts},
			{Name: "HTTP accepted / bare handler", Bound: 0.55, Sample: f.group.rate.Over(f.group.bare)},
			{Name: "HTTP accepted beside a worker / bare handler", Bound: 0.30, Sample: f.beside.rate.Over(f.beside.bare)},
			{Name: "HTTP sold out / bare handler", Bound: 0.90, Sample: f.soldOut.rate.Over(f.soldOut.bare)},
			{Name: "CPU an accepted purchase, group commit / batches of 1", Bound: 0.75, AtMost: true, Sample: f.group.cpu.Over(f.single.cpu)},
			{Name: "persisting, batches / one transaction an order", Bound: 30, Sample: f.persistBatch.Over(f.persistOne)},
		},
		Figures: []Figure{
			{"engine.Reserve, group commit", "orders/s", f.reserveGroup.rate},
			{"  CPU of the client", "µs/order", f.reserveGroup.cpu},
			{"engine.Reserve, batches of 1", "orders/s", f.reserveSingle.rate},
			{"  CPU of the client", "µs/order", f.reserveSingle.cpu},
			{"HTTP, bare handler", "answers/s", f.bare.rate},
			{"  CPU", "µs/answer", f.bare.cpu},
			{"  CPU of wrk", "µs/answer", f.bare.client},
			{"  p50 (closed loop)", "ms", f.bare.p50},
			{"HTTP, accepted", "answers/s", f.group.rate},
			{"  CPU of server and Redis", "µs/answer", f.group.cpu},
			{"  CPU of the server", "µs/answer", f.group.server},
			{"  CPU of wrk", "µs/answer", f.group.client},
			{"  all these together", "% of the machine", f.group.busy},
			{"  script runs", "/answer", f.group.scripts},
			{"  p50 (closed loop)", "ms", f.group.p50},
			{"  p99 (closed loop)", "ms", f.group.p99},
			{"HTTP, accepted, batches of 1", "answers/s", f.single.rate},
			{"  CPU of server and Redis", "µs/answer", f.single.cpu},
			{"HTTP, accepted beside a worker", "answers/s", f.beside.rate},
			{"  CPU of server and Redis", "µs/answer", f.beside.cpu},
			{"  persisted in the window", "orders/s", f.persistRate},
			{"  persisted in the window", "of accepted", f.persisted},
			{"  until all was persisted", "s more", f.drained},
			{"HTTP, sold out", "answers/s", f.soldOut.rate},
			{"  all these together", "% of the machine", f.soldOut.busy},
			{"  CPU of server and Redis", "µs/answer", f.soldOut.cpu},
			{"ledger.Persist, batches", "orders/s", f.persistBatch},
			{"ledger.Persist, one transaction an order", "orders/s", f.persistOne},
			{"used by other programs meanwhile", "% of the machine", f.others},
		},
	}
}

// Missed lists the promises that are not kept. A quick run judges nothing.
func (r *Report) Missed() []Ratio {
	var missed []Ratio
	for _, ratio := range r.Ratios {
		if !r.Quick && len(ratio.Sample) > 0 && !ratio.Met() {
			missed = append(missed, ratio)
		}
	}
	return missed
}

// WriteText writes the report for a terminal.
func (r *Report) WriteText(out io.Writer) error {
	fmt.Fprintf(out, "\n%s\nsettings  %s, %s\nrounds    %d in %s\n\n", r.Host, r.Wrk, r.Settings, r.Rounds, r.Took.Round(time.Second))
	const row, head = "%-54s %10s %7s %10s %10s  %s\n", "MEDIAN"
	fmt.Fprintf(out, row, "RATIO", head, "SPREAD", "MIN", "MAX", "PROMISED")
	for _, ratio := range r.Ratios {
		if len(ratio.Sample) == 0 { // not among the candidates
			continue
		}
		sign, verdict := "≥", "met"
		if ratio.AtMost {
			sign = "≤"
		}
		switch {
		case r.Quick:
			verdict = "not judged"
		case !ratio.Met():
			verdict = "MISSED"
		}
		s := ratio.Sample
		fmt.Fprintf(out, row, ratio.Name, stats.Human(s.Median()), spread(s), stats.Human(s.Min()), stats.Human(s.Max()),
			fmt.Sprintf("%s %-7s %s", sign, stats.Human(ratio.Bound), verdict))
	}
	fmt.Fprintln(out)
	fmt.Fprintf(out, row, "FIGURE, of this machine only", head, "SPREAD", "MIN", "MAX", "")
	for _, figure := range r.Figures {
		s := figure.Sample
		if len(s) == 0 {
			continue
		}
		fmt.Fprintf(out, row, figure.Name, stats.Human(s.Median()), spread(s), stats.Human(s.Min()), stats.Human(s.Max()), figure.Unit)
	}
	_, err := fmt.Fprintf(out, "\n%s\n", r.Audit)
	return err
}

// spread tells that half of the rounds lie within the median and so many percent of it.
func spread(s stats.Sample) string { return fmt.Sprintf("±%.1f%%", 100*s.Spread()) }
