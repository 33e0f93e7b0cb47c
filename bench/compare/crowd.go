package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/valyala/fasthttp"

	"flashsale/bench/baseline"
	"flashsale/bench/target"
)

const (
	crowdAtOnce   = 128 // requests that are on their way
	answerTimeout = 15 * time.Second
	stallMax      = 500 * time.Millisecond
)

// trial is a sale in which every user asks both of two nodes at once, and more users than
// units.
type trial struct {
	name  string
	stock int64
	// killAfter accepted answers the first node is killed. 0: never.
	killAfter int64
}

func (r *run) trials() []trial {
	crowd := int64(r.Crowd)
	return []trial{
		{name: "two nodes", stock: crowd / 15},
		// When the node dies there must be units left to take, and at the end losers.
		{name: "one of two killed", stock: crowd / 2, killAfter: crowd / 10},
	}
}

// try lets a crowd ask two nodes of a candidate and judges what was sold.
func (r *run) try(ctx context.Context, c *candidate, t trial) (err error) {
	s, err := c.open(ctx, 2, t.stock)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, n := range s.nodes {
		if err := target.Warm(ctx, n.url, 0, r.Crowd); err != nil {
			return err
		}
	}
	told, err := ask(ctx, r.ours.Redis, s, r.Crowd, t.killAfter)
	if err != nil {
		return err
	}
	if err := s.stopNodes(); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	lost := told.Lost
	if t.killAfter > 0 {
		told.Lost = 0 // a dead node answers nobody
	}
	v := check(t.stock, told, state)
	r.judge(c, t.name, v)
	note := t.name + ": " + v.String()
	if told.Overloaded > 0 && state.Left > 0 {
		note += fmt.Sprintf(", %d units unsold though everybody asked", state.Left)
	}
	c.notes = append(c.notes, note)
	r.sayf("%s, %s: %s (%d units, %d orders, %d left; told: %d accepted, %d sold out, %d duplicate, %d overloaded, %d lost)",
		c.name, t.name, v, t.stock, len(state.Orders), state.Left,
		len(told.Accepted), told.SoldOut, len(told.Duplicate), told.Overloaded, lost)
	return s.forget(ctx)
}

// crowd is so many users on their way.
type crowd struct {
	sale      *sale
	client    fasthttp.Client
	next      atomic.Int64 // try to make; two a user
	killAfter int64
	midSale   chan struct{} // closed when so many are accepted

	mu   sync.Mutex // guards told
	told told
}

// ask sends every user to both nodes, both requests of a user at once, and kills a node in
// mid-sale if asked to.
func ask(ctx context.Context, redis rueidis.Client, s *sale, users int, killAfter int64) (told, error) {
	c := &crowd{
		sale: s, killAfter: killAfter, midSale: make(chan struct{}),
		client: fasthttp.Client{
			MaxConnsPerHost: crowdAtOnce, MaxIdemponentCallAttempts: 1,
			ReadTimeout: answerTimeout, WriteTimeout: answerTimeout,
		},
	}
	defer c.client.CloseIdleConnections()
	done := make(chan struct{})
	killed := make(chan error, 1)
	go func() { killed <- c.crash(ctx, redis, done) }()
	var running sync.WaitGroup
	for range crowdAtOnce {
		running.Go(func() {
			for ctx.Err() == nil {
				n := int(c.next.Add(1)) - 1
				if n >= 2*users {
					return
				}
				user := n / 2
				c.try(user, s.nodes[(n+user)%2]) // every other user asks the other node first
			}
		})
	}
	running.Wait()
	close(done)
	return c.told, errors.Join(<-killed, ctx.Err())
}

// crash kills the first node in mid-sale, while Redis stalls for a moment as it does when it
// forks or fails over: so the node dies with every request half done, not between two of them.
func (c *crowd) crash(ctx context.Context, redis rueidis.Client, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-c.midSale:
	}
	stall := redis.B().ClientPause().Timeout(stallMax.Milliseconds()).Write().Build()
	if err := redis.Do(ctx, stall).Error(); err != nil {
		return fmt.Errorf("stall redis: %w", err)
	}
	timer := time.NewTimer(stallMax / 10)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	killed := c.sale.nodes[0].kill()
	return errors.Join(killed, redis.Do(ctx, redis.B().ClientUnpause().Build()).Error())
}

// try makes one request and notes what it was answered.
func (c *crowd) try(user int, n *node) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.SetRequestURI(n.url + c.sale.path())
	request.Header.Set("Authorization", "Bearer "+target.Token(user))
	err := c.client.Do(request, response)
	var answer struct {
		Code   string `json:"code"`
		Number int64  `json:"order_no,string"`
	}
	if err == nil {
		err = json.Unmarshal(response.Body(), &answer)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch name := target.User(user); {
	case err != nil:
		c.told.Lost++
	case response.StatusCode() == fasthttp.StatusAccepted:
		c.told.Accepted = append(c.told.Accepted, baseline.Order{Number: answer.Number, User: name})
		if int64(len(c.told.Accepted)) == c.killAfter {
			close(c.midSale)
		}
	case answer.Code == "sold_out":
		c.told.SoldOut++
	case answer.Code == "duplicate_order":
		c.told.Duplicate = append(c.told.Duplicate, name)
	case answer.Code == "overloaded":
		c.told.Overloaded++
	default:
		c.told.Lost++
	}
}
