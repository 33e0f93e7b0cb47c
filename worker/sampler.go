package worker

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale/engine"
)

const sampleEvery = 5 * time.Second

// sampler measures the streams from time to time.
type sampler struct {
	config  Config
	client  redis.UniversalClient
	metrics *metrics
}

func newSampler(config Config, client redis.UniversalClient, metrics *metrics) *sampler {
	return &sampler{config: config, client: client, metrics: metrics}
}

func (s *sampler) run(ctx context.Context) {
	for ctx.Err() == nil {
		for p := range s.config.Partitions {
			if err := s.sample(ctx, p); err != nil && ctx.Err() == nil {
				s.config.Logger.Debug("stream not measured", "partition", p, "error", err)
			}
		}
		pause(ctx, sampleEvery)
	}
}

func (s *sampler) sample(ctx context.Context, partition int) error {
	stream := engine.OrdersKey(partition)
	pipe := s.client.Pipeline()
	waiting := pipe.Get(ctx, engine.WaitingKey(partition))
	entries := pipe.XLen(ctx, stream)
	oldest := pipe.XRangeN(ctx, stream, "-", "+", 1)
	now := pipe.Time(ctx)
	dead := pipe.XLen(ctx, engine.DeadKey(partition))
	groups := pipe.XInfoGroups(ctx, stream)
	_, _ = pipe.Exec(ctx) // each one's own error counts
	orders, err := waiting.Float64()
	if errors.Is(err, redis.Nil) { // nothing was ever accepted
		err = nil
	}
	if err := errors.Join(err, entries.Err(), oldest.Err(), now.Err(), dead.Err()); err != nil {
		return err
	}
	if entries.Val() == 0 {
		orders = 0
	}
	label := strconv.Itoa(partition)
	s.metrics.streamLength.WithLabelValues(label).Set(orders)
	s.metrics.streamOldest.WithLabelValues(label).Set(age(oldest.Val(), now.Val()).Seconds())
	s.metrics.deadLength.WithLabelValues(label).Set(float64(dead.Val()))
	if err := groups.Err(); err != nil {
		return err
	}
	for _, group := range groups.Val() {
		if group.Name == engine.Group {
			// What is not pending has not been read: acknowledged entries leave the stream.
			// (Redis gives up computing its own lag after a deletion.)
			read := min(1, float64(group.Pending)/max(1, float64(entries.Val())))
			s.metrics.streamPending.WithLabelValues(label).Set(orders * read)
			s.metrics.streamLag.WithLabelValues(label).Set(orders * (1 - read))
		}
	}
	return nil
}

// age is how long ago the first of the entries was written: both times are Redis' own.
func age(entries []redis.XMessage, now time.Time) time.Duration {
	if len(entries) == 0 {
		return 0
	}
	written, ok := entryTime(entries[0].ID)
	if !ok {
		return 0
	}
	return max(0, now.Sub(written))
}

// entryTime is when Redis wrote an entry, as its id tells.
func entryTime(id string) (time.Time, bool) {
	text, _, _ := strings.Cut(id, "-")
	ms, err := strconv.ParseInt(text, 10, 64)
	return time.UnixMilli(ms), err == nil
}
