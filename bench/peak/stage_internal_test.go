package peak

import (
	"testing"

	"flashsale/bench/target"
)

// A proof that finds no lie is worth nothing: each that an engine could tell must be found, and
// none where there is none.
func TestProof_Compare(t *testing.T) {
	t.Parallel()
	const stock = 100
	counts := func(pairs map[string]int64) *Result { return &Result{Counts: pairs} }
	for name, test := range map[string]struct {
		item   target.Item
		result *Result
		lies   int
	}{
		"some left":        {target.Item{Sequence: 60, Stock: 40, Buyers: 60}, counts(map[string]int64{Accepted: 60}), 0},
		"sold out":         {target.Item{Sequence: 100, Buyers: 100}, counts(map[string]int64{Accepted: 100, "sold_out": 5}), 0},
		"lost answer":      {target.Item{Sequence: 61, Stock: 39, Buyers: 61}, counts(map[string]int64{Accepted: 60, Unknown: 1, Broken: 1}), 0},
		"lost request":     {target.Item{Sequence: 60, Stock: 40, Buyers: 60}, counts(map[string]int64{Accepted: 60, Unknown: 2}), 0},
		"lost order":       {target.Item{Sequence: 59, Stock: 41, Buyers: 59}, counts(map[string]int64{Accepted: 60, Unknown: 1}), 1},
		"untold order":     {target.Item{Sequence: 61, Stock: 39, Buyers: 61}, counts(map[string]int64{Accepted: 60}), 1},
		"lost unit":        {target.Item{Sequence: 60, Stock: 39, Buyers: 60}, counts(map[string]int64{Accepted: 60}), 1},
		"oversold":         {target.Item{Sequence: 101, Stock: -1, Buyers: 101}, counts(map[string]int64{Accepted: 101}), 1},
		"sold twice":       {target.Item{Sequence: 60, Stock: 40, Buyers: 59}, counts(map[string]int64{Accepted: 60}), 1},
		"refused too soon": {target.Item{Sequence: 60, Stock: 40, Buyers: 60}, counts(map[string]int64{Accepted: 60, "sold_out": 1}), 1},
		"false duplicate":  {target.Item{Sequence: 60, Stock: 40, Buyers: 60}, counts(map[string]int64{Accepted: 60, "duplicate_order": 1}), 1},
	} {
		proof := Proof{Item: test.item}
		proof.compare(stock, test.result)
		if len(proof.Failures) != test.lies {
			t.Errorf("%s: %d lies, found %q", name, test.lies, proof.Failures)
		}
	}
}
