package peak

import (
	"errors"
	"fmt"
	"time"
)

// Phase is a constant rate of arrivals for a time.
type Phase struct {
	Rate     int           `json:"rate"` // requests due each second
	Duration time.Duration `json:"duration_ns"`
}

func validatePhases(phases []Phase) error {
	if len(phases) == 0 {
		return errors.New("peak: Phases is required")
	}
	var length time.Duration
	for _, p := range phases {
		switch {
		case p.Rate < 0 || p.Rate > RateMax:
			return fmt.Errorf("peak: Rate must be 0 to %d, not %d", RateMax, p.Rate)
		case p.Rate == 0 && len(phases) > 1:
			return errors.New("peak: Rate 0, a closed loop, stands alone")
		case p.Duration <= 0 || p.Duration > LengthMax:
			return fmt.Errorf("peak: Duration must be above 0 and at most %s, not %s", LengthMax, p.Duration)
		}
		length += p.Duration
	}
	if length > LengthMax {
		return fmt.Errorf("peak: all phases together must take at most %s, not %s", LengthMax, length)
	}
	return nil
}

// schedule knows when each request is due, as time since the start.
type schedule struct {
	spans  []span
	total  int64 // requests; 0 in a closed loop
	length time.Duration
	closed bool
}

// span is a phase with its place in the whole.
type span struct {
	first int64 // number of its first request
	start time.Duration
	rate  int64
}

func newSchedule(phases []Phase) *schedule {
	s := &schedule{closed: len(phases) == 1 && phases[0].Rate == 0}
	for _, p := range phases {
		s.spans = append(s.spans, span{first: s.total, start: s.length, rate: int64(p.Rate)})
		// The first request is due when the phase begins, the last one before it ends.
		s.total += (int64(p.Rate)*int64(p.Duration) + int64(time.Second) - 1) / int64(time.Second)
		s.length += p.Duration
	}
	return s
}

// due is when request n of an open loop is due, and false behind the last one.
func (s *schedule) due(n int64) (time.Duration, bool) {
	if n >= s.total {
		return 0, false
	}
	last := len(s.spans) - 1
	for s.spans[last].first > n {
		last--
	}
	span := s.spans[last]
	return span.start + time.Duration((n-span.first)*int64(time.Second)/span.rate), true
}

// dueBy is how many requests are due until a moment, for the display of what waits.
func (s *schedule) dueBy(at time.Duration) int64 {
	var count int64
	for n, span := range s.spans {
		end := s.total
		if n+1 < len(s.spans) {
			end = s.spans[n+1].first
		}
		if at >= span.start {
			within := int64((at-span.start).Seconds()*float64(span.rate)) + 1
			count = min(span.first+within, end)
		}
	}
	return count
}
