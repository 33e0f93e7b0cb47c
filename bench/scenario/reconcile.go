package scenario

import (
	"context"
	"fmt"
	"time"

	"flashsale/bench/target"
)

// restMax is how long worker, relay and refunds may take to come to rest after a crowd.
const restMax = time.Minute

// reconcile compares what the crowd was told with what Redis and the ledger hold.
func (p *play) reconcile(ctx context.Context) error {
	if !p.stage.sells() {
		p.result.Proof = "not audited: no ops listener of the target was named"
		return nil
	}
	units, given := p.told()
	audit, held, err := p.rest(ctx, units)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		p.failf("%v", err)
	}
	p.result.Audit = audit.String()
	for _, line := range audit.Broken() {
		p.failf("audit: %s", line)
	}
	if !audit.OK && len(audit.Broken()) == 0 {
		p.failf("audit: not ok")
	}
	if p.Target.Item != "" {
		p.result.Proof = "audited; the counts of an item that was there before are not compared"
		return nil
	}
	p.compare(units, held, audit)
	p.result.Proof = fmt.Sprintf("%d orders accepted in redis, %d units given back, %d in live orders of the ledger",
		held.Sequence, given, p.live(audit))
	if p.scene.pays {
		p.compareMoney(audit)
	}
	return nil
}

// told is how many units the crowd must hold after all that it was told, and how many it gave
// back.
func (p *play) told() (live, given int64) {
	counts := p.result.Counts
	given = counts["cancelled"] + counts["timed_out"] + counts["refunded"]
	return counts["accepted"] - given, given
}

// total is what was put on sale.
func (p *play) total() int64 { return int64(len(p.items)) * p.scene.stock }

func (p *play) live(audit target.Audit) (units int64) {
	for _, item := range p.items {
		units += audit.Live(item)
	}
	return units
}

// rest waits until everything that was accepted or given back has arrived. Where the run has
// failed already, nobody knows what would have to arrive, only that nothing may move.
func (p *play) rest(ctx context.Context, units int64) (audit target.Audit, held target.Item, err error) {
	err = target.Await(ctx, restMax, "coming to rest", func() (bool, error) {
		if held, err = p.stage.holding(ctx, p.items); err != nil {
			return false, err
		}
		arrived := held.Waiting == 0 && (held.Stock == p.total()-units || !p.result.OK() || p.Target.Item != "")
		if !arrived {
			return false, nil
		}
		audit, err = p.stage.server.Audit(ctx)
		return !audit.Moving, err
	})
	return audit, held, err
}

// compare finds where what the crowd was told differs from what is held.
func (p *play) compare(units int64, held target.Item, audit target.Audit) {
	if accepted := p.result.Counts["accepted"]; held.Sequence != accepted {
		p.failf("the crowd was told of %d orders, redis accepted %d", accepted, held.Sequence)
	}
	if left := p.total() - units; held.Stock != left {
		p.failf("%d units should be left, redis holds %d", left, held.Stock)
	}
	if live := p.live(audit); live != units {
		p.failf("the crowd holds %d units, the ledger %d", units, live)
	}
}

// compareMoney does the same for what was paid and given back.
func (p *play) compareMoney(audit target.Audit) {
	for method, price := range map[string]int64{"alipay": priceFen, "points": pointsPrice} {
		before, after := p.before.By(method), audit.By(method)
		paid := p.result.Counts["paid_"+method] * price
		if received := after.Received - before.Received; received != paid {
			p.failf("the crowd paid %d by %s, the ledger received %d", paid, method, received)
		}
		if back := after.Refunded - before.Refunded; back != paid {
			p.failf("of %d paid by %s all should be back, the ledger says %d", paid, method, back)
		}
	}
}
