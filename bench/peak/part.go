package peak

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"flashsale/bench/report"
	"flashsale/bench/stats"
)

// Rush plays the opening of a sale: a few shoppers come early and are told when it opens, at that
// millisecond the crowd comes. It reports what became of everybody: how fast it was sold out, how long shoppers waited, how the worker
// followed. Charts show the last round.
func Rush(ctx context.Context, c RushConfig) (*report.Part, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	rounds, err := playRounds(ctx, c)
	if err != nil {
		return nil, err
	}
	part := &report.Part{
		Name:  "rush",
		Title: "The opening second",
		About: "An open loop: requests are sent when they are due, each of another user, and latency counts " +
			"from the moment at which a request was due. Meanwhile a worker persists to PostgreSQL. " +
			"The generator shares the machine; charts show the last round.",
		Settings: fmt.Sprintf("%s units; %s requests/s for %s, then %s/s for %s; %d connections",
			count(c.Stock), count(int64(c.Before)), rushQuiet, count(int64(c.Rate)), c.Length, c.Connections),
		Rounds:  len(rounds),
		Figures: rushFigures(rounds),
	}
	for n, r := range rounds {
		for _, failure := range r.failures() {
			part.Failures = append(part.Failures, fmt.Sprintf("round %d: %s", n+1, failure))
		}
	}
	last := rounds[len(rounds)-1]
	part.Charts = []report.Chart{last.result.outcomes(), last.result.latencies(), last.stream()}
	part.Notes = []string{last.proof.Audit}
	return part, nil
}

// failures are the lies, and whoever was told nothing: a rush owes everybody an answer.
func (r round) failures() []string {
	failures := slices.Clone(r.proof.Failures)
	if n := r.result.Unanswered(); n > 0 {
		failures = append(failures, fmt.Sprintf("%d shoppers were told nothing (%d were never sent): %s %s",
			n, r.result.Unsent, counts(r.result.Counts), r.result.Fault))
	}
	if first := r.result.Classes[Accepted].First; first < r.opening()-clockSlack {
		failures = append(failures, fmt.Sprintf("a unit was sold %s before the opening", r.opening()-first))
	}
	if r.result.Counts["not_started"] == 0 {
		failures = append(failures, "nobody was told that it has not opened: "+counts(r.result.Counts))
	}
	if _, ok := r.result.Classes["sold_out"]; !ok {
		failures = append(failures, "nobody was told that it is sold out: "+counts(r.result.Counts))
	}
	return failures
}

// rushFigures takes each figure out of each round.
func rushFigures(rounds []round) []report.Figure {
	latency := func(class string, of func(Percentiles) time.Duration) func(round) float64 {
		return func(r round) float64 { return ms(of(r.result.Classes[class].Latency)) }
	}
	p50 := func(p Percentiles) time.Duration { return p.P50 }
	p99 := func(p Percentiles) time.Duration { return p.P99 }
	figures := []struct {
		name, unit string
		better     report.Better
		of         func(round) float64
	}{
		{"sold out after", "ms", report.Lower, func(r round) float64 { return ms(r.soldOut()) }},
		{"all persisted after", "s", report.Lower, func(r round) float64 { return r.persisted().Seconds() }},
		{"accepted p50", "ms", report.Lower, latency(Accepted, p50)},
		{"accepted p99", "ms", report.Lower, latency(Accepted, p99)},
		{"sold out p50", "ms", report.Lower, latency("sold_out", p50)},
		{"sold out p99", "ms", report.Lower, latency("sold_out", p99)},
		{"service p99", "ms", report.Lower, func(r round) float64 { return ms(r.result.Service.P99) }},
		{"generator late p99", "ms", report.Lower, func(r round) float64 { return ms(r.result.Late.P99) }},
		{"requests queued", "", report.Lower, func(r round) float64 { return float64(r.result.Queued) }},
	}
	var out []report.Figure
	for _, f := range figures {
		sample := make(stats.Sample, len(rounds))
		for n, r := range rounds {
			sample[n] = f.of(r)
		}
		out = append(out, report.Figure{Name: f.name, Unit: f.unit, Better: f.better, Sample: sample})
	}
	return out
}

// clockSlack is by how much a sale may open early by our clock: it opens to the millisecond, by
// Redis' clock.
const clockSlack = 5 * time.Millisecond

// opening is when the sale opened on the generator's clock.
func (r round) opening() time.Duration { return r.opens.Sub(r.result.Start) }

// soldOut is how long after the opening the last unit's buyer was told.
func (r round) soldOut() time.Duration { return r.result.Classes[Accepted].Last - r.opening() }

// persisted is how long after the opening everything that was accepted was in PostgreSQL, as
// exact as the watch looked.
func (r round) persisted() time.Duration {
	at := r.seen[len(r.seen)-1].at
	for _, s := range slices.Backward(r.seen) {
		if s.item.Waiting > 0 || s.item.Sequence < r.proof.Item.Sequence {
			break
		}
		at = s.at
	}
	return at.Sub(r.opens)
}

// outcomes is what the crowd was told over time, a line a class.
func (r *Result) outcomes() report.Chart {
	chart := report.Chart{Title: "What the crowd was told", Unit: "/s"}
	for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
		line := report.Line{Name: name}
		for _, m := range r.Timeline {
			line.Points = append(line.Points, [2]float64{m.At.Seconds(), float64(m.Counts[name]) / r.Bucket.Seconds()})
		}
		chart.Lines = append(chart.Lines, line)
	}
	return chart
}

// latencies is how long shoppers waited, from the due time, by the moment of the answer.
func (r *Result) latencies() report.Chart {
	p50, p99 := report.Line{Name: "p50"}, report.Line{Name: "p99"}
	for _, m := range r.Timeline {
		if m.Total() > 0 {
			p50.Points = append(p50.Points, [2]float64{m.At.Seconds(), ms(m.P50)})
			p99.Points = append(p99.Points, [2]float64{m.At.Seconds(), ms(m.P99)})
		}
	}
	return report.Chart{Title: "How long it took, from the moment at which a request was due", Unit: "ms", Lines: []report.Line{p50, p99}}
}

// stream is how the worker followed.
func (r round) stream() report.Chart {
	accepted, persisted, waiting := report.Line{Name: "accepted"}, report.Line{Name: "persisted"}, report.Line{Name: "waiting in the stream"}
	for _, s := range r.seen {
		at := s.at.Sub(r.result.Start).Seconds()
		if at < 0 {
			continue // connections were being opened
		}
		accepted.Points = append(accepted.Points, [2]float64{at, float64(s.item.Sequence)})
		persisted.Points = append(persisted.Points, [2]float64{at, float64(s.persisted())})
		waiting.Points = append(waiting.Points, [2]float64{at, float64(s.item.Waiting)})
	}
	return report.Chart{Title: "How the worker followed", Unit: "orders", Lines: []report.Line{waiting, accepted, persisted}}
}
