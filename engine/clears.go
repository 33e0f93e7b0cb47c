package engine

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"flashsale"
)

// resubscribeAfter is the pause between attempts to subscribe; each failed one is logged.
const resubscribeAfter = 500 * time.Millisecond

// listen hears of units that came back, on any node, and drops the flags that they disprove.
// What was said while nobody listened is lost, so a new subscription drops all flags.
func (e *Engine) listen(ctx context.Context) {
	subscribe := e.subscriber.B().Subscribe().Channel(ClearedChannel).Build().Pin()
	hooked := rueidis.WithOnSubscriptionHook(ctx, func(rueidis.PubSubSubscription) { e.dropFlags() })
	for ctx.Err() == nil {
		err := e.subscriber.Receive(hooked, subscribe, func(m rueidis.PubSubMessage) {
			if err := e.hear(m.Message); err != nil {
				e.config.Logger.Warn("message ignored", "channel", ClearedChannel, "error", err)
			}
		})
		e.dropFlags()
		if ctx.Err() != nil {
			return
		}
		e.config.Logger.Warn("subscription lost, flags dropped", "channel", ClearedChannel, "error", err)
		pause(ctx, resubscribeAfter)
	}
}

// hear takes "<item> <epoch>", which says that units came back, or "<item> <epoch> <gen> <seq>
// <user>...", which says who took such units, and the sequence before them.
func (e *Engine) hear(message string) error {
	words := strings.Fields(message)
	if len(words) != 2 && len(words) < 5 {
		return fmt.Errorf("message of %d words", len(words))
	}
	item, err := flashsale.ParseID[flashsale.ItemID](words[0])
	if err != nil {
		return err
	}
	var numbers [3]int64
	for n, word := range words[1:min(len(words), 4)] {
		if numbers[n], err = strconv.ParseInt(word, 10, 64); err != nil {
			return err
		}
	}
	q := e.queues.get(item)
	if q == nil {
		return nil
	}
	epoch, gen, after := numbers[0], numbers[1], numbers[2]
	q.flag.see(epoch)
	if len(words) > 2 {
		users := words[4:]
		q.flag.join(gen, span{after, after + int64(len(users))}, func(add func(string)) {
			for _, user := range users {
				add(user)
			}
		})
	}
	return nil
}

func (e *Engine) dropFlags() { e.queues.every(func(q *itemQueue) { q.flag.drop() }) }
