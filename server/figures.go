package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/internal/redisurl"
)

const (
	// FiguresKey is the hash in Redis in which each process tells once a second how it does.
	FiguresKey = "fs:figures"

	figuresEvery = time.Second
	figuresKept  = 5 * time.Minute // of a process that ended without a word
	figuresCall  = 800 * time.Millisecond
)

// Process is what a process tells of itself beside its metrics.
type Process struct {
	// Kind is serve, work or serve+work.
	Kind string
	// Lease is the node id under which it numbers orders. nil: it has none.
	Lease func() flashsale.NodeLease
	// Partitions are how many streams a worker reads; 0: none.
	Partitions int
}

// figures are what a process says of itself.
type figures struct {
	Kind       string                       `json:"kind"`
	Name       string                       `json:"name"` // host/process id
	Version    string                       `json:"version"`
	Node       int                          `json:"node"`     // -1: none
	LeaseMS    int64                        `json:"lease_ms"` // left of its lease
	StartedMS  int64                        `json:"started_ms"`
	AtMS       int64                        `json:"at_ms"` // by its own clock
	Partitions int                          `json:"partitions,omitempty"`
	Values     map[string]float64           `json:"values"`  // counters and gauges, by name or name/label
	Buckets    map[string]map[string]uint64 `json:"buckets"` // cumulated, by upper bound
}

// publishedMetrics are those that the board is made of.
var publishedMetrics = map[string]bool{
	"flashsale_reserve_outcomes_total": true, "flashsale_reserve_flagged_total": true, "flashsale_reserve_faults_total": true,
	"flashsale_reserve_batch_size": true, "flashsale_reserve_script_seconds": true, "flashsale_lane_depth": true,
	"flashsale_persist_batch_size": true, "flashsale_persist_seconds": true, "flashsale_persisted_orders_total": true,
	"flashsale_rejected_orders_total": true, "flashsale_cancelled_orders_total": true, "flashsale_payments_total": true,
	"flashsale_refunds_total": true, "flashsale_lost_entries_total": true, "flashsale_misplaced_keys_total": true,
	"flashsale_stream_length": true, "flashsale_stream_oldest_seconds": true, "flashsale_stream_pending": true,
	"flashsale_dead_length": true, "flashsale_consumer_stands": true, "flashsale_outbox_rows": true,
	"flashsale_outbox_waiting": true, "flashsale_suspect_items": true, "flashsale_audit_timestamp_seconds": true,
	"flashsale_conservation_gap": true, "flashsale_invariant_broken": true, "flashsale_sockets": true, "flashsale_waiters": true,
}

// publisher tells the others how this process does: one small write a second, off every path.
type publisher struct {
	client   redis.UniversalClient
	gatherer prometheus.Gatherer
	logger   *slog.Logger
	process  Process
	id       string
	started  time.Time
}

// newPublisher connects to nothing yet. Close its client afterwards.
func newPublisher(redisURL string, process Process, gatherer prometheus.Gatherer, logger *slog.Logger) (*publisher, error) {
	client, err := newFiguresClient(redisURL)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // only for people
	return &publisher{
		client: client, gatherer: gatherer, logger: logger, process: process, started: time.Now(),
		id: fmt.Sprintf("%s/%d/%.6s", host, os.Getpid(), rand.Text()),
	}, nil
}

func newFiguresClient(redisURL string) (redis.UniversalClient, error) {
	target, err := redisurl.Parse(redisURL)
	if err != nil {
		return nil, fmt.Errorf("server: RedisURL: %w", err)
	}
	return target.Universal(redisurl.Options{
		Name: "flashsale-figures", PoolSize: 2, DialTimeout: figuresCall, PoolTimeout: figuresCall,
		ReadTimeout: figuresCall, WriteTimeout: figuresCall,
	})
}

// run publishes until ctx ends, and says goodbye.
func (p *publisher) run(ctx context.Context) {
	defer func() { _ = p.client.Close() }()
	tick := time.NewTicker(figuresEvery)
	defer tick.Stop()
	for {
		if err := p.publish(ctx); err != nil && ctx.Err() == nil {
			p.logger.Debug("figures are not published", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			call, cancel := context.WithTimeout(context.WithoutCancel(ctx), figuresCall)
			_ = p.client.HDel(call, FiguresKey, p.id).Err() // the others notice anyway
			cancel()
			return
		}
	}
}

func (p *publisher) publish(ctx context.Context) error {
	text, err := json.Marshal(p.take())
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, figuresCall)
	defer cancel()
	pipe := p.client.Pipeline()
	pipe.HSet(call, FiguresKey, p.id, text)
	pipe.Expire(call, FiguresKey, figuresKept)
	_, err = pipe.Exec(call)
	return err
}

// take gathers what is published.
func (p *publisher) take() figures {
	f := figures{
		Kind: p.process.Kind, Name: p.id[:strings.LastIndexByte(p.id, '/')], Version: buildVersion(), Node: -1,
		StartedMS: p.started.UnixMilli(), AtMS: time.Now().UnixMilli(), Partitions: p.process.Partitions,
		Values: make(map[string]float64), Buckets: make(map[string]map[string]uint64),
	}
	if p.process.Lease != nil {
		lease := p.process.Lease()
		f.Node, f.LeaseMS = lease.ID, lease.UntilMS-lease.NowMS
	}
	families, _ := p.gatherer.Gather() // with an error, what could be gathered
	for _, family := range families {
		name := family.GetName()
		if !publishedMetrics[name] {
			continue
		}
		name = strings.TrimPrefix(name, "flashsale_")
		for _, metric := range family.GetMetric() {
			key := name
			for _, label := range metric.GetLabel() {
				key += "/" + label.GetValue()
			}
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				f.Values[key] += metric.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				f.Values[key] += metric.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				buckets := make(map[string]uint64)
				for _, b := range metric.GetHistogram().GetBucket() {
					buckets[fmt.Sprint(b.GetUpperBound())] = b.GetCumulativeCount()
				}
				buckets["+Inf"] = metric.GetHistogram().GetSampleCount()
				f.Buckets[key] = buckets
			}
		}
	}
	return f
}

// buildVersion is what the binary says it is.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "vcs.revision" })
	if i < 0 {
		return info.Main.Version
	}
	return info.Settings[i].Value[:min(9, len(info.Settings[i].Value))]
}
