package flashsale_test

import (
	"testing"
	"time"

	"flashsale"
)

// An audit of the last month must find the month's first order and none before.
func TestFirstOrderNo(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_790_000_000_123)
	first := flashsale.FirstOrderNo(at)
	if !first.Time().Equal(at) || !(first - 1).Time().Before(at) || flashsale.FirstOrderNo(time.UnixMilli(0)) != 0 {
		t.Errorf("first order %s is of %s, the one before of %s", first, first.Time(), (first - 1).Time())
	}
}
