package server

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the server. What a request counts is resolved beforehand: see [routeMetrics].
type metrics struct {
	registerer prometheus.Registerer
	responses  *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	panics     prometheus.Counter
	dropped    prometheus.Counter
	collectors []prometheus.Collector
}

func newMetrics(s *Server) (*metrics, error) {
	m := &metrics{
		registerer: s.config.Registerer,
		responses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flashsale_http_responses_total",
			Help: "Answers to shoppers by route and status.",
		}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flashsale_http_request_seconds",
			Help:    "Duration of a request, from read to answered; long polls included.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 4, 10), // 100 µs to 26 s
		}, []string{"route"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flashsale_http_panics_total",
			Help: "Requests that ended in a panic: bugs.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flashsale_sockets_dropped_total",
			Help: "Websockets dropped because their reader was too slow.",
		}),
	}
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return float64(value()) })
	}
	m.collectors = []prometheus.Collector{
		m.responses, m.seconds, m.panics, m.dropped, s.hub.heard,
		gauge("flashsale_http_connections", "Open connections of shoppers, without websockets.",
			func() int { return int(s.public.GetOpenConnectionsCount()) }),
		gauge("flashsale_sockets", "Open websockets.", func() int { return s.sockets.count() }),
		gauge("flashsale_waiters", "Long polls that wait.", func() int { return len(s.waiters) }),
		gauge("flashsale_result_channels", "Channels of results that this node hears.",
			func() int { return s.hub.channels() }),
	}
	if m.registerer == nil {
		return m, nil
	}
	for n, c := range m.collectors {
		if err := m.registerer.Register(c); err != nil {
			m.collectors = m.collectors[:n]
			m.unregister()
			return nil, fmt.Errorf("server: metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}

// routeMetrics counts the answers of one route.
type routeMetrics struct {
	route     string
	responses *prometheus.CounterVec
	seconds   prometheus.Observer
	byStatus  [600]atomic.Pointer[prometheus.Counter] // filled as statuses occur
}

func (m *metrics) forRoute(route string) *routeMetrics {
	return &routeMetrics{route: route, responses: m.responses, seconds: m.seconds.WithLabelValues(route)}
}

func (r *routeMetrics) observe(status int, took time.Duration) {
	r.seconds.Observe(took.Seconds())
	slot := &r.byStatus[min(max(status, 0), len(r.byStatus)-1)]
	counter := slot.Load()
	if counter == nil {
		resolved := r.responses.WithLabelValues(r.route, strconv.Itoa(status))
		counter = &resolved
		slot.Store(counter)
	}
	(*counter).Inc()
}
