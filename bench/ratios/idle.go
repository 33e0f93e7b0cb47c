package ratios

import (
	"context"
	"net/http"
	"slices"
	"time"

	"flashsale/bench/stats"
	"flashsale/bench/target"
)

// idlePurchases are made one after the other in a round, while nobody else buys.
const idlePurchases = 100

// idleRound measures how long an accepted purchase stays pending on an idle machine, as the shopper
// sees it who waits for it: from the answer that accepts it to the answer that confirms it.
func (r *run) idleRound(ctx context.Context, n int) error {
	first := r.spare()
	if err := r.persisting.CreateSessions(ctx, first, idlePurchases); err != nil {
		return err
	}
	if err := r.beside.Warm(ctx, first, idlePurchases); err != nil {
		return err
	}
	if err := r.calm(ctx); err != nil {
		return err
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	item := r.besideItems[n]
	took := make([]float64, 0, idlePurchases)
	for i := range idlePurchases {
		s := shopper{client: client, token: target.Token(first + i)}
		order, err := s.buy(ctx, r.beside, item)
		if err != nil {
			return err
		}
		accepted := time.Now()
		if err := s.confirmed(ctx, r.beside, item, order); err != nil {
			return err
		}
		took = append(took, time.Since(accepted).Seconds()*1000)
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	r.figures.confirmed, r.figures.confirmedSlow = append(r.figures.confirmed, p50), append(r.figures.confirmedSlow, p99)
	r.resultf(n, "accepted to unpaid, idle: p50 %s ms, p99 %s ms", stats.Human(p50), stats.Human(p99))
	return nil
}

// spare returns the first of a thousand users of whom nobody else makes use.
func (r *run) spare() int {
	r.spares++
	return (userSets+r.Rounds+1)*r.Users + 2*soldOutStock + 1000*r.spares
}
