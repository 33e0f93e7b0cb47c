package worker

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
)

// publisher groups results by the channel that their orders belong to, so that a batch of a
// thousand costs at most [engine.ResultShards] commands. It is used by one goroutine.
type publisher struct {
	payloads map[string][]byte // by channel, kept to use their memory again
	channels []string          // of this batch
}

func newPublisher() *publisher { return &publisher{payloads: make(map[string][]byte)} }

// queue adds the commands to a pipeline: on each channel one JSON array of results.
func (p *publisher) queue(ctx context.Context, pipe redis.Pipeliner, results []flashsale.Result) {
	p.channels = p.channels[:0]
	for i := range results {
		channel := engine.ResultsChannel(results[i].OrderNo)
		payload := p.payloads[channel]
		if len(payload) == 0 {
			p.channels = append(p.channels, channel)
			payload = append(payload, '[')
		} else {
			payload = append(payload, ',')
		}
		p.payloads[channel] = appendResult(payload, results[i])
	}
	for _, channel := range p.channels {
		p.payloads[channel] = append(p.payloads[channel], ']')
		pipe.Publish(ctx, channel, p.payloads[channel])
		p.payloads[channel] = p.payloads[channel][:0] // written again only after the pipeline has been sent
	}
}

// herald tells results where no pipeline is under way. It is used by one goroutine.
type herald struct {
	logger    *slog.Logger
	onResults func([]flashsale.Result)
	client    redis.UniversalClient
	publisher *publisher
}

func newHerald(logger *slog.Logger, onResults func([]flashsale.Result), client redis.UniversalClient) *herald {
	return &herald{logger: logger, onResults: onResults, client: client, publisher: newPublisher()}
}

func (h *herald) tell(ctx context.Context, results []flashsale.Result) {
	pipe := h.client.Pipeline()
	h.publisher.queue(ctx, pipe, results)
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

// appendResult is json.Marshal of a result, at a tenth of the cost: ids are digits, and valid
// users and our own statuses need no escaping.
func appendResult(dst []byte, r flashsale.Result) []byte {
	dst = append(dst, `{"order_no":"`...)
	dst = strconv.AppendInt(dst, int64(r.OrderNo), 10)
	dst = append(dst, `","user":`...)
	if flashsale.ValidUser(r.User) {
		dst = append(dst, '"')
		dst = append(dst, r.User...)
		dst = append(dst, '"')
	} else {
		dst = appendQuoted(dst, r.User)
	}
	dst = append(dst, `,"status":"`...)
	dst = append(dst, r.Status...)
	dst = append(dst, '"')
	if r.Reason != "" {
		dst = append(dst, `,"reason":`...)
		dst = appendQuoted(dst, r.Reason)
	}
	return append(dst, '}')
}

func appendQuoted(dst []byte, text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil { // a string can always be marshalled
		return append(dst, `""`...)
	}
	return append(dst, quoted...)
}
