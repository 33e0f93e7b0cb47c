package worker

import (
	"fmt"
	"strings"
)

// findingExamples is how many examples of one kind a report names.
const findingExamples = 3

// finding is a kind of fault in one item, with how often it was found.
type finding struct {
	invariant int
	kind      string // the same in every look
	count     int64
	examples  []string
}

// findings are the faults of one look at an item, in the order in which they were found.
type findings []*finding

// addf notes n faults of a kind, with an example unless its format is empty.
func (f *findings) addf(n int64, invariant int, kind, format string, args ...any) {
	var same *finding
	for _, known := range *f {
		if known.kind == kind {
			same = known
		}
	}
	if same == nil {
		same = &finding{invariant: invariant, kind: kind}
		*f = append(*f, same)
	}
	same.count += n
	if format != "" && len(same.examples) < findingExamples {
		same.examples = append(same.examples, fmt.Sprintf(format, args...))
	}
}

// confirmedBy returns those of a kind that the look before has found too.
func (f findings) confirmedBy(before findings) (confirmed findings) {
	for _, now := range f {
		for _, then := range before {
			if now.kind == then.kind {
				confirmed = append(confirmed, now)
				break
			}
		}
	}
	return confirmed
}

// String is the finding as a line of a report.
func (f finding) String() string {
	text := strings.Join(f.examples, "; ")
	if more := f.count - int64(len(f.examples)); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}
