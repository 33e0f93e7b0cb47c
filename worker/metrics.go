package worker

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the worker.
type metrics struct {
	batchSize      prometheus.Histogram
	persistSeconds prometheus.Histogram

	persisted    prometheus.Counter
	rejected     prometheus.Counter
	cancelled    prometheus.Counter
	deadLettered prometheus.Counter
	lost         prometheus.Counter
	claimed      prometheus.Counter
	rebuilt      prometheus.Counter
	misplaced    prometheus.Counter
	preheated    prometheus.Counter
	paused       prometheus.Counter
	retired      prometheus.Counter
	relayed      *prometheus.CounterVec // by kind
	faults       *prometheus.CounterVec // by component

	streamLength  *prometheus.GaugeVec // by partition, as the following
	streamLag     *prometheus.GaugeVec
	streamPending *prometheus.GaugeVec
	streamOldest  *prometheus.GaugeVec
	deadLength    *prometheus.GaugeVec
	stands        *prometheus.GaugeVec
	outbox        prometheus.Gauge
	outboxWaiting prometheus.Gauge
	suspects      prometheus.Gauge
	audited       prometheus.Gauge

	gap    *prometheus.GaugeVec // by item
	broken *prometheus.GaugeVec // by invariant
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauges := func(name, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "flashsale_persist_batch_size",
			Help:    "Orders of one batch.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}),
		persistSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "flashsale_persist_seconds",
			Help:    "Duration of one transaction that persists orders.",
			Buckets: prometheus.ExponentialBuckets(500e-6, 2, 16),
		}),
		persisted: counter("flashsale_persisted_orders_total",
			"Orders that the ledger holds now; redelivered ones count again."),
		rejected: counter("flashsale_rejected_orders_total",
			"Orders that the ledger refused; redelivered ones count again."),
		cancelled:    counter("flashsale_cancelled_orders_total", "Orders cancelled at their pay deadline."),
		deadLettered: counter("flashsale_dead_lettered_total", "Orders set aside because they can never be persisted."),
		lost: counter("flashsale_lost_entries_total",
			"Entries removed from a stream before they were persisted. Each is a lost order: raise the alarm."),
		claimed: counter("flashsale_claimed_entries_total", "Entries taken over from a consumer that had them too long."),
		rebuilt: counter("flashsale_rebuilt_items_total",
			"Items that were written to Redis anew, after it lost its memory, restarted, or by hand."),
		misplaced: counter("flashsale_misplaced_keys_total",
			"Keys of ours that were of a wrong type and were moved aside. Each waits for an operator."),
		preheated: counter("flashsale_preheated_sales_total", "Sales loaded into Redis on schedule."),
		paused: counter("flashsale_audit_pauses_total",
			"Items paused because the audit found them oversold. Each waits for an operator."),
		retired: counter("flashsale_retired_items_total", "Items that have left Redis for good, a day after their close."),
		relayed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flashsale_outbox_relayed_total",
			Help: "Outbox rows whose effect on Redis was carried out.",
		}, []string{"kind"}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flashsale_worker_faults_total",
			Help: "Faults after which a component of the worker waits and tries again.",
		}, []string{"component"}),
		streamLength: gauges("flashsale_stream_length", "Orders in the stream: accepted, and not in the ledger yet.", "partition"),
		streamLag: gauges("flashsale_stream_lag",
			"Orders in the stream that no consumer has read yet, as their entries' share of all.", "partition"),
		streamPending: gauges("flashsale_stream_pending",
			"Orders that a consumer has read and not acknowledged, as their entries' share of all.", "partition"),
		streamOldest: gauges("flashsale_stream_oldest_seconds", "Age of the oldest order in the stream; 0 when it is empty.", "partition"),
		deadLength:   gauges("flashsale_dead_length", "Orders in the dead stream.", "partition"),
		stands: gauges("flashsale_consumer_stands",
			"1 while the ledger does not take the batch that the consumer has in hand.", "partition"),
		outbox: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flashsale_outbox_rows", Help: "Outbox rows not carried out, as the last audit saw them.",
		}),
		outboxWaiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flashsale_outbox_waiting",
			Help: "Outbox rows that wait because Redis, or their item in it, is not ready.",
		}),
		suspects: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flashsale_suspect_items",
			Help: "Items whose account in Redis is lost, old or not compared with the ledger since a restart.",
		}),
		audited: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flashsale_audit_timestamp_seconds",
			Help: "When this worker's last audit ended, in seconds since 1970; 0: another worker audits.",
		}),
		gap: gauges("flashsale_conservation_gap",
			"Units too many (above 0) or stranded (below 0), as the last audit saw them.", "item"),
		broken: gauges("flashsale_invariant_broken", "1 while the last audit found the invariant broken.", "invariant"),
	}
	if registerer == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.batchSize, m.persistSeconds, m.persisted, m.rejected, m.cancelled, m.deadLettered, m.lost,
		m.claimed, m.rebuilt, m.misplaced, m.preheated, m.paused, m.retired, m.relayed, m.faults, m.streamLength, m.streamLag, m.streamPending, m.streamOldest, m.deadLength, m.stands,
		m.outbox, m.outboxWaiting, m.suspects, m.audited, m.gap, m.broken,
	} {
		errs = append(errs, registerer.Register(c))
	}
	return m, errors.Join(errs...)
}

// forgetAudit ends the series of the audits: this worker makes none.
func (m *metrics) forgetAudit() {
	m.gap.Reset()
	m.broken.Reset()
	m.audited.Set(0)
}
