package peak

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"flashsale/bench/stats"
)

// tell says once a second what came back since, until the run is over.
func (g *generator) tell(over <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var before view
	for {
		select {
		case <-over:
			return
		case <-ticker.C:
		}
		now := g.tally.view(before.open)
		since := make(map[string]int64)
		for name, count := range now.counts {
			if count -= before.counts[name]; count > 0 {
				since[name] = count
			}
		}
		waiting := max(0, g.schedule.dueBy(time.Since(g.start))-g.next.Load())
		fmt.Fprintf(g.Progress, "%4.0f s  %s; p99 %s ms; %s wait for a connection\n",
			time.Since(g.start).Seconds(), counts(since), stats.Human(ms(now.p99)), count(waiting))
		before = now
	}
}

// view is what a tally holds at a moment.
type view struct {
	counts map[string]int64
	open   int
	p99    time.Duration // the worst bucket's since another view
}

func (t *tally) view(since int) view {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := view{counts: make(map[string]int64, len(t.classes)), open: t.open}
	for name, c := range t.classes {
		v.counts[name] = c.count
	}
	for _, m := range t.timeline[since:t.open] {
		v.p99 = max(v.p99, m.p99)
	}
	return v
}

// counts writes what came back, by class.
func counts(by map[string]int64) string {
	if len(by) == 0 {
		return "nothing"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, name+" "+count(by[name]))
	}
	return strings.Join(parts, ", ")
}

func count(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return stats.Human(float64(n))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
