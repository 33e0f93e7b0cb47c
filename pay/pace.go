package pay

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"flashsale/pay/alipay"
)

const (
	paceMin = 4 // calls at once that recovery makes however ill Alipay is
	// passRounds is how many rounds of calls one pass makes: enough to keep all slots busy, and few
	// enough that what a pass has taken up is done before another worker takes it up as well.
	passRounds = 4
)

// pace is how many calls of Alipay recovery makes at once: as many as are configured while Alipay
// takes them; half as many after a pass in which it did not take one in ten, because there were too
// many or because it is away; twice as many again after one in which it did.
type pace struct {
	max int
	now atomic.Int64
}

func newPace(atMost int) *pace {
	p := &pace{max: atMost}
	p.now.Store(int64(atMost))
	return p
}

func (p *pace) atOnce() int { return int(p.now.Load()) }

// learn takes in how a pass went.
func (p *pace) learn(calls, untaken int) {
	if calls == 0 {
		return
	}
	next := min(p.atOnce()*2, p.max)
	if untaken*10 > calls {
		next = max(p.atOnce()/2, min(paceMin, p.max))
	}
	p.now.Store(int64(next))
}

// paced calls fn for all that take finds, at the pace that Alipay takes, and reports whether there
// may be more.
func paced[T any](
	ctx context.Context, d *Desk, limit int,
	take func(ctx context.Context, limit int) ([]T, error), fn func(T) error,
) (more bool, err error) {
	atOnce := d.pace.atOnce()
	limit = min(limit, atOnce*passRounds)
	all, err := take(ctx, limit)
	if err != nil {
		return false, err
	}
	var untaken atomic.Int64
	each(all, atOnce, func(one T) {
		if errors.Is(fn(one), alipay.ErrUnavailable) {
			untaken.Add(1)
		}
	})
	d.pace.learn(len(all), int(untaken.Load()))
	return len(all) == limit, nil
}

// each calls fn for all, so many at once, and returns when all calls have.
func each[T any](all []T, atOnce int, fn func(T)) {
	var running sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, one := range all {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			fn(one)
		})
	}
	running.Wait()
}
