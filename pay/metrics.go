package pay

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the desk.
type metrics struct {
	payments   *prometheus.CounterVec // by method and result
	refunds    *prometheus.CounterVec // by method and result
	recoveries *prometheus.CounterVec // by kind
	mismatches *prometheus.CounterVec // by kind
	faults     *prometheus.CounterVec // by step
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		payments: counter("flashsale_payments_total",
			"What came of requests to pay, and of money that arrived.", "method", "result"),
		refunds: counter("flashsale_refunds_total",
			"Refunds that were done, or refused for good. Each refused one waits for an operator.", "method", "result"),
		recoveries: counter("flashsale_payment_recoveries_total",
			"Payments, refunds and trades that a recovery has finished.", "kind"),
		mismatches: counter("flashsale_payment_mismatches_total",
			"Payments that contradict an order. Each is for an operator to look at: raise the alarm.", "kind"),
		faults: counter("flashsale_payment_faults_total",
			"Faults after which a step is tried again.", "step"),
	}
	if registerer == nil {
		return m, nil
	}
	return m, errors.Join(registerer.Register(m.payments), registerer.Register(m.refunds),
		registerer.Register(m.recoveries), registerer.Register(m.mismatches), registerer.Register(m.faults))
}
