package engine

import (
	"math"
	"strings"
	"testing"

	"flashsale"
)

// TestKeys_Literal pins the names: operators type them, login systems and the worker write
// them, and a running Redis holds them.
func TestKeys_Literal(t *testing.T) {
	t.Parallel()
	const item = flashsale.ItemID(9223372036854775807)
	for _, c := range []struct{ got, want string }{
		{ItemKey(0, 42), "fs:{0}:item:42"},
		{ItemKey(15, item), "fs:{15.5532}:item:9223372036854775807"},
		{BuyersKey(3, 42), "fs:{" + tags[3] + "}:buyers:42"},
		{OrdersKey(3), "fs:{" + tags[3] + "}:orders"},
		{DeadKey(3), "fs:{" + tags[3] + "}:dead"},
		{ClearedChannel, "fs:cleared"},
		{Group, "workers"},
		{SessionKey("secret"), "fs:session:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"},
		{ResultsChannel(1), "fs:results:31161"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
}

// TestKeys_OneSlot: a script may touch one slot only, so all keys of a partition share its
// hash tag. (Museum bug 12.)
func TestKeys_OneSlot(t *testing.T) {
	t.Parallel()
	for _, key := range []string{ItemKey(7, 1), BuyersKey(7, 2), OrdersKey(7), DeadKey(7)} {
		if !strings.HasPrefix(key, "fs:{7.109}:") || strings.Count(key, "{") != 1 {
			t.Errorf("%s does not carry the hash tag", key)
		}
	}
}

// TestPartition_NeverNegative: a negative hash chose a negative bucket elsewhere, and its stock
// was stranded. (Museum bug 18.)
func TestPartition_NeverNegative(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 16, PartitionsLimit} {
		for _, item := range []flashsale.ItemID{1, 2, 16, 17, 1 << 31, 1 << 32, 1<<53 + 1, math.MaxInt64} {
			if p := Partition(item, n); p < 0 || p >= n {
				t.Errorf("item %d of %d partitions is in %d", item, n, p)
			}
		}
	}
}

// TestResultsChannel_Spread: order numbers of one node differ in their high bits only, and must
// not all fall on one channel.
func TestResultsChannel_Spread(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for n := range int64(8 * ResultShards) {
		seen[ResultsChannel(flashsale.OrderNo(1_700_000_000_000<<22+n<<22))] = true
	}
	if len(seen) < ResultShards*99/100 {
		t.Errorf("orders fall on %d of %d channels", len(seen), ResultShards)
	}
}
