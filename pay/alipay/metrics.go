package alipay

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Labels of results.
const (
	resultOK           = "ok"
	resultRefused      = "refused"
	resultUnknownTrade = "unknown_trade"
	resultUnavailable  = "unavailable"
)

type metrics struct {
	calls    *prometheus.HistogramVec // by method and result
	messages *prometheus.CounterVec   // by kind and result
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flashsale_alipay_call_seconds",
			Help:    "Duration of calls to Alipay.",
			Buckets: prometheus.ExponentialBuckets(5e-3, 2, 11),
		}, []string{"method", "result"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flashsale_alipay_messages_total",
			Help: "Notices and returns by what came of them: ok, or the check that they failed.",
		}, []string{"kind", "result"}),
	}
	if registerer == nil {
		return m, nil
	}
	return m, errors.Join(registerer.Register(m.calls), registerer.Register(m.messages))
}

func (m *metrics) message(kind string, err error) {
	result := resultOK
	if err != nil {
		result = resultUnavailable
		var forged *forgery
		if errors.As(err, &forged) {
			result = forged.reason
		}
	}
	m.messages.WithLabelValues(kind, result).Inc()
}

func callResult(err error) string {
	switch {
	case err == nil:
		return resultOK
	case errors.Is(err, ErrUnknownTrade):
		return resultUnknownTrade
	case errors.Is(err, ErrRefused):
		return resultRefused
	default:
		return resultUnavailable
	}
}
