package engine

import (
	"context"
	"slices"
	"testing"

	"github.com/redis/rueidis"

	"flashsale/internal/devstack/stacktest"
)

// TestTags protects a cluster from idle nodes: by what Redis itself says of the tags, each of 1 to
// 64 primaries with equal parts of the slots has partitions, about as many as any other; and the
// first partitions, on which the first items lie, are spread as well.
func TestTags(t *testing.T) {
	t.Parallel()
	option, err := rueidis.ParseURL(stacktest.NewRedis(t, "--cluster-enabled", "yes").URL())
	if err != nil {
		t.Fatal(err)
	}
	option.ForceSingleClient, option.DisableCache = true, true // one node that owns no slots
	client, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	slots := make([]int64, len(tags))
	for p := range tags {
		keySlot := client.B().ClusterKeyslot().Key(OrdersKey(p)).Build()
		if slots[p], err = client.Do(context.Background(), keySlot).AsInt64(); err != nil {
			t.Fatal(err)
		}
	}
	const all = 16384
	for primaries := range int64(len(tags)) {
		primaries++
		share := make([]int, primaries)
		for _, slot := range slots {
			share[slot*primaries/all]++
		}
		if least, most := slices.Min(share), slices.Max(share); least == 0 || most-least > 2 {
			t.Errorf("%d primaries have from %d to %d partitions", primaries, least, most)
		}
		first := make([]int, primaries)
		for _, slot := range slots[:min(2*primaries, 64)] {
			first[slot*primaries/all]++
		}
		if most := slices.Max(first); most > 4 {
			t.Errorf("of the first %d partitions one of %d primaries has %d", min(2*primaries, 64), primaries, most)
		}
	}
	if OrdersKey(0) != "fs:{0}:orders" {
		t.Errorf("the only partition of a single Redis is %s", OrdersKey(0))
	}
	if len(slices.Compact(slices.Sorted(slices.Values(slots)))) != len(tags) {
		t.Error("two tags share a slot")
	}
}
