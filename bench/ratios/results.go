package ratios

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/sync/errgroup"

	"flashsale/bench/target"
)

const (
	// resultNodes stand behind a balancer that knows no stickiness: a shopper buys at one of them
	// and waits at another.
	resultNodes   = 10
	resultOrders  = 600
	resultWaiters = 60 // at once
)

// heardSeries counts the results that reached a node, whether anybody waits there or not.
const heardSeries = "flashsale_results_heard_total"

// resultsRound counts how many of ten nodes hear of an order's result while every shopper waits for
// his. It is a count and not a time: a busy machine does not change it.
func (r *run) resultsRound(ctx context.Context, n int) (err error) {
	nodes := make([]*target.Server, 0, resultNodes)
	defer func() {
		for _, node := range nodes {
			err = errors.Join(err, node.Stop())
		}
	}()
	for range resultNodes {
		node, err := r.persisting.Serve(ctx, r.Server...)
		if err != nil {
			return err
		}
		nodes = append(nodes, node)
	}
	first := r.spare()
	if err := r.persisting.CreateSessions(ctx, first, resultOrders); err != nil {
		return err
	}
	before, err := heard(ctx, nodes)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: resultWaiters}}
	defer client.CloseIdleConnections()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(resultWaiters)
	for i := range resultOrders {
		group.Go(func() error {
			s := shopper{client: client, token: target.Token(first + i)}
			order, err := s.buy(groupCtx, nodes[i%resultNodes], r.besideItems[n])
			if err != nil {
				return err
			}
			return s.confirmed(groupCtx, nodes[(i*7+3)%resultNodes], r.besideItems[n], order)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	after, err := heard(ctx, nodes)
	if err != nil {
		return err
	}
	share := (after - before) / resultOrders
	r.figures.heard = append(r.figures.heard, share)
	r.resultf(n, "a result is heard by %.2f of %d nodes", share, resultNodes)
	return nil
}

// heard is how many results have reached the nodes, all together.
func heard(ctx context.Context, nodes []*target.Server) (sum float64, err error) {
	for _, node := range nodes {
		metrics, err := node.Metrics(ctx)
		if err != nil {
			return 0, err
		}
		count, ok := metrics[heardSeries]
		if !ok {
			return 0, fmt.Errorf("%s has no series %s", node.OpsURL, heardSeries)
		}
		sum += count
	}
	return sum, nil
}
