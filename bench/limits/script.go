package limits

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"flashsale/bench/proc"
	"flashsale/bench/stats"
	"flashsale/bench/target"
)

// connections is how many calls are on their way at once: while Redis runs one, the next waits.
const connections = 4

// replyTimeout bounds one measurement, so that a Redis that has stopped ends the run.
const replyTimeout = time.Minute

// form is a way to write a call that decides requests, and where its reply tells the outcomes.
type form struct {
	name     string
	script   string // as Redis names it
	head     func(item string, size int) []string
	each     func(order, user string) []string // a request
	outcomes int                               // place in the reply, arrays within it taken apart
}

// Names of the forms.
const (
	entryARun    = "bare reserve.lua"
	entryAnOrder = "an entry an order"
)

const streamMax = 1 << 40 // never reached

// forms are the engine's own script, read from its sources, and the one that it had while each order
// was a stream entry of its own. How they are called stands at their tops.
func forms(reserve, before string) []form {
	const item, buyers, orders = "fs:{0}:item:", "fs:{0}:buyers:", "fs:{0}:orders"
	return []form{
		{
			name: entryARun, script: reserve, outcomes: 9,
			head: func(id string, size int) []string {
				return []string{
					"4", orders, "fs:{0}:waiting", item + id, buyers + id,
					strconv.Itoa(streamMax), "fs:cleared", id, strconv.Itoa(size),
				}
			},
			each: func(order, user string) []string { return []string{user, order + " 1 "} },
		},
		{
			name: entryAnOrder, script: before, outcomes: 6,
			head: func(id string, _ int) []string {
				return []string{"3", item + id, buyers + id, orders, id, strconv.Itoa(streamMax)}
			},
			each: func(order, user string) []string { return []string{order, user, "1", ""} },
		},
	}
}

// decide measures the scripts alone, in calls of each size.
func (r *run) decide(ctx context.Context, n int) error {
	for i, size := range perCall {
		for f := range r.forms {
			item := r.items[(n*len(perCall)+i)*len(r.forms)+f]
			if err := r.decideAs(ctx, n, i, f, item); err != nil {
				return fmt.Errorf("%s, %d requests a call: %w", r.forms[f].name, size, err)
			}
		}
	}
	return nil
}

func (r *run) decideAs(ctx context.Context, n, i, f int, item string) error {
	form, size := r.forms[f], perCall[i]
	calls := r.calls(form, item, size)
	pid, err := r.stack.RedisPID(ctx)
	if err != nil {
		return err
	}
	before, err := proc.CPU(pid)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := r.send(ctx, calls, form, size); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := proc.CPU(pid)
	if err != nil {
		return err
	}
	decided := len(calls) * size
	if err := r.sold(ctx, item, int64(decided)); err != nil {
		return err
	}
	rate, cost := float64(decided)/took.Seconds(), float64((after-before).Microseconds())/float64(decided)
	r.decided[i][f], r.cost[i][f] = append(r.decided[i][f], rate), append(r.cost[i][f], cost)
	r.resultf(n, "%s, %d a call: %s decisions/s, %.2f µs of Redis each", form.name, size, stats.Human(rate), cost)
	return nil
}

// sold proves that Redis has sold as many units as were asked for, each to another user.
func (r *run) sold(ctx context.Context, item string, units int64) error {
	held, err := r.stack.Item(ctx, item)
	if err != nil {
		return err
	}
	if want := (target.Item{Sequence: units, Stock: stock - units, Buyers: units, Waiting: units}); held != want {
		return fmt.Errorf("the script was asked for %d units, but Redis holds %+v", units, held)
	}
	if err := r.stack.Forget(ctx, item); err != nil {
		return err
	}
	return r.stack.Tidy(ctx)
}

// calls writes out every call before the clock starts.
func (r *run) calls(form form, item string, size int) [][]byte {
	words := append([]string{"EVALSHA", form.script}, form.head(item, size)...)
	head := append(array(len(words)+size*len(form.each("", ""))), bulk(words...)...)
	calls := make([][]byte, r.size(decisions)/size)
	user := 0
	for n := range calls {
		call := append(make([]byte, 0, len(head)+72*size), head...)
		for range size {
			user++
			const firstOrder = 1_800_000_000_000_000_000 // as long as those of the engine
			call = append(call, bulk(form.each(strconv.Itoa(firstOrder+user), "user"+strconv.Itoa(user))...)...)
		}
		calls[n] = call
	}
	return calls
}

func array(length int) []byte { return fmt.Appendf(nil, "*%d\r\n", length) }

func bulk(words ...string) []byte {
	var text []byte
	for _, word := range words {
		text = fmt.Appendf(text, "$%d\r\n%s\r\n", len(word), word)
	}
	return text
}

// send shares the calls among the connections and returns when all are answered.
func (r *run) send(ctx context.Context, calls [][]byte, form form, size int) error {
	where, err := url.Parse(r.stack.RedisURL)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for first := range connections {
		group.Go(func() error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", where.Host)
			if err != nil {
				return err
			}
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			if err := conn.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
				return err
			}
			replies := bufio.NewReader(conn)
			for n := first; n < len(calls); n += connections {
				if _, err := conn.Write(calls[n]); err != nil {
					return err
				}
				if err := accepted(replies, form.outcomes, size); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// accepted reads the reply to a call, all of whose requests must have been accepted.
func accepted(replies *bufio.Reader, outcomes, size int) error {
	reply, err := read(replies)
	if err != nil {
		return err
	}
	if len(reply) <= outcomes || len(reply[outcomes]) != size || strings.Trim(reply[outcomes], "A") != "" {
		return fmt.Errorf("not everything was accepted: %q", reply)
	}
	return nil
}

// read reads a reply of Redis, an array within an array as part of it.
func read(from *bufio.Reader) ([]string, error) {
	line, err := from.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("redis: empty reply")
	}
	switch kind, rest := line[0], line[1:]; kind {
	case '+', ':':
		return []string{rest}, nil
	case '-':
		return nil, fmt.Errorf("redis: %s", rest)
	case '$', '*':
		length, err := strconv.Atoi(rest)
		if err != nil || length < 0 || length > 1<<20 {
			return nil, fmt.Errorf("redis: unexpected reply %q", line)
		}
		if kind == '*' {
			return readArray(from, length)
		}
		text := make([]byte, length+len("\r\n"))
		_, err = io.ReadFull(from, text)
		return []string{string(text[:length])}, err
	}
	return nil, fmt.Errorf("redis: unexpected reply %q", line)
}

func readArray(from *bufio.Reader, length int) ([]string, error) {
	var all []string
	for range length {
		part, err := read(from)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}
