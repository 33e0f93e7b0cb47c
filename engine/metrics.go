package engine

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flashsale"
)

// metrics of the engine, each resolved once so that the hot path only adds.
type metrics struct {
	registerer prometheus.Registerer
	collectors []prometheus.Collector
	outcomes   [flashsale.Overloaded + 1]prometheus.Counter
	local      prometheus.Counter
	faults     prometheus.Counter

	unknownReleases prometheus.Counter
	batchSize       prometheus.Histogram
	script          prometheus.Histogram
}

func newMetrics(e *Engine) (*metrics, error) {
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "flashsale_reserve_outcomes_total",
		Help: "Requests for units by outcome; those answered from a sold-out flag apart.",
	}, []string{"outcome"})
	m := &metrics{
		registerer: e.config.Registerer,
		local: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flashsale_reserve_flagged_total",
			Help: "Requests answered sold_out from the node's sold-out flag, without Redis.",
		}),
		unknownReleases: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flashsale_unknown_releases_total",
			Help: "Orders released that no buyer holds or has held: Redis has lost something.",
		}),
		faults: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flashsale_reserve_faults_total",
			Help: "Script calls that failed, each with its whole batch, and requests refused while Redis is away.",
		}),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "flashsale_reserve_batch_size",
			Help:    "Requests decided by one script call.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		script: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "flashsale_reserve_script_seconds",
			Help:    "Duration of one script call, with its round trip.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16),
		}),
	}
	for _, o := range flashsale.Outcomes() {
		m.outcomes[o] = outcomes.WithLabelValues(o.String())
	}
	depth := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "flashsale_lane_depth",
		Help: "Requests that wait in the lanes of this node.",
	}, func() float64 {
		total, _ := e.laneFigures()
		return float64(total)
	})
	lanes := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "flashsale_lane_items",
		Help: "Items with a queue in a lane of this node.",
	}, func() float64 {
		_, count := e.laneFigures()
		return float64(count)
	})
	if m.registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{outcomes, m.local, m.faults, m.unknownReleases, m.batchSize, m.script, depth, lanes} {
		if err := m.registerer.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("engine: metrics: %w", err)
		}
		m.collectors = append(m.collectors, c)
	}
	return m, nil
}

// ran counts one script call.
func (m *metrics) ran(requests int, took time.Duration) {
	m.batchSize.Observe(float64(requests))
	m.script.Observe(took.Seconds())
}

// decided counts a run by outcome: one addition each, not one a request, because every
// processor adds to the same counters.
func (m *metrics) decided(r *run) {
	var tally [len(m.outcomes)]int
	for _, s := range r.sections {
		for _, g := range s.groups {
			g.tally(&tally)
		}
	}
	for outcome, count := range tally {
		if count > 0 {
			m.outcomes[outcome].Add(float64(count))
		}
	}
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}

// laneFigures returns how many requests wait, and in how many items' queues.
func (e *Engine) laneFigures() (waiting, items int) {
	e.queues.every(func(q *itemQueue) {
		waiting += q.lane.depth(q)
		items++
	})
	return waiting, items
}
