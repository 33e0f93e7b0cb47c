package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// awayEvery is the pause between two looks whether a Redis that was away is back.
	awayEvery = 50 * time.Millisecond
	// awayAsk bounds one look.
	awayAsk = 500 * time.Millisecond
)

// errAway answers what came while Redis was known to be away: nothing was sent.
var errAway = errors.New("redis is away")

// away tells that the Redis of a lane did not answer lately. Until it does again requests are refused
// at once, instead of each waiting for a connection of its own that cannot be had.
type away struct{ away atomic.Bool }

// is reports whether Redis is known to be away.
func (a *away) is() bool { return a.away.Load() }

// notice notes a fault of a call. The first that says that there is no connection, or no answer on it,
// makes somebody look until Redis is back.
func (a *away) notice(err error, look func()) {
	_, answered := rueidis.IsRedisErr(err)
	if !answered && !errors.Is(err, errAway) && a.away.CompareAndSwap(false, true) {
		look()
	}
}

// watchAway looks until the Redis of a lane answers again, or the engine ends.
func (e *Engine) watchAway(l *lane, partition int) {
	e.config.Logger.Warn("redis is away: requests are refused until it answers", "partition", partition)
	for e.background.Err() == nil {
		ctx, cancel := context.WithTimeout(e.background, awayAsk)
		_, _, err := e.tell(ctx, partition)
		cancel()
		if err == nil {
			break
		}
		pause(e.background, awayEvery)
	}
	l.away.away.Store(false)
	e.config.Logger.Info("redis answers again", "partition", partition)
}
