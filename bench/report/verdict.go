package report

import (
	"fmt"
	"strings"
)

// Verdict is what a run comes to, in words.
type Verdict struct {
	Word     string // passed, missed or failed; measured, of a run that judges nothing
	Why      string
	Failures []string // each with its part
	Missed   []string // promises, each with what it was instead
}

// Verdict sums the run up. What was not true outweighs what was not fast.
func (r *Report) Verdict() Verdict {
	var v Verdict
	promised := 0
	for _, part := range r.Parts {
		for _, failure := range part.Failures {
			v.Failures = append(v.Failures, part.Name+": "+strings.TrimSpace(failure))
		}
		for _, figure := range part.Figures {
			if figure.Bound == nil || len(figure.Sample) == 0 {
				continue
			}
			promised++
			if !r.Quick && !figure.Met() {
				v.Missed = append(v.Missed, fmt.Sprintf("%s: %s is %s, promised %s",
					part.Name, figure.Name, human(figure.Sample.Median()), figure.Bound))
			}
		}
	}
	switch {
	case len(v.Failures) > 0:
		v.Word, v.Why = "failed", "a fast run that is not true is a failed run"
	case r.Quick:
		v.Word, v.Why = "measured", "once and shortly: everything ran and every count is true; speed was not judged"
	case len(v.Missed) > 0:
		v.Word, v.Why = "missed", fmt.Sprintf("every count is true, but %d of %d promises are not kept", len(v.Missed), promised)
	case promised == 0:
		v.Word, v.Why = "passed", "every count is true"
	default:
		v.Word, v.Why = "passed", fmt.Sprintf("every count is true and all %d promises are kept", promised)
	}
	return v
}
