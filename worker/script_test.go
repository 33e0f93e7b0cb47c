package worker

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"flashsale/engine"
	"flashsale/lua"
)

var (
	theOrders  = engine.OrdersKey(0)
	theWaiting = engine.WaitingKey(0)
	theDead    = engine.DeadKey(0)
)

// call runs a script and wants a reply of integers.
func (s *setup) call(script *redis.Script, keys []string, args []any, want ...int64) {
	s.t.Helper()
	got, err := script.Run(s.t.Context(), s.client, keys, args...).Int64Slice()
	if err != nil || !slices.Equal(got, want) {
		s.t.Errorf("reply %v, %v, want %v", got, err, want)
	}
}

// deliver writes entries of two orders each and reads the first of them for a consumer.
func (s *setup) deliver(entries, read int) (ids []any) {
	s.t.Helper()
	for n := range entries {
		id := fmt.Sprintf("%d-0", n+1)
		s.client.XAdd(s.t.Context(), &redis.XAddArgs{Stream: theOrders, ID: id, Values: entryFields(2*n+1, 2*n+2)})
		ids = append(ids, id)
	}
	s.client.Set(s.t.Context(), theWaiting, 2*entries, 0)
	s.client.XGroupCreate(s.t.Context(), theOrders, engine.Group, "0")
	if read > 0 {
		s.readAs("me", read)
	}
	return ids
}

func (s *setup) readAs(consumer string, count int) {
	s.t.Helper()
	err := s.client.XReadGroup(s.t.Context(), &redis.XReadGroupArgs{
		Group: engine.Group, Consumer: consumer, Streams: []string{theOrders, ">"}, Count: int64(count), Block: -1,
	}).Err()
	if err != nil {
		s.t.Fatal(err)
	}
}

// left wants the stream, its pending entries and its count of orders to be so.
func (s *setup) left(entries, pending, waiting int) {
	s.t.Helper()
	got := [3]int{
		int(s.client.XLen(s.t.Context(), theOrders).Val()),
		int(s.client.XPending(s.t.Context(), theOrders, engine.Group).Val().Count), s.waiting(),
	}
	if want := [3]int{entries, pending, waiting}; got != want {
		s.t.Errorf("entries, pending and waiting are %v, want %v", got, want)
	}
}

func ackArgs(run string, orders int, ids ...any) []any {
	return append([]any{engine.Group, run, orders}, ids...)
}

// What is settled leaves the stream, the pending entries list and the count in one step, more than
// two calls' worth of arguments too; what is not named stays.
func TestAck_Table(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	keys := []string{theOrders, theWaiting}
	ids := s.deliver(2500, 2400)
	s.call(ackScript, keys, ackArgs("0", 4800, ids[:2400]...), lua.AckAcked, 2400, 2400)
	s.left(100, 0, 200)
	s.call(ackScript, keys, ackArgs("0", 4800, ids[:2400]...), lua.AckAcked, 0, 0)
	s.left(100, 0, 200)
	s.readAs("me", 60)
	s.call(ackScript, keys, ackArgs("0", 20, ids[2390:2410]...), lua.AckAcked, 10, 10) // half was gone before
	s.left(90, 50, 190)
	s.call(ackScript, keys, ackArgs("1", 100, ids[2410:2460]...), lua.AckAcked, 50, 50)
	s.left(40, 0, 90)
	s.client.Set(t.Context(), theWaiting, 5, 0) // as after a loss: it is never below nothing
	s.readAs("me", 39)
	s.call(ackScript, keys, ackArgs("1", 78, ids[2460:2499]...), lua.AckAcked, 39, 39)
	s.left(1, 0, 0)
	s.client.Set(t.Context(), theWaiting, 77, 0) // an empty stream holds no orders
	s.readAs("me", 1)
	s.call(ackScript, keys, ackArgs("1", 2, ids[2499]), lua.AckAcked, 1, 1)
	s.left(0, 0, 0)
}

// A run at the head of the stream goes in one trim; a run that an older entry precedes goes one
// by one, and the older one stays.
func TestAck_Run(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	keys := []string{theOrders, theWaiting}
	ids := s.deliver(300, 1)
	s.readAs("other", 298)
	s.call(ackScript, keys, ackArgs("1", 396, ids[1:199]...), lua.AckAcked, 198, 198)
	s.left(102, 101, 204)
	s.call(ackScript, keys, ackArgs("1", 2, ids[0]), lua.AckAcked, 1, 1)
	s.left(101, 100, 202)
	s.call(ackScript, keys, ackArgs("1", 200, ids[199:299]...), lua.AckAcked, 100, 100)
	s.left(1, 0, 2) // never delivered: it stays
	s.call(ackScript, keys, ackArgs("1", 200, ids[199:299]...), lua.AckAcked, 0, 0)
	s.left(1, 0, 2)
}

// Orders that can never be persisted move with their reasons, each with its own sequence, and
// their entry goes, once.
func TestDeadLetter_Table(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		args    []any // after the id: orders, then place and reason in turn
		letters [][]string
		waiting int
	}{
		{"one of two", []any{2, 1, "why not"}, [][]string{
			{"entry", "1-0", "reason", "why not", "item", "1", "gen", "1", "seq", "2", "at_ms", "1790000000000", "user-2", "2 1 key-2"},
		}, 2},
		{"both", []any{2, 0, "a", 1, "b"}, [][]string{
			{"entry", "1-0", "reason", "a", "item", "1", "gen", "1", "seq", "1", "at_ms", "1790000000000", "user-1", "1 1 key-1"},
			{"entry", "1-0", "reason", "b", "item", "1", "gen", "1", "seq", "2", "at_ms", "1790000000000", "user-2", "2 1 key-2"},
		}, 2},
		{"the whole entry", []any{0, "", "unreadable"}, [][]string{
			append([]string{"entry", "1-0", "reason", "unreadable"}, entryFields(1, 2)...),
		}, 4},
		{"a place that it does not have", []any{2, 2, "bug"}, [][]string{
			append([]string{"entry", "1-0", "reason", "bug"}, entryFields(1, 2)...),
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.deliver(2, 2)
			keys, args := []string{theOrders, theWaiting, theDead}, append([]any{engine.Group, "1-0"}, c.args...)
			for _, want := range []int64{lua.DeadLetterMoved, lua.DeadLetterGone} {
				s.call(deadLetterScript, keys, args, want)
				s.left(1, 1, c.waiting)
				s.wantDead(c.letters...)
			}
		})
	}
}

// wantDead compares the dead stream field by field.
func (s *setup) wantDead(want ...[]string) {
	s.t.Helper()
	r, err := do(s.t.Context(), s.client, "xrange", theDead, "-", "+")
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := r.array()
	if err != nil || n != len(want) {
		s.t.Fatalf("%d dead letters, %v, want %d", n, err, len(want))
	}
	for _, fields := range want {
		_, _ = r.array()
		_, _ = r.text()
		got := make([]string, 0, len(fields))
		n, err := r.array()
		for range n {
			var text string
			text, err = r.text()
			got = append(got, text)
		}
		if err != nil || !slices.Equal(got, fields) {
			s.t.Errorf("dead letter %q, %v, want %q", got, err, fields)
		}
	}
}

// A dead letter goes back with the fields that it had and is counted, once; what is no dead letter
// of ours stays where it is.
func TestDeadRetry_Table(t *testing.T) {
	t.Parallel()
	letter := append([]string{"entry", "4-1", "reason", "why not"}, entryFields(9, 9)...)
	whole := append([]string{"entry", "4-1", "reason", "why not"}, entryFields(9, 11)...)
	for _, c := range []struct {
		name    string
		fields  []string
		id      string
		want    int64
		waiting int
	}{
		{"an order", letter, "5-1", lua.DeadRetryRetried, 3},
		{"a whole entry", whole, "5-1", lua.DeadRetryRetried, 5},
		{"no entry of ours", []string{"entry", "4-1", "reason", "unreadable", "a", "b"}, "5-1", lua.DeadRetryRetried, 2},
		{"another id", letter, "5-2", lua.DeadRetryGone, 2},
		{"not ours", []string{"item", "101"}, "5-1", lua.DeadRetryForeign, 2},
		{"names changed", []string{"reason", "why", "entry", "4-1", "item", "101"}, "5-1", lua.DeadRetryForeign, 2},
		{"nothing in it", letter[:4], "5-1", lua.DeadRetryForeign, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.deliver(1, 0)
			s.client.XAdd(t.Context(), &redis.XAddArgs{Stream: theDead, ID: "5-1", Values: c.fields})
			keys := []string{theDead, theOrders, theWaiting}
			s.call(deadRetryScript, keys, []any{c.id}, c.want)
			if c.want != lua.DeadRetryRetried {
				s.left(1, 0, c.waiting)
				s.wantDead(c.fields)
				return
			}
			s.call(deadRetryScript, keys, []any{c.id}, lua.DeadRetryGone)
			s.left(2, 0, c.waiting)
			s.wantDead()
			var b batch
			r, err := do(t.Context(), s.client, "xrevrange", theOrders, "+", "-", "count", 1)
			if err == nil {
				err = b.readEntries(&r, 0)
			}
			if err != nil || (c.waiting > 2) != (len(b.orders) > 0) {
				t.Errorf("came back as %+v, %v", b.list, err)
			}
		})
	}
}

// Draining works at maxmemory, and a key of another type fails a script before it has written
// anything.
func TestSettle_Refusals(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	ids := s.deliver(3, 3)
	s.client.Set(t.Context(), theDead, "x", 0)
	dead := []any{engine.Group, ids[1], 2, 0, "why"}
	for _, key := range []string{theOrders, theWaiting, theDead} {
		s.client.Rename(t.Context(), key, "{0}kept")
		s.client.SAdd(t.Context(), key, "x")
		if key != theDead {
			if err := ackScript.Run(t.Context(), s.client, []string{theOrders, theWaiting}, ackArgs("0", 2, ids[0])...).Err(); !hasCode(err, "WRONGTYPE") {
				t.Errorf("ack with %s of another type: %v", key, err)
			}
		}
		if err := deadLetterScript.Run(t.Context(), s.client, []string{theOrders, theWaiting, theDead}, dead...).Err(); !hasCode(err, "WRONGTYPE") {
			t.Errorf("dead letter with %s of another type: %v", key, err)
		}
		s.client.Rename(t.Context(), "{0}kept", key)
	}
	s.left(3, 3, 6)
	if err := s.client.XRange(t.Context(), theDead, "-", "+").Err(); errors.Is(err, redis.Nil) || err == nil {
		t.Errorf("the dead stream is a stream: %v", err)
	}
}
