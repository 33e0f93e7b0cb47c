package worker

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale/engine"
)

// Protects orders that are in nobody's hands: a consumer was deleted with an entry pending, so no
// read and no claim brings it. It is found and delivered; what another has in hand is left to it.
func TestRescuer(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.sale(10, 3)
	key := engine.OrdersKey(0)
	if err := s.client.XGroupCreateMkStream(t.Context(), key, engine.Group, "0").Err(); err != nil && !isBusyGroup(err) {
		t.Fatal(err)
	}
	read := func(consumer string) {
		t.Helper()
		err := s.client.XReadGroup(t.Context(), &redis.XReadGroupArgs{
			Group: engine.Group, Consumer: consumer, Streams: []string{key, ">"}, Count: 1, Block: -1,
		}).Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	read("gone")
	read("busy")
	if n, err := s.client.XGroupDelConsumer(t.Context(), key, engine.Group, "gone").Result(); err != nil || n != 1 {
		t.Fatalf("%d entries, %v", n, err)
	}
	metrics, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	config := s.config().withDefaults()
	for range 2 { // once is enough
		if err := newRescuer(config, s.client, metrics).rescue(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	wantMetric(t, "claimed", metrics.claimed, 1)
	pending, err := s.client.XPendingExt(t.Context(), &redis.XPendingExtArgs{
		Stream: key, Group: engine.Group, Start: "-", End: "+", Count: 10,
	}).Result()
	if err != nil || len(pending) != 2 {
		t.Fatalf("%d pending, %v", len(pending), err)
	}
	for n, want := range []string{config.Consumer, "busy"} {
		if pending[n].Consumer != want {
			t.Errorf("entry %s is pending with %s, want %s", pending[n].ID, pending[n].Consumer, want)
		}
	}
	if idle := pending[0].Idle; idle < config.ClaimMinIdle || idle > 3*config.ClaimMinIdle+time.Minute {
		t.Errorf("the orphan is idle for %s: no claim takes it", idle)
	}
}
