package compare

import (
	"fmt"
	"strings"

	"flashsale/bench/report"
	"flashsale/bench/stats"
)

const about = `Every candidate answers the same requests (sessions are checked and warm, every
user buys once) in fresh processes on one stack: Redis with its append-only file flushed every
second, PostgreSQL with fsync. The candidates in PostgreSQL answer when the order is on disk,
those in Redis when it is in its stream: there "engine", "separate" and "script" promise less.
"engine + worker" shows what it costs to persist everything meanwhile: its processor time is
that of server and worker, until the last order is in PostgreSQL. Latencies are those of a closed
loop: connections / rate. Commands of Redis count those inside scripts; a round trip is one read
from a client, pipelined or not. The notes tell what a crowd found in which each user asked two
nodes at once, and found when one of the two was killed in mid-sale while Redis stalled.`

// report puts together what was found.
func (r *run) report() *report.Part {
	part := &report.Part{
		Name: "compare", Title: "The engine beside the classical ways to take stock",
		About: strings.ReplaceAll(about, "\n", " "), Rounds: r.Rounds, Failures: r.failures,
		Settings: fmt.Sprintf("%d connections, windows of %s, crowds of %d users who ask twice", r.Connections, r.Window, r.Crowd),
	}
	engine := r.candidates[0]
	table := report.Table{Title: "One node", Columns: []report.Column{
		{Name: "accepted", Unit: "/s", Better: report.Higher},
		{Name: "of the engine", Better: report.Higher},
		{Name: "p50", Unit: "ms", Better: report.Lower},
		{Name: "p99", Unit: "ms", Better: report.Lower},
		{Name: "CPU server", Unit: "µs/order", Better: report.Lower},
		{Name: "CPU Redis", Unit: "µs/order", Better: report.Lower},
		{Name: "CPU PostgreSQL", Unit: "µs/order", Better: report.Lower},
		{Name: "Redis commands", Unit: "/order", Better: report.Lower},
		{Name: "Redis round trips", Unit: "/order", Better: report.Lower},
	}}
	for _, c := range r.candidates {
		if !c.engine {
			part.Figures = append(part.Figures, report.Figure{
				Name: "accepted/s, engine / " + c.name, Better: report.Higher, Ratio: true,
				Sample: engine.rate.Over(c.rate),
			})
		}
		table.Rows = append(table.Rows, report.Row{
			Name: c.name, About: c.about, Note: c.note(), Bad: c.wrong,
			Cells: []stats.Sample{
				c.rate, c.rate.Over(engine.rate), c.p50, c.p99,
				c.serverCPU, c.redisCPU, c.postgresCPU, c.commands, c.trips,
			},
		})
	}
	part.Tables = []report.Table{table}
	return part
}

// note is what the figures do not say.
func (c *candidate) note() string {
	notes := c.notes
	if c.wrapped {
		notes = append(notes, "ran out of users and is faster: raise --users")
	}
	if refused := c.refused.Median(); refused >= 0.005 {
		notes = append(notes, fmt.Sprintf("%.0f%% were sent away undecided", 100*refused))
	}
	if len(c.settled) > 0 {
		notes = append(notes, fmt.Sprintf("the last order in PostgreSQL %.1f s after the window", c.settled.Median()))
	}
	return strings.Join(notes, "; ")
}
