package limits_test

import (
	"bytes"
	"testing"

	"flashsale/bench/limits"
)

// The limits must be measured on any machine that the engine runs on, or its shares of them
// would be unknown exactly where somebody asks. A limit that is below what it limits is none,
// but how much room is left is not for a test to say.
func TestRun_Quick(t *testing.T) {
	t.Parallel()
	var progress bytes.Buffer
	part, err := limits.Run(t.Context(), limits.Config{Quick: true, Progress: &progress})
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	shares := 0
	for _, figure := range part.Figures {
		if len(figure.Sample) != 1 || !(figure.Sample.Median() > 0) {
			t.Errorf("%s: got %v", figure.Name, figure.Sample)
		}
		if figure.Ratio {
			shares++
		}
	}
	if shares != 3 || len(part.Failures) != 0 {
		t.Errorf("got %d shares: %+v", shares, part)
	}
}

// Nobody shall wait for a stack to learn of a wrong flag.
func TestRun_Invalid(t *testing.T) {
	t.Parallel()
	if _, err := limits.Run(t.Context(), limits.Config{Rounds: -1}); err == nil {
		t.Error("a negative number of rounds was measured")
	}
}
