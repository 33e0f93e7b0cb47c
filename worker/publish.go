package worker

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
)

// publish adds a message a result to a pipeline, on the channel of its order: order number, user,
// status and, if there is one, the reason, as [flashsale.Result] has them.
func publish(ctx context.Context, pipe redis.Pipeliner, results []flashsale.Result) {
	for i := range results {
		r := &results[i]
		text := make([]byte, 0, 64)
		text = append(strconv.AppendInt(text, int64(r.OrderNo), 10), ' ')
		text = append(append(text, r.User...), ' ')
		text = append(text, r.Status...)
		if r.Reason != "" {
			text = append(append(text, ' '), r.Reason...)
		}
		pipe.Publish(ctx, engine.ResultsChannel(r.OrderNo), text)
	}
}

// herald tells results where no pipeline is under way. It is used by one goroutine.
type herald struct {
	logger    *slog.Logger
	onResults func([]flashsale.Result)
	client    redis.UniversalClient
}

func newHerald(logger *slog.Logger, onResults func([]flashsale.Result), client redis.UniversalClient) *herald {
	return &herald{logger: logger, onResults: onResults, client: client}
}

func (h *herald) tell(ctx context.Context, results []flashsale.Result) {
	pipe := h.client.Pipeline()
	publish(ctx, pipe, results)
	if _, err := pipe.Exec(ctx); err != nil {
		h.logger.Warn("results not published", "orders", len(results), "error", err)
	}
	h.onResults(results)
}

// Bounds of a Herald.
const (
	tellConns   = 4
	tellTimeout = time.Second
)

// Herald publishes results for those who bring an order to a new state without a worker, such
// as the payment desk of a server. It is safe for concurrent use.
type Herald struct {
	logger *slog.Logger
	client redis.UniversalClient
}

// NewHerald returns a herald with connections of its own. Close it afterwards.
func NewHerald(redisURL string, logger *slog.Logger) (*Herald, error) {
	client, err := newClient(redisURL, tellConns)
	if err != nil {
		return nil, err
	}
	return &Herald{logger: logger, client: client}, nil
}

// Tell publishes results, for at most a second. Whoever waits for one that is lost reads the
// ledger a moment later, so a fault is logged and not returned.
func (h *Herald) Tell(ctx context.Context, results []flashsale.Result) {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	newHerald(h.logger, func([]flashsale.Result) {}, h.client).tell(ctx, results)
}

// Close closes the connections.
func (h *Herald) Close() error { return h.client.Close() }
