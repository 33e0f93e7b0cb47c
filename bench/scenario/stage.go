package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"flashsale/bench/target"
)

// What the items cost.
const (
	priceFen    = 100
	pointsPrice = 7
	// hastyTimeout is the shortest time to pay that the engine knows.
	hastyTimeout = time.Second
)

// stage is where scenes are played: a private stack with a server and a worker, or the caller's
// target.
type stage struct {
	server *target.Server // without an ops address where the caller names none
	stack  *target.Stack  // nil: the caller's
	worker *target.Worker
	tokens string // file; "" for those of [target.Token]
	users  int    // who can log in
}

// openTarget looks at what the caller has named.
func openTarget(t Target) (_ *stage, err error) {
	s := &stage{server: target.At(t.URL, t.Ops, t.Admin)}
	if s.tokens, err = filepath.Abs(t.Tokens); err != nil {
		return nil, err
	}
	file, err := os.Open(s.tokens)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if len(lines.Bytes()) > 0 {
			s.users++
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("tokens in %s: %w", s.tokens, err)
	}
	return s, nil
}

// openStage starts a private stack, on which orders can be paid.
func openStage(ctx context.Context, binary, dir string) (_ *stage, err error) {
	s := &stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.stack, err = target.StartStack(ctx, binary, dir, "--alipay"); err != nil {
		return nil, err
	}
	// Alipay's notices come to an address that server and worker must know before they start.
	addr, err := target.FreeAddr(ctx)
	if err != nil {
		return nil, err
	}
	env := append([]string{"ADDR=" + addr, "PUBLIC_URL=http://" + addr}, s.stack.Alipay...)
	if s.server, err = s.stack.Serve(ctx, env...); err != nil {
		return nil, err
	}
	s.worker, err = s.stack.Work(ctx, env...)
	return s, err
}

// login makes sure of so many users. Ours are also made known to the server, as shoppers are who
// have looked at the sale before it opens.
func (s *stage) login(ctx context.Context, users int) error {
	if users <= s.users {
		return nil
	}
	if s.stack == nil {
		return fmt.Errorf("%d users are needed, but %s has %d tokens", users, s.tokens, s.users)
	}
	first, more := s.users, users-s.users
	if err := s.stack.CreateSessions(ctx, first, more); err != nil {
		return err
	}
	s.users = users
	return s.server.Warm(ctx, first, more)
}

// sells tells whether items can be created here.
func (s *stage) sells() bool { return s.server.OpsURL != "" }

// offer puts a scene's items on sale: its own and, where time is to run out, a hasty one.
func (s *stage) offer(ctx context.Context, scene Scene) ([]string, error) {
	offers := []target.Offer{{
		Stock: scene.stock, PriceFen: priceFen, PointsPrice: pointsPrice, PayTimeout: target.Day,
	}}
	if scene.pays {
		hasty := offers[0]
		hasty.PayTimeout = hastyTimeout
		offers = append(offers, hasty)
	}
	items, err := s.server.Sell(ctx, offers...)
	if err != nil {
		return nil, fmt.Errorf("create an item: %w", err)
	}
	if scene.pays && s.stack != nil {
		for n := range scene.users { // each can pay once
			if err := s.server.GrantPoints(ctx, target.User(n), pointsPrice, items[0]+"-"+target.User(n)); err != nil {
				return nil, fmt.Errorf("grant points: %w", err)
			}
		}
	}
	return items, nil
}

// ways are those that a shopper of lifecycle.js can go here.
func (s *stage) ways(items []string) string {
	switch {
	case s.stack != nil:
		return "alipay,points,cancel,timeout"
	case len(items) > 1:
		return "cancel,timeout"
	}
	return "cancel"
}

// holding is what Redis holds of the items, together.
func (s *stage) holding(ctx context.Context, items []string) (sum target.Item, err error) {
	for _, item := range items {
		var one target.Item
		if s.stack != nil {
			one, err = s.stack.Item(ctx, item) // by ourselves: the server is the accused
		} else {
			one, err = s.server.Holding(ctx, item)
		}
		if err != nil {
			return target.Item{}, err
		}
		sum.Sequence += one.Sequence
		sum.Stock += one.Stock
		sum.Waiting = one.Waiting // of all items
	}
	return sum, nil
}

// close ends what was started here, senders before receivers.
func (s *stage) close() error {
	if s.stack == nil {
		return nil
	}
	var errs []error
	if s.server != nil {
		errs = append(errs, s.server.Stop())
	}
	if s.worker != nil {
		errs = append(errs, s.worker.Stop())
	}
	return errors.Join(append(errs, s.stack.Stop())...)
}
