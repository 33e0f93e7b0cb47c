package server

import (
	"sync"
	"time"
)

// noticesAtOnce bounds the notices under way: each asks Alipay.
const noticesAtOnce = 64

// noticeGate bounds what anybody on the internet can make us look at: notices in one second, and
// at the same time. What is turned away comes again by Alipay's schedule.
type noticeGate struct {
	max   int
	slots chan struct{}

	mu     sync.Mutex // guards what follows
	second int64
	seen   int
}

func newNoticeGate(perSecond int) *noticeGate {
	return &noticeGate{max: perSecond, slots: make(chan struct{}, noticesAtOnce)}
}

// enter lets a notice in, or not; who is in calls leave.
func (g *noticeGate) enter(now time.Time) (leave func(), ok bool) {
	if !g.count(now.Unix()) {
		return nil, false
	}
	select {
	case g.slots <- struct{}{}:
		return func() { <-g.slots }, true
	default:
		return nil, false
	}
}

func (g *noticeGate) count(second int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.second != second {
		g.second, g.seen = second, 0
	}
	g.seen++
	return g.seen <= g.max
}
