package ratios

import (
	"fmt"
	"strings"

	"flashsale/bench/report"
	"flashsale/bench/stats"
)

// about says how the ratios are measured.
const about = "Closed loop with wrk on loopback, in rounds that begin with another candidate each time. " +
	"Over HTTP a candidate stands between two measurements of a bare handler of the same library, " +
	"and each ratio is taken within its round: what the machine does meanwhile cancels out. " +
	"Accepted answers are counted by wrk, by the server and by Redis, and must agree."

// part is what was measured, beside what is promised.
func (r *run) part(wrkVersion, audit string) *report.Part {
	return &report.Part{
		Name: "ratios", Title: "What is promised", About: about, Rounds: r.Rounds,
		Settings: fmt.Sprintf("%s, %d connections, %d threads, %s each, %d users in turn with %d others, "+
			"Redis appendfsync everysec, PostgreSQL with fsync",
			wrkVersion, r.Connections, r.Threads, r.Window, r.Users, (userSets-1)*r.Users),
		Figures: append(r.figures.promises(), r.figures.absolute()...),
		Tables:  r.tables,
		Notes:   []string{strings.TrimSpace(audit)},
	}
}

// atLeast and atMost are promises: a ratio and its bound.
func atLeast(name string, floor float64, sample stats.Sample) report.Figure {
	return report.Figure{
		Name: name, Better: report.Higher, Ratio: true, Sample: sample, Bound: &report.Bound{Value: floor},
	}
}

func atMost(name string, ceiling float64, sample stats.Sample) report.Figure {
	return report.Figure{
		Name: name, Better: report.Lower, Ratio: true, Sample: sample,
		Bound: &report.Bound{Value: ceiling, AtMost: true},
	}
}

// promises are the ratios that hold on other machines too.
func (f *figures) promises() []report.Figure {
	return []report.Figure{
		atLeast("engine.Reserve, group commit / batches of 1", 2.5, f.reserveGroup.rate.Over(f.reserveSingle.rate)),
		atMost("script runs an accepted order", 0.03, f.reserveGroup.scripts),
		atLeast("HTTP accepted / bare handler", 0.55, f.group.rate.Over(f.group.bare)),
		atLeast("HTTP accepted beside a worker / bare handler", 0.30, f.beside.rate.Over(f.beside.bare)),
		atLeast("HTTP sold out / bare handler", 0.90, f.soldOut.rate.Over(f.soldOut.bare)),
		atMost("CPU an accepted purchase, group commit / batches of 1", 0.75, f.group.cpu.Over(f.single.cpu)),
		atLeast("persisting, batches / one transaction an order", 30, f.persistBatch.Over(f.persistOne)),
	}
}

// absolute is what the ratios are made of, and what explains them. It belongs to one machine.
func (f *figures) absolute() []report.Figure {
	const orders, answers, cost, machine = "orders/s", "answers/s", "µs/answer", "% of the machine"
	const up, down, neither = report.Higher, report.Lower, report.Better("")
	figure := func(name, unit string, better report.Better, sample stats.Sample) report.Figure {
		return report.Figure{Name: name, Unit: unit, Better: better, Sample: sample}
	}
	return []report.Figure{
		figure("engine.Reserve, group commit", orders, up, f.reserveGroup.rate),
		figure("engine.Reserve, group commit: CPU of the client", "µs/order", down, f.reserveGroup.cpu),
		figure("engine.Reserve, batches of 1", orders, up, f.reserveSingle.rate),
		figure("engine.Reserve, batches of 1: CPU of the client", "µs/order", down, f.reserveSingle.cpu),
		figure("HTTP bare handler", answers, neither, f.bare.rate),
		figure("HTTP bare handler: CPU", cost, neither, f.bare.cpu),
		figure("HTTP bare handler: CPU of wrk", cost, neither, f.bare.client),
		figure("HTTP bare handler: p50, closed loop", "ms", neither, f.bare.p50),
		figure("HTTP accepted", answers, up, f.group.rate),
		figure("HTTP accepted: CPU of server and Redis", cost, down, f.group.cpu),
		figure("HTTP accepted: CPU of the server", cost, down, f.group.server),
		figure("HTTP accepted: CPU of wrk", cost, neither, f.group.client),
		figure("HTTP accepted: all these together", machine, neither, f.group.busy),
		figure("HTTP accepted: script runs", "/answer", down, f.group.scripts),
		figure("HTTP accepted: p50, closed loop", "ms", down, f.group.p50),
		figure("HTTP accepted: p99, closed loop", "ms", down, f.group.p99),
		figure("HTTP accepted, batches of 1", answers, neither, f.single.rate),
		figure("HTTP accepted, batches of 1: CPU of server and Redis", cost, neither, f.single.cpu),
		figure("HTTP accepted beside a worker", answers, up, f.beside.rate),
		figure("HTTP accepted beside a worker: CPU of server and Redis", cost, down, f.beside.cpu),
		figure("beside a worker: persisted in the window", orders, up, f.persistRate),
		figure("beside a worker: persisted in the window, share", "of accepted", up, f.persisted),
		figure("beside a worker: until all was persisted", "s more", down, f.drained),
		figure("HTTP sold out", answers, up, f.soldOut.rate),
		figure("HTTP sold out: all these together", machine, neither, f.soldOut.busy),
		figure("HTTP sold out: CPU of server and Redis", cost, down, f.soldOut.cpu),
		figure("ledger.Persist, batches", orders, up, f.persistBatch),
		figure("ledger.Persist, one transaction an order", orders, neither, f.persistOne),
		figure("used by other programs meanwhile", machine, neither, f.others),
	}
}
