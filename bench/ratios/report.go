package ratios

import (
	"cmp"
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
		Figures: append(r.promises(), r.absolute()...),
		Tables:  r.tables,
		Notes:   append(r.notes, strings.TrimSpace(audit)),
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
func (r *run) promises() []report.Figure {
	f, now, before := &r.figures, &r.side.figures, &cmp.Or(r.before, &side{}).figures
	const old = " / an entry an order"
	return []report.Figure{
		atLeast("engine.Reserve, group commit / batches of 1", 2.5, f.reserveGroup.rate.Over(f.reserveSingle.rate)),
		atMost("script runs an accepted order", 0.03, f.reserveGroup.scripts),
		atMost("Redis CPU an accepted order"+old, 0.50, now.group.redis.Over(before.group.redis)),
		atMost("Redis CPU an order accepted and persisted"+old, 0.50, now.persistRedis.Over(before.persistRedis)),
		atMost("CPU of the server above a bare handler"+old, 0.70, now.group.above().Over(before.group.above())),
		atLeast("HTTP accepted / bare handler", 0.62, now.group.rate.Over(now.group.bare)),
		atLeast("HTTP accepted beside a worker / bare handler", 0.48, now.beside.rate.Over(now.beside.bare)),
		atLeast("HTTP sold out / bare handler", 0.95, f.soldOut.rate.Over(f.soldOut.bare)),
		atMost(fmt.Sprintf("Redis CPU an accepted order, %d items / 1 item", manyItems), 2, f.many.redis.Over(now.group.redis)),
		{Name: "stream, memory an order", Unit: "bytes", Better: report.Lower, Sample: now.group.stream, Bound: &report.Bound{Value: 40, AtMost: true}},
		{Name: "accepted to unpaid, idle, p50", Unit: "ms", Better: report.Lower, Sample: f.confirmed, Bound: &report.Bound{Value: 1.5, AtMost: true}},
		atMost(fmt.Sprintf("nodes that hear a result, of %d", resultNodes), 3, f.heard),
		atMost("CPU an accepted purchase, group commit / batches of 1", 0.75, now.group.cpu.Over(f.single.cpu)),
		atLeast("persisting, batches / one transaction an order", 30, f.persistBatch.Over(f.persistOne)),
	}
}

// absolute is what the ratios are made of, and what explains them. It belongs to one machine.
func (r *run) absolute() []report.Figure {
	f, now, before := &r.figures, &r.side.figures, &cmp.Or(r.before, &side{}).figures
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
		figure("HTTP accepted", answers, up, now.group.rate),
		figure("HTTP accepted: CPU of server and Redis", cost, down, now.group.cpu),
		figure("HTTP accepted: CPU of the server", cost, down, now.group.server),
		figure("HTTP accepted: CPU of Redis", cost, down, now.group.redis),
		figure("HTTP accepted, an entry an order", answers, neither, before.group.rate),
		figure("HTTP accepted, an entry an order: CPU of the server", cost, neither, before.group.server),
		figure("HTTP accepted, an entry an order: CPU of Redis", cost, neither, before.group.redis),
		figure("HTTP accepted, an entry an order: memory in the stream", "bytes", neither, before.group.stream),
		figure("HTTP accepted, an entry an order, beside a worker: persisted in the window", orders, neither, before.persistRate),
		figure("HTTP accepted, many items", answers, up, f.many.rate),
		figure("HTTP accepted, many items: CPU of Redis", cost, down, f.many.redis),
		figure("HTTP accepted, many items: script runs", "/answer", down, f.many.scripts),
		figure("accepted and persisted: CPU of Redis", cost, down, now.persistRedis),
		figure("accepted and persisted, an entry an order: CPU of Redis", cost, neither, before.persistRedis),
		figure("accepted to unpaid, idle, p99", "ms", down, f.confirmedSlow),
		figure("HTTP accepted: CPU of wrk", cost, neither, now.group.client),
		figure("HTTP accepted: all these together", machine, neither, now.group.busy),
		figure("HTTP accepted: script runs", "/answer", down, now.group.scripts),
		figure("HTTP accepted: p50, closed loop", "ms", down, now.group.p50),
		figure("HTTP accepted: p99, closed loop", "ms", down, now.group.p99),
		figure("HTTP accepted, batches of 1", answers, neither, f.single.rate),
		figure("HTTP accepted, batches of 1: CPU of server and Redis", cost, neither, f.single.cpu),
		figure("HTTP accepted beside a worker", answers, up, now.beside.rate),
		figure("HTTP accepted beside a worker: CPU of server and Redis", cost, down, now.beside.cpu),
		figure("beside a worker: persisted in the window", orders, up, now.persistRate),
		figure("beside a worker: persisted in the window, share", "of accepted", up, now.persisted),
		figure("beside a worker: until all was persisted", "s more", down, now.drained),
		figure("HTTP sold out", answers, up, f.soldOut.rate),
		figure("HTTP sold out: all these together", machine, neither, f.soldOut.busy),
		figure("HTTP sold out: CPU of server and Redis", cost, down, f.soldOut.cpu),
		figure("ledger.Persist, batches", orders, up, f.persistBatch),
		figure("ledger.Persist, one transaction an order", orders, neither, f.persistOne),
		figure("used by other programs meanwhile", machine, neither, f.others),
	}
}
