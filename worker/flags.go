package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"flashsale"
	"flashsale/engine"
)

// flagsTold is longer than a node takes to tell of its flags anew.
const flagsTold = 2500 * time.Millisecond

// proveFlags finds the sold-out flags that stand although there are units, which invariant 6 forbids.
// A flag speaks of an epoch of the stock. One of an older epoch falls with the message that says so, or
// when its time is over, half a second later; so it counts only if a node that goes on telling has it
// still in the next telling but one.
func (a *Auditor) proveFlags(ctx context.Context) (broken []string, err error) {
	before, err := a.wrongFlags(ctx)
	if err != nil || len(before) == 0 {
		return nil, err
	}
	if pause(ctx, flagsTold); ctx.Err() != nil {
		return nil, ctx.Err()
	}
	after, err := a.wrongFlags(ctx)
	if err != nil {
		return nil, err
	}
	for flag, now := range after {
		if was, ok := before[flag]; ok && now.told > was.told {
			broken = append(broken, fmt.Sprintf("item %d: node %s says sold out by epoch %d, while %d units are on sale in epoch %d",
				flag.item, flag.node, flag.epoch, now.stock, now.epoch))
		}
	}
	slices.Sort(broken)
	return broken, nil
}

// wrongFlag is one that a node holds up.
type wrongFlag struct {
	node  string
	item  flashsale.ItemID
	epoch int64
}

// seenFlag is what stands against it.
type seenFlag struct {
	told, stock, epoch int64
}

func (a *Auditor) wrongFlags(ctx context.Context) (map[wrongFlag]seenFlag, error) {
	nodes, err := a.config.Engine.RaisedFlags(ctx) // before the accounts: their epochs only rise
	if err != nil {
		return nil, err
	}
	wrong := make(map[wrongFlag]seenFlag)
	accounts := make(map[flashsale.ItemID]seenAccount)
	for node, flags := range nodes {
		for item, epoch := range flags.Epoch {
			account, ok := accounts[item]
			if !ok {
				if account, err = a.account(ctx, item); err != nil {
					return nil, err
				}
				accounts[item] = account
			}
			if account.there && account.fault == nil && account.State == engine.StateOpen && account.Stock > 0 && account.Epoch >= epoch {
				wrong[wrongFlag{node, item, epoch}] = seenFlag{flags.Told, account.Stock, account.Epoch}
			}
		}
	}
	return wrong, nil
}
