package compare

import (
	"testing"

	"flashsale/bench/baseline"
)

// A checker that finds nothing wrong with a wrong sale would make every candidate look alike:
// each fault is planted here and must be counted as what it is.
func TestCheck(t *testing.T) {
	t.Parallel()
	ann, bob, cid := baseline.Order{Number: 1, User: "ann"}, baseline.Order{Number: 2, User: "bob"}, baseline.Order{Number: 3, User: "cid"}
	state := func(left int64, orders ...baseline.Order) baseline.State {
		return baseline.State{Left: left, Orders: orders}
	}
	for _, test := range []struct {
		name  string
		told  told
		state baseline.State
		want  verdict
		says  string
	}{
		{
			name:  "sold out exactly",
			told:  told{Accepted: []baseline.Order{ann, bob}, Duplicate: []string{"ann"}, SoldOut: 7},
			state: state(0, ann, bob), says: "exact",
		},
		{
			name: "an answer that was lost with its node", told: told{Accepted: []baseline.Order{ann}, SoldOut: 1},
			state: state(0, ann, bob), says: "exact",
		},
		{
			name: "not sold out and nobody told so", told: told{Accepted: []baseline.Order{ann}, Overloaded: 5},
			state: state(1, ann), says: "exact",
		},
		{
			name: "more orders than units", state: state(0, ann, bob, cid),
			want: verdict{Oversold: 1}, says: "oversold by 1",
		},
		{
			name: "an order that has cost no unit while others are left", state: state(2, ann),
			want: verdict{Oversold: 1}, says: "oversold by 1",
		},
		{
			name:  "more promises than units",
			told:  told{Accepted: []baseline.Order{ann, bob, cid}},
			state: state(0, ann, bob), want: verdict{Oversold: 1, Untrue: 1},
			says: "oversold by 1, 1 answers not true",
		},
		{
			name: "two orders of one user", state: state(0, ann, baseline.Order{Number: 9, User: "ann"}),
			want: verdict{Doubled: 1}, says: "1 orders too many for their users",
		},
		{
			name: "a unit that is nowhere", told: told{SoldOut: 3}, state: state(0, ann),
			want: verdict{Stranded: 1}, says: "1 units stranded",
		},
		{
			name: "a unit left although it was said that none is", told: told{SoldOut: 1}, state: state(1, ann),
			want: verdict{Stranded: 1}, says: "1 units stranded",
		},
		{
			name:  "a promise kept to somebody else",
			told:  told{Accepted: []baseline.Order{{Number: 1, User: "bob"}}},
			state: state(1, ann), want: verdict{Untrue: 1}, says: "1 answers not true",
		},
		{
			name: "told of an order that is not there", told: told{Duplicate: []string{"cid"}}, state: state(0, ann, bob),
			want: verdict{Untrue: 1}, says: "1 answers not true",
		},
		{
			name: "no answer", told: told{Lost: 2}, state: state(0, ann, bob),
			want: verdict{Lost: 2}, says: "2 requests without an answer",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := check(2, test.told, test.state)
			if got != test.want || got.String() != test.says || got.wrong() != (test.want != verdict{}) {
				t.Errorf("got %+v %q, want %+v %q", got, got, test.want, test.says)
			}
		})
	}
}

// An engine that is wrong must fail the run; a baseline must not, but its row must say so.
func TestJudge(t *testing.T) {
	t.Parallel()
	r := &run{}
	ours, other := &candidate{name: "engine", engine: true}, &candidate{name: "mutex"}
	r.judge(ours, "two nodes", verdict{})
	if len(r.failures) != 0 || ours.wrong {
		t.Errorf("an exact engine failed: %q", r.failures)
	}
	r.judge(other, "two nodes", verdict{Oversold: 1})
	if len(r.failures) != 0 || !other.wrong {
		t.Errorf("a wrong baseline: failures %q, marked: %v", r.failures, other.wrong)
	}
	r.judge(ours, "two nodes", verdict{Oversold: 1})
	if len(r.failures) != 1 || !ours.wrong {
		t.Errorf("a wrong engine: failures %q, marked: %v", r.failures, ours.wrong)
	}
}
