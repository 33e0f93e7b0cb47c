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

// decide measures the script alone, in calls of each size.
func (r *run) decide(ctx context.Context, n int) error {
	for i, size := range perCall {
		item := r.items[n*len(perCall)+i]
		calls := r.calls(item, size)
		pid, err := r.stack.RedisPID(ctx)
		if err != nil {
			return err
		}
		before, err := proc.CPU(pid)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := r.send(ctx, calls, size); err != nil {
			return fmt.Errorf("reserve.lua, %d requests a call: %w", size, err)
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
		rate := float64(decided) / took.Seconds()
		r.decided[i] = append(r.decided[i], rate)
		r.cost[i] = append(r.cost[i], float64((after-before).Microseconds())/float64(decided))
		r.resultf(n, "bare reserve.lua, %d a call: %s decisions/s", size, stats.Human(rate))
	}
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

// calls writes out every call before the clock starts. They are as the engine sends them: see
// the contract at the top of reserve.lua.
func (r *run) calls(item string, size int) [][]byte {
	head := append(array(3+3+2+4*size), bulk("EVALSHA", r.script, "3",
		"fs:{0}:item:"+item, "fs:{0}:buyers:"+item, "fs:{0}:orders", item, strconv.Itoa(1<<40))...)
	calls := make([][]byte, r.size(decisions)/size)
	user := 0
	for n := range calls {
		call := append(make([]byte, 0, len(head)+72*size), head...)
		for range size {
			user++
			const firstOrder = 1_800_000_000_000_000_000 // as long as those of the engine
			call = append(call, bulk(strconv.Itoa(firstOrder+user), "user"+strconv.Itoa(user), "1", "")...)
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
func (r *run) send(ctx context.Context, calls [][]byte, size int) error {
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
				if err := accepted(replies, size); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// accepted reads the reply to a call, all of whose requests must have been accepted.
func accepted(replies *bufio.Reader, size int) error {
	reply, err := read(replies)
	if err != nil {
		return err
	}
	const outcomes = 6
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
