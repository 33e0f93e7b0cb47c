package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/rueidis"

	"flashsale"
)

// lookMax is how many items one round trip of [Engine.Look] reads.
const lookMax = 500

// Look is what there is to see of an item in Redis.
type Look struct {
	Account Account
	Vouched bool // for what this Redis holds, in its present run: see [Engine.Vouched]
	// Err is nil, [flashsale.ErrNotFound], [ErrUnreadable], or why the item could not be seen.
	Err error
}

// Look looks at items, in as few round trips as there are Redis servers and hundreds of items. What
// cannot be seen of one keeps nothing of the others.
func (e *Engine) Look(ctx context.Context, items []flashsale.ItemID) map[flashsale.ItemID]Look {
	looks := make(map[flashsale.ItemID]Look, len(items))
	runs := make(map[int]redisRun)
	for len(items) > 0 {
		page := items[:min(len(items), lookMax)]
		items = items[len(page):]
		e.lookAt(ctx, page, runs, looks)
	}
	return looks
}

type redisRun struct {
	id  string
	err error
}

func (e *Engine) lookAt(ctx context.Context, items []flashsale.ItemID, runs map[int]redisRun, looks map[flashsale.ItemID]Look) {
	reads := make([]rueidis.Completed, 0, 2*len(items))
	for _, item := range items {
		p := e.Partition(item)
		if _, known := runs[p]; !known { // before the accounts: no later run is taken for theirs
			id, err := e.RunID(ctx, p)
			runs[p] = redisRun{id, err}
		}
		reads = append(reads,
			e.client.B().Hmget().Key(ItemKey(p, item)).Field(accountFields...).Build(),
			e.client.B().Hlen().Key(BuyersKey(p, item)).Build())
	}
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	results := e.client.DoMulti(ctx, reads...)
	for n, item := range items {
		run := runs[e.Partition(item)]
		account, err := readAccount(item, results[2*n])
		if err == nil || errors.Is(err, flashsale.ErrNotFound) {
			if buyers := results[2*n+1].Error(); buyers != nil {
				err = fmt.Errorf("buyers of item %d: %w", item, unreadable(buyers))
			}
		}
		if run.err != nil {
			err = run.err
		}
		looks[item] = Look{Account: account, Vouched: err == nil && account.Run == run.id, Err: err}
	}
}

// readAccount decodes what HMGET has read of an account.
func readAccount(item flashsale.ItemID, result rueidis.RedisResult) (Account, error) {
	parts, err := result.ToArray()
	if err != nil {
		return Account{}, fmt.Errorf("read item %d: %w", item, unreadable(err))
	}
	if len(parts) == len(accountFields) && parts[0].IsNil() && parts[len(parts)-1].IsNil() {
		return Account{}, fmt.Errorf("item %d in redis: %w", item, flashsale.ErrNotFound)
	}
	account, err := decodeAccount(item, parts)
	if err != nil {
		return Account{}, fmt.Errorf("read item %d: %w: %w", item, ErrUnreadable, err)
	}
	return account, nil
}
