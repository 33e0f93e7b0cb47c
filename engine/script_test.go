package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
	"flashsale/lua"
)

// The keys of the item that the script tests use.
const (
	theItem    = "fs:{0}:item:7"
	theBuyers  = "fs:{0}:buyers:7"
	theOrders  = "fs:{0}:orders"
	theWaiting = "fs:{0}:waiting"
)

// longID is the largest id: a double would lose its low bits.
const longID = "9223372036854775807"

// account is an open item with 5 units and a limit of 1, changed as told; "" removes a field.
func account(changes ...string) hash {
	now := time.Now().UnixMilli()
	h := hash{
		"stock": "5", "limit": "1", "opens_at_ms": decimal(now - 3_600_000), "closes_at_ms": decimal(now + 3_600_000),
		"epoch": "1", "gen": "2", "seq": "0", "restock": "0", "state": "open", "run": thisRun,
	}
	return h.with(changes...)
}

func (h hash) with(changes ...string) hash {
	changed := hash{}
	for name, value := range h {
		changed[name] = value
	}
	for n := 0; n < len(changes); n += 2 {
		if changed[changes[n]] = changes[n+1]; changes[n+1] == "" {
			delete(changed, changes[n])
		}
	}
	return changed
}

// order is an accepted order of the item 7 in its generation 2.
type order struct{ no, user, qty, seq, key string }

func entry(no, user, qty, seq, key string) order { return order{no, user, qty, seq, key} }

// together is the entry that a run leaves in the stream.
func together(orders ...order) hash {
	h := hash{"item": "7", "gen": "2", "seq": orders[0].seq, "at_ms": "now"}
	for _, o := range orders {
		h[o.user] = o.no + " " + o.qty + " " + o.key
	}
	return h
}

// ask spells requests "order user qty [key]" as arguments of reserve.lua.
func ask(item string, requests ...string) []string {
	args := []string{item, strconv.Itoa(len(requests))}
	for _, request := range requests {
		words := append(strings.Split(request, " "), "")
		args = append(args, words[1], words[0]+" "+words[2]+" "+words[3])
	}
	return args
}

// runOf is a run that asks for so many units of the item 7.
func runOf(requests int) *run {
	return &run{sections: []section{{queue: &itemQueue{item: 7}, requests: requests}}, requests: requests}
}

func reserve(client rueidis.Client, streamMax int, requests ...string) rueidis.RedisResult {
	return reserveScript.Exec(context.Background(), client, []string{theOrders, theWaiting, theItem, theBuyers},
		append([]string{strconv.Itoa(streamMax), "test:reserve"}, ask("7", requests...)...))
}

// decided is the readable form of a reply: outcomes, the orders named, stock, epoch.
func decided(t *testing.T, result rueidis.RedisResult, requests int) string {
	t.Helper()
	reply, err := decodeReserve(result, runOf(requests))
	if err != nil {
		t.Fatal(err)
	}
	if reply.status == statusOverloaded {
		return "overloaded"
	}
	return reply.decisions[0].String()
}

// String is the readable form of a decision.
func (i *itemDecision) String() string {
	if i.status == statusNotReady {
		return "not_ready"
	}
	var orders []string
	for _, order := range i.orderNos {
		orders = append(orders, order.String())
	}
	return fmt.Sprintf("%s [%s] %d@%d", i.outcomes, strings.Join(orders, " "), i.stock, i.sight.epoch)
}

// TestReserve_Table is the contract of reserve.lua, case by case, with the state of every key
// after it: what was accepted is written whole, what was refused changes nothing.
func TestReserve_Table(t *testing.T) {
	t.Parallel()
	past, future := decimal(time.Now().UnixMilli()-1_800_000), decimal(time.Now().UnixMilli()+1_800_000)
	held := func(item hash, buyers hash) state { return state{theItem: item, theBuyers: buyers} }
	open := account()
	three := account("limit", "3")
	for _, c := range []struct {
		name      string
		given     state
		streamMax int
		requests  []string
		want      string
		changes   state // nil: none
	}{
		{
			name: "accepted", given: state{theItem: open}, // Museum bug 1: the first buyer is no duplicate.
			requests: []string{"101 ann 1"}, want: "A [] 4@1",
			changes: state{
				theItem: open.with("stock", "4", "seq", "1"), theBuyers: hash{"ann": "101 1 "},
				theOrders: stream{together(entry("101", "ann", "1", "1", ""))},
			},
		},
		{
			name: "accepted with a key", given: state{theItem: open},
			requests: []string{"101 ann 1 k1"}, want: "A [] 4@1",
			changes: state{
				theItem: open.with("stock", "4", "seq", "1"), theBuyers: hash{"ann": "101 1 k1"},
				theOrders: stream{together(entry("101", "ann", "1", "1", "k1"))},
			},
		},
		{
			name: "replay", given: held(open, hash{"ann": "101 1 k1"}), // Museum bug 17.
			requests: []string{"102 ann 1 k1"}, want: "R [101] 5@1",
		},
		{
			name: "replay after the close", given: held(open.with("closes_at_ms", past), hash{"ann": "101 1 k1"}),
			requests: []string{"102 ann 1 k1", "103 bob 1 k1", "104 ann 1 k2"}, want: "RED [101 101] 5@1",
		},
		{
			name: "replay while paused", given: held(open.with("state", "paused"), hash{"ann": "101 1 k1"}),
			requests: []string{"102 ann 1 k1", "103 bob 1"}, want: "RP [101] 5@1",
		},
		{
			name: "replay when sold out", given: held(open.with("stock", "0"), hash{"ann": "101 1 k1"}),
			requests: []string{"102 ann 1 k1"}, want: "R [101] 0@1",
		},
		{
			name: "the same key of another user is no replay", given: held(open, hash{"ann": "101 1 k1"}),
			requests: []string{"102 bob 1 k1"}, want: "A [] 4@1",
			changes: state{
				theItem:   open.with("stock", "4", "seq", "1"),
				theBuyers: hash{"ann": "101 1 k1", "bob": "102 1 k1"}, theOrders: stream{together(entry("102", "bob", "1", "1", "k1"))},
			},
		},
		{
			name: "duplicate tells the order held", given: held(open, hash{"ann": "101 1 k1"}), // Museum bug 17.
			requests: []string{"102 ann 1", "103 ann 1 k2"}, want: "DD [101 101] 5@1",
		},
		{
			name: "duplicate when sold out", given: held(open.with("stock", "0"), hash{"ann": "101 1 "}),
			requests: []string{"102 ann 1", "103 bob 1"}, want: "DS [101] 0@1",
		},
		{
			name: "more than the limit at once", given: state{theItem: open},
			requests: []string{"101 ann 2"}, want: "L [0] 5@1",
		},
		{
			name: "limit 3, quantity 2", given: state{theItem: three}, // Museum bug 5: counted here, leaked nowhere.
			requests: []string{"101 ann 2", "102 ann 2", "103 ann 1", "104 ann 1"}, want: "ALAL [101 103] 2@1",
			changes: state{
				theItem: three.with("stock", "2", "seq", "2"), theBuyers: hash{"ann": "101 2 ,103 1 "},
				theOrders: stream{together(entry("101", "ann", "2", "1", ""), entry("103", "ann", "1", "2", ""))},
			},
		},
		{
			name: "several orders, replay of the first", given: held(three, hash{"ann": "101 1 k1,102 1 k2"}),
			requests: []string{"103 ann 1 k1", "104 ann 2 k3", "105 ann 1 k3"}, want: "RLA [101 102] 4@1",
			changes: state{
				theItem: three.with("stock", "4", "seq", "1"), theBuyers: hash{"ann": "101 1 k1,102 1 k2,105 1 k3"},
				theOrders: stream{together(entry("105", "ann", "1", "1", "k3"))},
			},
		},
		{
			name: "sold out", given: state{theItem: open.with("stock", "0")},
			requests: []string{"101 ann 1"}, want: "S [] 0@1",
		},
		{
			name: "never one too many", given: state{theItem: open.with("stock", "1")}, // Museum bug 3.
			requests: []string{"101 ann 1", "102 bob 1", "103 cat 1"}, want: "ASS [] 0@1",
			changes: state{
				theItem: open.with("stock", "0", "seq", "1"), theBuyers: hash{"ann": "101 1 "},
				theOrders: stream{together(entry("101", "ann", "1", "1", ""))},
			},
		},
		{
			name: "partial stock serves who asks for less", given: state{theItem: three.with("stock", "1")}, // Museum bug 18.
			requests: []string{"101 ann 2", "102 bob 1"}, want: "SA [] 0@1",
			changes: state{
				theItem: three.with("stock", "0", "seq", "1"), theBuyers: hash{"bob": "102 1 "},
				theOrders: stream{together(entry("102", "bob", "1", "1", ""))},
			},
		},
		{
			name: "negative stock sells nothing", given: state{theItem: open.with("stock", "-1")},
			requests: []string{"101 ann 1"}, want: "S [] -1@1",
		},
		{
			name: "not started", given: state{theItem: open.with("opens_at_ms", future)},
			requests: []string{"101 ann 1"}, want: "N [] 5@1",
		},
		{
			name: "ended", given: state{theItem: open.with("closes_at_ms", past)},
			requests: []string{"101 ann 1"}, want: "E [] 5@1",
		},
		{
			name: "paused", given: state{theItem: open.with("state", "paused")},
			requests: []string{"101 ann 1"}, want: "P [] 5@1",
		},
		{
			name: "paused and ended", given: state{theItem: open.with("state", "paused", "closes_at_ms", past)},
			requests: []string{"101 ann 1"}, want: "E [] 5@1",
		},
		{name: "missing hash", given: state{}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{
			name: "missing hash with buyers", given: state{theBuyers: hash{"ann": "101 1 k1"}},
			requests: []string{"101 ann 1 k1"}, want: "not_ready",
		},
		{name: "rebuilding", given: state{theItem: open.with("state", "rebuilding")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "no stock field", given: state{theItem: open.with("stock", "")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "no limit field", given: state{theItem: open.with("limit", "")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "no opening", given: state{theItem: open.with("opens_at_ms", "")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "no close", given: state{theItem: open.with("closes_at_ms", "")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "no epoch", given: state{theItem: open.with("epoch", "")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "no generation", given: state{theItem: open.with("gen", "")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "no sequence", given: state{theItem: open.with("seq", "")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "no state", given: state{theItem: open.with("state", "")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "stock is no number", given: state{theItem: open.with("stock", "many")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{
			name: "unreadable buyers entry sells nothing", given: held(open, hash{"ann": "?"}),
			requests: []string{"101 ann 1", "102 bob 1"}, want: "LA [0] 4@1",
			changes: state{
				theItem: open.with("stock", "4", "seq", "1"), theBuyers: hash{"ann": "?", "bob": "102 1 "},
				theOrders: stream{together(entry("102", "bob", "1", "1", ""))},
			},
		},
		{
			name: "an impossible number fails nobody else", given: held(open, hash{"ann": strings.Repeat("9", 30) + " 1 "}), // Museum bug 11.
			requests: []string{"101 ann 1", "102 bob 1"}, want: "DA [0] 4@1",
			changes: state{
				theItem:   open.with("stock", "4", "seq", "1"),
				theBuyers: hash{"ann": strings.Repeat("9", 30) + " 1 ", "bob": "102 1 "},
				theOrders: stream{together(entry("102", "bob", "1", "1", ""))},
			},
		},
		{
			name: "a full stream", given: state{theItem: open, theOrders: stream{{"a": "1"}, {"a": "2"}}}, streamMax: 2,
			requests: []string{"101 ann 1", "102 bob 1"}, want: "overloaded",
		},
		{
			name: "an almost full stream takes a whole batch", given: state{theItem: open, theOrders: stream{{"a": "1"}}}, streamMax: 2,
			requests: []string{"101 ann 1", "102 bob 1"}, want: "AA [] 3@1",
			changes: state{
				theItem: open.with("stock", "3", "seq", "2"), theBuyers: hash{"ann": "101 1 ", "bob": "102 1 "},
				theOrders: stream{{"a": "1"}, together(entry("101", "ann", "1", "1", ""), entry("102", "bob", "1", "2", ""))},
			},
		},
		{
			name: "one user twice in a batch", given: state{theItem: open},
			requests: []string{"101 ann 1", "102 bob 1", "103 ann 1"}, want: "AAD [101] 3@1",
			changes: state{
				theItem: open.with("stock", "3", "seq", "2"), theBuyers: hash{"ann": "101 1 ", "bob": "102 1 "},
				theOrders: stream{together(entry("101", "ann", "1", "1", ""), entry("102", "bob", "1", "2", ""))},
			},
		},
		{
			name: "one key twice in a batch", given: state{theItem: three},
			requests: []string{"101 ann 1 k1", "102 ann 1 k1"}, want: "AR [101] 4@1",
			changes: state{
				theItem: three.with("stock", "4", "seq", "1"), theBuyers: hash{"ann": "101 1 k1"},
				theOrders: stream{together(entry("101", "ann", "1", "1", "k1"))},
			},
		},
		{
			name: "19 digits are kept", given: state{theItem: open},
			requests: []string{longID + " ann 1", "9007199254740993 bob 1", "101 ann 1"}, want: "AAD [" + longID + "] 3@1",
			changes: state{
				theItem:   open.with("stock", "3", "seq", "2"),
				theBuyers: hash{"ann": longID + " 1 ", "bob": "9007199254740993 1 "},
				theOrders: stream{together(entry(longID, "ann", "1", "1", ""), entry("9007199254740993", "bob", "1", "2", ""))},
			},
		},
		{
			name: "large numbers are not rounded", given: state{theItem: open.with("stock", "900719925474099", "seq", "900719925474098")},
			requests: []string{"101 ann 1"}, want: "A [] 900719925474098@1",
			changes: state{
				theItem:   open.with("stock", "900719925474098", "seq", "900719925474099"),
				theBuyers: hash{"ann": "101 1 "}, theOrders: stream{together(entry("101", "ann", "1", "900719925474099", ""))},
			},
		},
		{
			name: "the holder is told before the window", given: held(open.with("opens_at_ms", future), hash{"ann": "101 1 "}),
			requests: []string{"102 ann 1", "103 bob 1"}, want: "DN [101] 5@1",
		},
		{
			name: "the holder is told while paused", given: held(three.with("state", "paused"), hash{"ann": "101 1 "}),
			requests: []string{"102 ann 1", "103 ann 1 k1", "104 bob 1"}, want: "DDP [101 101] 5@1",
		},
		{
			name: "one key, another quantity", given: held(three, hash{"ann": "101 2 k1"}),
			requests: []string{"102 ann 1 k1", "103 ann 2 k1"}, want: "KR [101 101] 5@1",
		},
		{
			name: "one key, another quantity, in one run", given: state{theItem: three},
			requests: []string{"101 ann 2 k1", "102 ann 1 k1"}, want: "AK [101] 3@1",
			changes: state{
				theItem: three.with("stock", "3", "seq", "1"), theBuyers: hash{"ann": "101 2 k1"},
				theOrders: stream{together(entry("101", "ann", "2", "1", "k1"))},
			},
		},
		{
			name: "a key of an order that is over names it", given: held(open, hash{"ann": "101 -1 k1"}),
			requests: []string{"102 ann 1 k1", "103 ann 1 k2"}, want: "RA [101] 4@1",
			changes: state{
				theItem: open.with("stock", "4", "seq", "1"), theBuyers: hash{"ann": "101 -1 k1,103 1 k2"},
				theOrders: stream{together(entry("103", "ann", "1", "1", "k2"))},
			},
		},
		{
			name: "who gave back too often buys no more", given: held(open, hash{"ann": "1 -1 ,2 -1 ,3 -1 ,4 -1 ,5 -1 ", "bob": "6 -1 ,7 -1 ,8 -1 ,9 -1 "}),
			requests: []string{"101 ann 1", "102 bob 1"}, want: "LA [0] 4@1",
			changes: state{
				theItem:   open.with("stock", "4", "seq", "1"),
				theBuyers: hash{"ann": "1 -1 ,2 -1 ,3 -1 ,4 -1 ,5 -1 ", "bob": "6 -1 ,7 -1 ,8 -1 ,9 -1 ,102 1 "},
				theOrders: stream{together(entry("102", "bob", "1", "1", ""))},
			},
		},
		{name: "another run of Redis", given: state{theItem: open.with("run", "f00")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "no run", given: state{theItem: open.with("run", "")}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "an account of another type", given: state{theItem: list{"x"}}, requests: []string{"101 ann 1"}, want: "not_ready"},
		{name: "buyers of another type", given: state{theItem: open, theBuyers: list{"x"}}, requests: []string{"101 ann 1"}, want: "not_ready"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, stacktest.Redis(t))
			c.given.write(t, client)
			if c.streamMax == 0 {
				c.streamMax = 1000
			}
			if got := decided(t, reserve(client, c.streamMax, c.requests...), len(c.requests)); got != c.want {
				t.Errorf("decided %q, want %q", got, c.want)
			}
			if before, _ := c.given[theOrders].(stream); c.changes != nil {
				c.changes[theWaiting] = text(strconv.Itoa(len(before) + strings.Count(c.want, "A")))
			}
			c.given.with(c.changes).mustBe(t, client)
		})
	}
}

// TestScripts_WrongType: a script that meets a key of another type fails before it writes.
func TestScripts_WrongType(t *testing.T) {
	t.Parallel()
	good := state{
		theItem: account("stock", "0"), theBuyers: hash{"ann": "101 1 "}, theOrders: stream{{"order": "101"}},
	}
	for _, c := range []struct {
		script *rueidis.Lua
		name   string
		keys   []string
		args   func(id string) []string
	}{
		{reserveScript, "reserve", []string{theOrders}, func(string) []string { return []string{"10", "c"} }},
		{releaseScript, "release", []string{theItem, theBuyers}, func(string) []string { return []string{"c", "7", "101", "ann"} }},
		{restockScript, "restock", []string{theItem}, func(string) []string { return []string{"c", "7", "1", "1"} }},
		{setStateScript, "set_state", []string{theItem}, func(string) []string { return []string{"paused"} }},
	} {
		for _, wrong := range c.keys {
			t.Run(c.name+" "+wrong, func(t *testing.T) {
				t.Parallel()
				client := dial(t, stacktest.Redis(t))
				given := good.with(state{wrong: list{"not", "ours"}})
				given.write(t, client)
				id := "1-1"
				if wrong != theOrders {
					id = firstID(t, client)
				}
				err := c.script.Exec(t.Context(), client, c.keys, c.args(id)).Error()
				if err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
					t.Errorf("error %v, want WRONGTYPE", err)
				}
				given.mustBe(t, client)
			})
		}
	}
}

// TestReserve_StreamExhausted: XADD is the one write of reserve.lua that can fail; nobody may
// lose units by it.
func TestReserve_StreamExhausted(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.Redis(t))
	given := state{theItem: account(), theOrders: stream{{"a": "1"}}}
	state{theItem: given[theItem]}.write(t, client)
	do(t, client, "XADD", theOrders, "18446744073709551615-18446744073709551615", "a", "1")
	if err := reserve(client, 10, "101 ann 1").Error(); err == nil {
		t.Error("accepted without an entry in the stream")
	}
	given.mustBe(t, client)
}

// TestReserve_StreamExhaustedMidway: where the last id is left for the entry of the first item of a
// run, that entry does not stay when the second's cannot be added.
func TestReserve_StreamExhaustedMidway(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.Redis(t))
	given := state{theItem: account(), "fs:{0}:item:8": account(), theOrders: stream{{"a": "1"}}}
	state{theItem: given[theItem], "fs:{0}:item:8": given["fs:{0}:item:8"]}.write(t, client)
	do(t, client, "XADD", theOrders, "18446744073709551615-18446744073709551614", "a", "1")
	keys := []string{theOrders, theWaiting, theItem, theBuyers, "fs:{0}:item:8", "fs:{0}:buyers:8"}
	args := append([]string{"10", "test:reserve"}, ask("7", "101 ann 1")...)
	if err := reserveScript.Exec(t.Context(), client, keys, append(args, ask("8", "102 bob 1")...)).Error(); err == nil {
		t.Error("accepted without an entry in the stream")
	}
	given.mustBe(t, client)
}

// TestReserve_BoundedRun: however much the users of a run hold, it stays short; only those wait whose
// entries are long. Whoever holds little, or nothing, is answered beside them.
func TestReserve_BoundedRun(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.NewRedis(t).URL())
	state{theItem: account("stock", "100000", "limit", "10000"), theBuyers: hash{"bob": "7 2 k"}}.write(t, client)
	requests := make([]string, 0, DefaultBatchMax)
	for n := range DefaultBatchMax - 2 {
		user, lines := fmt.Sprint("hoarder", n), make([]string, 49)
		for i := range lines {
			lines[i] = fmt.Sprintf("%d 1 %0128d", 1000+n*100+i, i)
		}
		do(t, client, "HSET", theBuyers, user, strings.Join(lines, ","))
		requests = append(requests, fmt.Sprintf("%d %s 9999 new", 1_000_000+n, user))
	}
	requests = append(requests, "2000000 bob 2 k", "2000001 ann 1")
	shortest := time.Hour // a busy machine may hold up any one run
	for range 10 {
		do(t, client, "CONFIG", "RESETSTAT")
		got, _, _ := strings.Cut(decided(t, reserve(client, 100, requests...), len(requests)), " ")
		if head := strings.TrimRight(got[:DefaultBatchMax-2], "O"); head == "" || strings.Trim(head, "L") != "" || len(head) > 20 {
			t.Fatalf("hoarders are told %q", got)
		}
		if tail := got[DefaultBatchMax-2:]; tail != "RA" && tail != "RL" {
			t.Fatalf("those who hold little are told %q", tail)
		}
		stats, err := do(t, client, "INFO", "commandstats").ToString()
		if err != nil {
			t.Fatal(err)
		}
		_, stats, _ = strings.Cut(stats, "cmdstat_evalsha:calls=1,usec=")
		text, _, _ := strings.Cut(stats, ",")
		took, err := time.ParseDuration(text + "us")
		if err != nil {
			t.Fatal(err)
		}
		shortest = min(shortest, took)
		do(t, client, "HDEL", theBuyers, "ann")
	}
	if shortest > 5*time.Millisecond {
		t.Errorf("a run took %s", shortest)
	}
}

// TestReserve_Thousand: the largest batch the script promises to take.
func TestReserve_Thousand(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.Redis(t))
	item := account("stock", "900")
	state{theItem: item}.write(t, client)
	var requests []string
	buyers, orders := hash{}, []order(nil)
	for n := range BatchLimit {
		no, user := strconv.Itoa(1000+n), "user"+strconv.Itoa(n)
		requests = append(requests, no+" "+user+" 1")
		if n < 900 {
			buyers[user] = no + " 1 "
			orders = append(orders, entry(no, user, "1", strconv.Itoa(n+1), ""))
		}
	}
	want := strings.Repeat("A", 900) + strings.Repeat("S", 100) + " [] 0@1"
	if got := decided(t, reserve(client, 10, requests...), BatchLimit); got != want {
		t.Errorf("decided %q", got)
	}
	state{
		theItem: item.with("stock", "0", "seq", "900"), theBuyers: buyers, theWaiting: text("900"),
		theOrders: stream{together(orders...)},
	}.mustBe(t, client)
}

// TestReserve_ScriptFlush: a restart or a failover forgets the scripts; nobody may notice.
func TestReserve_ScriptFlush(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.NewRedis(t).URL())
	state{theItem: account()}.write(t, client)
	for n := range 3 {
		do(t, client, "SCRIPT", "FLUSH")
		if got := decided(t, reserve(client, 10, fmt.Sprintf("%d user%d 1", 101+n, n)), 1); got != fmt.Sprintf("A [] %d@1", 4-n) {
			t.Errorf("after SCRIPT FLUSH: %s", got)
		}
	}
}

// TestScripts_OutOfMemory: at maxmemory a request is refused whole, while giving back still works.
func TestScripts_OutOfMemory(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.NewRedis(t).URL())
	item := account("stock", "4", "seq", "1")
	given := state{theItem: item, theBuyers: hash{"ann": "101 1 "}, theOrders: stream{together(entry("101", "ann", "1", "1", ""))}}
	given.write(t, client)
	do(t, client, "CONFIG", "SET", "maxmemory", "1")

	err := reserve(client, 10, "102 bob 1").Error()
	if err == nil || !refusedUpFront(err.Error()) {
		t.Errorf("reserve: %v, want a refusal up front", err)
	}
	loaded := preheatScript.Exec(t.Context(), client, []string{"fs:{0}:item:8", "fs:{0}:buyers:8"}, []string{"1", "1", "1", "2", "1", "open"})
	if err := loaded.Error(); err == nil || !refusedUpFront(err.Error()) {
		t.Errorf("preheat: %v, want a refusal up front", err)
	}
	given.mustBe(t, client)

	mustReply(t, releaseScript.Exec(t.Context(), client, []string{theItem, theBuyers}, []string{"c", "7", "101", "ann"}), lua.ReleaseReleased, 2, 5, 1, 0)
	mustReply(t, setStateScript.Exec(t.Context(), client, []string{theItem}, []string{"paused"}), lua.SetStateSet)
	state{
		theItem:   item.with("stock", "5", "epoch", "2", "state", "paused"),
		theBuyers: hash{"ann": "101 -1 "}, theOrders: given[theOrders],
	}.mustBe(t, client)
}

// mustReply compares a reply of integers.
func mustReply(t *testing.T, result rueidis.RedisResult, want ...int64) {
	t.Helper()
	got, err := result.AsIntSlice()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("reply %v %v, want %v", got, err, want)
	}
}

// firstID is the id of the stream's first entry.
func firstID(t *testing.T, client rueidis.Client) string {
	t.Helper()
	entries, err := do(t, client, "XRANGE", theOrders, "-", "+", "COUNT", "1").AsXRange()
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	return entries[0].ID
}

// TestRelease_Table: units come back once for each order, however often asked. (Museum bug 6,
// and 2: cancel runs at all.)
func TestRelease_Table(t *testing.T) {
	t.Parallel()
	item := account("stock", "0", "limit", "3")
	for _, c := range []struct {
		name    string
		given   state
		orders  []string
		want    []int64
		changes state
	}{
		{
			"one",
			state{theItem: item, theBuyers: hash{"ann": "101 1 k1", "bob": "102 1 "}},
			[]string{"101", "ann"},
			[]int64{lua.ReleaseReleased, 2, 1, 1, 0},
			state{theItem: item.with("stock", "1", "epoch", "2"), theBuyers: hash{"ann": "101 -1 k1", "bob": "102 1 "}},
		},
		{
			"the last one",
			state{theItem: item, theBuyers: hash{"ann": "101 2 "}},
			[]string{"101", "ann"},
			[]int64{lua.ReleaseReleased, 2, 2, 1, 0},
			state{theItem: item.with("stock", "2", "epoch", "2"), theBuyers: hash{"ann": "101 -2 "}},
		},
		{
			"other orders of the user stay",
			state{theItem: item, theBuyers: hash{"ann": "101 1 k1,102 1 ,103 1 k3"}},
			[]string{"102", "ann"},
			[]int64{lua.ReleaseReleased, 2, 1, 1, 0},
			state{theItem: item.with("stock", "1", "epoch", "2"), theBuyers: hash{"ann": "101 1 k1,102 -1 ,103 1 k3"}},
		},
		{
			"several of one user and another's",
			state{theItem: item, theBuyers: hash{"ann": "101 1 k1,102 2 ", "bob": "103 1 "}},
			[]string{"101", "ann", "102", "ann", "103", "bob"},
			[]int64{lua.ReleaseReleased, 2, 4, 3, 0},
			state{theItem: item.with("stock", "4", "epoch", "2"), theBuyers: hash{"ann": "101 -1 k1,102 -2 ", "bob": "103 -1 "}},
		},
		{
			"twice in one call",
			state{theItem: item, theBuyers: hash{"ann": "101 1 "}},
			[]string{"101", "ann", "101", "ann"},
			[]int64{lua.ReleaseReleased, 2, 1, 1, 0},
			state{theItem: item.with("stock", "1", "epoch", "2"), theBuyers: hash{"ann": "101 -1 "}},
		},
		{
			"19 digits",
			state{theItem: item, theBuyers: hash{"ann": longID + " 1 ,9223372036854775806 1 "}},
			[]string{longID, "ann"},
			[]int64{lua.ReleaseReleased, 2, 1, 1, 0},
			state{theItem: item.with("stock", "1", "epoch", "2"), theBuyers: hash{"ann": longID + " -1 ,9223372036854775806 1 "}},
		},
		{
			"released before",
			state{theItem: item, theBuyers: hash{"ann": "101 -1 ,102 1 "}},
			[]string{"101", "ann"},
			[]int64{lua.ReleaseReleased, 1, 0, 0, 0},
			nil,
		},
		{
			"a number within another is not it",
			state{theItem: item, theBuyers: hash{"ann": "1011 1 101"}},
			[]string{"101", "ann", "011", "ann"},
			[]int64{lua.ReleaseReleased, 1, 0, 0, 2},
			nil,
		},
		{
			"another user's order",
			state{theItem: item, theBuyers: hash{"ann": "101 1 "}},
			[]string{"101", "bob"},
			[]int64{lua.ReleaseReleased, 1, 0, 0, 1},
			nil,
		},
		{
			"an unreadable neighbour stays",
			state{theItem: item, theBuyers: hash{"ann": "101 1 ", "bob": "?", "cat": ""}},
			[]string{"101", "ann", "102", "bob", "103", "cat"},
			[]int64{lua.ReleaseReleased, 2, 1, 1, 2},
			state{theItem: item.with("stock", "1", "epoch", "2"), theBuyers: hash{"ann": "101 -1 ", "bob": "?", "cat": ""}},
		},
		{
			"paused",
			state{theItem: item.with("state", "paused"), theBuyers: hash{"ann": "101 1 "}},
			[]string{"101", "ann"},
			[]int64{lua.ReleaseReleased, 2, 1, 1, 0},
			state{theItem: item.with("state", "paused", "stock", "1", "epoch", "2"), theBuyers: hash{"ann": "101 -1 "}},
		},
		{"missing hash", state{theBuyers: hash{"ann": "101 1 "}}, []string{"101", "ann"}, []int64{lua.ReleaseNotReady, 0, 0, 0, 0}, nil},
		{"rebuilding", state{theItem: item.with("state", "rebuilding"), theBuyers: hash{"ann": "101 1 "}}, []string{"101", "ann"}, []int64{lua.ReleaseNotReady, 0, 0, 0, 0}, nil},
		{"another run of Redis", state{theItem: item.with("run", "f00"), theBuyers: hash{"ann": "101 1 "}}, []string{"101", "ann"}, []int64{lua.ReleaseNotReady, 0, 0, 0, 0}, nil},
		{"half-written hash", state{theItem: item.with("epoch", ""), theBuyers: hash{"ann": "101 1 "}}, []string{"101", "ann"}, []int64{lua.ReleaseNotReady, 0, 0, 0, 0}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, stacktest.Redis(t))
			c.given.write(t, client)
			args := append([]string{"test:release", "7"}, c.orders...)
			run := func() rueidis.RedisResult {
				return releaseScript.Exec(t.Context(), client, []string{theItem, theBuyers}, args)
			}
			mustReply(t, run(), c.want...)
			after := c.given.with(c.changes)
			after.mustBe(t, client)
			again := slices.Clone(c.want)
			again[3] = 0
			mustReply(t, run(), again...)
			after.mustBe(t, client)
		})
	}
}

// TestRelease_Publishes: one message a call that gave something back, none otherwise.
func TestRelease_Publishes(t *testing.T) {
	t.Parallel()
	url := stacktest.Redis(t)
	client, channel := dial(t, url), "test:"+url
	state{theItem: account(), theBuyers: hash{"ann": "101 1 ", "bob": "102 1 "}}.write(t, client)
	heard := listenTo(t, url, channel)
	release := func(orders ...string) {
		t.Helper()
		args := append([]string{channel, "7"}, orders...)
		if err := releaseScript.Exec(t.Context(), client, []string{theItem, theBuyers}, args).Error(); err != nil {
			t.Fatal(err)
		}
	}
	release("101", "ann", "102", "bob")
	release("101", "ann")
	if err := restockScript.Exec(t.Context(), client, []string{theItem}, []string{channel, "7", "1", "5"}).Error(); err != nil {
		t.Fatal(err)
	}
	if err := restockScript.Exec(t.Context(), client, []string{theItem}, []string{channel, "7", "1", "5"}).Error(); err != nil {
		t.Fatal(err)
	}
	do(t, client, "PUBLISH", channel, "end")
	var got []string
	for message := range heard {
		if got = append(got, message); message == "end" {
			break
		}
	}
	if want := []string{"7 2", "7 3", "end"}; !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// listenTo subscribes and returns what is said afterwards.
func listenTo(t *testing.T, url, channel string) <-chan string {
	t.Helper()
	client := dial(t, url)
	heard, ready := make(chan string, 100), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	hooked := rueidis.WithOnSubscriptionHook(ctx, func(s rueidis.PubSubSubscription) {
		if s.Kind == "subscribe" {
			close(ready)
		}
	})
	go func() {
		defer close(done)
		_ = client.Receive(hooked, client.B().Subscribe().Channel(channel).Build(), func(m rueidis.PubSubMessage) {
			heard <- m.Message
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-ready:
	case <-time.After(wait):
		t.Fatal("no subscription")
	}
	return heard
}

// TestPreheat_Table: a live item is never overwritten: a restart that re-creates the sale with
// full stock oversells. (Museum bug 10.)
func TestPreheat_Table(t *testing.T) {
	t.Parallel()
	args := []string{"100", "2", "1000", "2000", "3", "paused"}
	fresh := hash{
		"stock": "100", "limit": "2", "opens_at_ms": "1000", "closes_at_ms": "2000",
		"epoch": "3000000000", "gen": "3", "seq": "0", "restock": "0", "state": "paused", "run": thisRun,
	}
	for _, c := range []struct {
		name    string
		given   state
		want    int64
		changes state
	}{
		{"nothing there", state{}, lua.PreheatLoaded, state{theItem: fresh}},
		{"a live item", state{theItem: account("stock", "1"), theBuyers: hash{"ann": "101 1 "}}, lua.PreheatExists, nil},
		{"buyers without an account", state{theBuyers: hash{"ann": "101 1 "}}, lua.PreheatExists, nil},
		{"an account without buyers", state{theItem: account()}, lua.PreheatExists, nil},
		{"half an account", state{theItem: hash{"stock": "1"}}, lua.PreheatExists, nil},
		{"another type", state{theItem: list{"x"}}, lua.PreheatExists, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, stacktest.Redis(t))
			c.given.write(t, client)
			mustReply(t, preheatScript.Exec(t.Context(), client, []string{theItem, theBuyers}, args), c.want)
			c.given.with(c.changes).mustBe(t, client)
		})
	}
}

// TestRemove_Table: only what nobody has bought from goes.
func TestRemove_Table(t *testing.T) {
	t.Parallel()
	item := account("seq", "0")
	for _, c := range []struct {
		name    string
		given   state
		want    int64
		changes state
	}{
		{"nobody has bought", state{theItem: item}, lua.RemoveRemoved, state{theItem: nil}},
		{"not loaded", state{}, lua.RemoveAbsent, nil},
		{"somebody holds it", state{theItem: item, theBuyers: hash{"ann": "101 1 "}}, lua.RemoveBought, nil},
		{"somebody has held it", state{theItem: item.with("seq", "1")}, lua.RemoveBought, nil},
		{"buyers without an account", state{theBuyers: hash{"ann": "101 1 "}}, lua.RemoveBought, nil},
		{"half an account", state{theItem: hash{"stock": "1"}}, lua.RemoveRemoved, state{theItem: nil}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, stacktest.Redis(t))
			c.given.write(t, client)
			mustReply(t, removeScript.Exec(t.Context(), client, []string{theItem, theBuyers}, nil), c.want)
			c.given.with(c.changes).mustBe(t, client)
		})
	}
}

// TestRestock_Table: each restock number counts once.
func TestRestock_Table(t *testing.T) {
	t.Parallel()
	item := account("stock", "0", "restock", "5")
	for _, c := range []struct {
		name    string
		given   state
		args    []string
		want    []int64
		changes state
	}{
		{"new number", state{theItem: item}, []string{"6", "10"}, []int64{lua.RestockRestocked, 2, 10}, state{theItem: item.with("stock", "10", "epoch", "2", "restock", "6")}},
		{"a gap", state{theItem: item}, []string{"9", "10"}, []int64{lua.RestockRestocked, 2, 10}, state{theItem: item.with("stock", "10", "epoch", "2", "restock", "9")}},
		{"the last number again", state{theItem: item}, []string{"5", "10"}, []int64{lua.RestockRepeated, 1, 0}, nil},
		{"an older number", state{theItem: item}, []string{"4", "10"}, []int64{lua.RestockRepeated, 1, 0}, nil},
		{"missing hash", state{}, []string{"6", "10"}, []int64{lua.RestockNotReady, 0, 0}, nil},
		{"rebuilding", state{theItem: item.with("state", "rebuilding")}, []string{"6", "10"}, []int64{lua.RestockNotReady, 0, 0}, nil},
		{"another run of Redis", state{theItem: item.with("run", "f00")}, []string{"6", "10"}, []int64{lua.RestockNotReady, 0, 0}, nil},
		{"half-written hash", state{theItem: item.with("restock", "")}, []string{"6", "10"}, []int64{lua.RestockNotReady, 0, 0}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, stacktest.Redis(t))
			c.given.write(t, client)
			args := append([]string{"test:restock", "7"}, c.args...)
			mustReply(t, restockScript.Exec(t.Context(), client, []string{theItem}, args), c.want...)
			c.given.with(c.changes).mustBe(t, client)
		})
	}
}

// TestSetState_Table: only a loaded item is paused or resumed, never one being rebuilt.
func TestSetState_Table(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, from, to string
		want           int64
	}{
		{"pause", "open", "paused", lua.SetStateSet},
		{"pause again", "paused", "paused", lua.SetStateSet},
		{"resume", "paused", "open", lua.SetStateSet},
		{"rebuilding", "rebuilding", "open", lua.SetStateNotReady},
		{"missing", "", "open", lua.SetStateNotReady},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, stacktest.Redis(t))
			given := state{}
			if c.from != "" {
				given[theItem] = account("state", c.from)
			}
			given.write(t, client)
			mustReply(t, setStateScript.Exec(t.Context(), client, []string{theItem}, []string{c.to}), c.want)
			if c.want == lua.SetStateSet {
				given[theItem] = given[theItem].(hash).with("state", c.to)
			}
			given.mustBe(t, client)
		})
	}
}

// TestAside_Table: only a key of a wrong type is moved, and nothing is lost by it.
func TestAside_Table(t *testing.T) {
	t.Parallel()
	const target = "fs:{0}:aside:item:7:1"
	wrong := text("not ours")
	for _, c := range []struct {
		name         string
		given, after state
		want         int64
	}{
		{"wrong", state{theItem: wrong}, state{target: wrong}, lua.AsideMoved},
		{"right", state{theItem: account()}, state{theItem: account()}, lua.AsideRight},
		{"missing", state{}, state{}, lua.AsideRight},
		{"taken", state{theItem: wrong, target: wrong}, state{theItem: wrong, target: wrong}, lua.AsideRight},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, stacktest.Redis(t))
			c.given.write(t, client)
			mustReply(t, asideScript.Exec(t.Context(), client, []string{theItem, target}, []string{"hash"}), c.want)
			c.after.mustBe(t, client)
		})
	}
}

// TestReserve_NoTTL: a duplicate mark that expires lets a winner buy twice. (Museum bug 4.)
func TestReserve_NoTTL(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.Redis(t))
	state{theItem: account()}.write(t, client)
	reserve(client, 10, "101 ann 1")
	for _, key := range []string{theItem, theBuyers, theOrders, theWaiting} {
		if ttl, err := do(t, client, "PTTL", key).AsInt64(); err != nil || ttl != -1 {
			t.Errorf("%s expires in %d ms: %v", key, ttl, err)
		}
	}
}

// TestReserve_Shape: every outcome decodes, and an unexpected shape is an error that names the
// script, not an answer. (Museum bug 13.)
func TestReserve_Shape(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.Redis(t))
	item := func(rest string) string { return "return {1, '0', {{1, 0, 0, '0', '0', 1, 1, " + rest + "}}}" }
	for _, reply := range []string{
		"return {1, 0}", "return 'A'", "return {1, '0', {}}", "return {9, '0', {}}", item("'A', {'1'}"), item("'D', {}"),
		item("'AA', {}"), item("'?', {}"), item("'A'"), "return {1, 'x', {{1, 0, 0, '0', '0', 1, 1, 'A', {}}}}",
		"return {1, '0', {{9, 0, 0, '0', '0', 1, 1, 'A', {}}}}", "return {1, '0', {'A'}}",
	} {
		if _, err := decodeReserve(do(t, client, "EVAL", reply, "0"), runOf(1)); err == nil {
			t.Errorf("%s was taken for an answer", reply)
		}
	}
	if _, err := decodeReserve(do(t, client, "EVAL", item("'A', {}"), "0"), runOf(1)); err != nil {
		t.Error(err)
	}
	for letter, outcome := range letterOutcomes {
		if outcome != 0 && !slices.Contains(flashsale.Outcomes(), outcome) {
			t.Errorf("letter %c has outcome %d", letter, outcome)
		}
	}
}

// TestFence_Table: a fence always comes up, takes over another's, and leaves the account for
// the comparison; whoever had nothing gets zeros that sell nothing.
func TestFence_Table(t *testing.T) {
	t.Parallel()
	zeros := hash{
		"stock": "0", "limit": "0", "opens_at_ms": "0", "closes_at_ms": "0", "epoch": "0", "gen": "0",
		"seq": "0", "restock": "0", "state": "rebuilding", "fence": "t1", "run": thisRun,
	}
	live := account()
	for _, c := range []struct {
		name    string
		given   state
		changes state
	}{
		{"nothing there", state{}, state{theItem: zeros}},
		{"a live item", state{theItem: live}, state{theItem: live.with("state", "rebuilding", "fence", "t1")}},
		{"half an account", state{theItem: hash{"stock": "3"}}, state{theItem: zeros.with("stock", "3")}},
		{"another run of Redis", state{theItem: live.with("run", "f00")}, state{theItem: live.with("state", "rebuilding", "fence", "t1")}},
		{"a fence of another", state{theItem: live.with("state", "rebuilding", "fence", "t0")}, state{theItem: live.with("state", "rebuilding", "fence", "t1")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, stacktest.Redis(t))
			c.given.write(t, client)
			parts, err := fenceScript.Exec(t.Context(), client, []string{theItem, theOrders}, []string{"t1"}).ToArray()
			if err != nil || len(parts) != 2 {
				t.Fatalf("reply %v %v", parts, err)
			}
			if last, _ := parts[1].ToString(); last != "0-0" {
				t.Errorf("last id %q of an empty stream", last)
			}
			c.given.with(c.changes).mustBe(t, client)
		})
	}
}

// TestFence_StopsEverything: behind a fence nothing is sold, released or restocked, and what
// was in the stream before is told by its last id.
func TestFence_StopsEverything(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.Redis(t))
	state{theItem: account()}.write(t, client)
	if got := decided(t, reserve(client, 100, "101 ann 1"), 1); got != "A [] 4@1" {
		t.Fatal(got)
	}
	parts, err := fenceScript.Exec(t.Context(), client, []string{theItem, theOrders}, []string{"t1"}).ToArray()
	if err != nil {
		t.Fatal(err)
	}
	if last, _ := parts[1].ToString(); last != firstID(t, client) {
		t.Errorf("last id %q, want %q", last, firstID(t, client))
	}
	if got := decided(t, reserve(client, 100, "102 bob 1"), 1); got != "not_ready" {
		t.Errorf("reserve: %s", got)
	}
	mustReply(t, releaseScript.Exec(t.Context(), client, []string{theItem, theBuyers}, []string{"c", "7", "101", "ann"}), lua.ReleaseNotReady, 0, 0, 0, 0)
	mustReply(t, restockScript.Exec(t.Context(), client, []string{theItem}, []string{"c", "7", "1", "1"}), lua.RestockNotReady, 0, 0)
	mustReply(t, setStateScript.Exec(t.Context(), client, []string{theItem}, []string{"open"}), lua.SetStateNotReady)
}

// TestFenceLift_Table: only the owner of a fence lifts it.
func TestFenceLift_Table(t *testing.T) {
	t.Parallel()
	fenced := account("state", "rebuilding", "fence", "t1")
	for _, c := range []struct {
		name, token string
		given       hash
		want        int64
		after       hash
	}{
		{"the owner", "t1", fenced, lua.FenceLiftLifted, fenced.with("state", "paused", "fence", "")},
		{"another", "t2", fenced, lua.FenceLiftForeign, fenced},
		{"no fence", "t1", account(), lua.FenceLiftForeign, nil},
		{"Redis restarted since", "t1", fenced.with("run", "f00"), lua.FenceLiftForeign, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, stacktest.Redis(t))
			given := state{theItem: c.given}
			given.write(t, client)
			mustReply(t, fenceLiftScript.Exec(t.Context(), client, []string{theItem}, []string{c.token, "paused"}), c.want)
			after := given
			if c.after != nil {
				after = state{theItem: c.after}
			}
			after.mustBe(t, client)
		})
	}
}

// TestRebuildBuyers_Table: buyers are written behind the owner's fence only.
func TestRebuildBuyers_Table(t *testing.T) {
	t.Parallel()
	fenced := account("state", "rebuilding", "fence", "t1")
	old := hash{"old": "99 1 "}
	for _, c := range []struct {
		name  string
		item  hash
		args  []string
		want  int64
		after hash
	}{
		{"fresh", fenced, []string{"t1", "1", "ann", "101 1 ", "bob", "102 1 k"}, lua.RebuildBuyersWritten, hash{"ann": "101 1 ", "bob": "102 1 k"}},
		{"more", fenced, []string{"t1", "0", "ann", "101 1 "}, lua.RebuildBuyersWritten, hash{"old": "99 1 ", "ann": "101 1 "}},
		{"nobody", fenced, []string{"t1", "1"}, lua.RebuildBuyersWritten, nil},
		{"another's fence", fenced, []string{"t2", "1", "ann", "101 1 "}, lua.RebuildBuyersForeign, old},
		{"no fence", account(), []string{"t1", "1", "ann", "101 1 "}, lua.RebuildBuyersForeign, old},
		{"Redis restarted since", fenced.with("run", "f00"), []string{"t1", "1"}, lua.RebuildBuyersForeign, old},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, stacktest.Redis(t))
			state{theItem: c.item, theBuyers: old}.write(t, client)
			mustReply(t, rebuildBuyersScript.Exec(t.Context(), client, []string{theItem, theBuyers}, c.args), c.want)
			after := state{theItem: c.item}
			if c.after != nil {
				after[theBuyers] = c.after
			}
			after.mustBe(t, client)
		})
	}
}

// TestRebuildOpen_Table: the account is written whole, with an epoch above all before it.
func TestRebuildOpen_Table(t *testing.T) {
	t.Parallel()
	fenced := account("state", "rebuilding", "fence", "t1")
	args := []string{"t1", "test:rebuild", "7", "80", "2", "1000", "2000", "3", "44", "open"}
	opened := hash{
		"stock": "80", "limit": "2", "opens_at_ms": "1000", "closes_at_ms": "2000", "epoch": "3000000000",
		"gen": "3", "seq": "0", "restock": "44", "state": "open", "run": thisRun,
	}
	for _, c := range []struct {
		name  string
		item  hash
		args  []string
		want  int64
		after hash
	}{
		{"the owner", fenced, args, lua.RebuildOpenOpened, opened},
		{"a higher epoch is there", fenced.with("epoch", "3000000009"), args, lua.RebuildOpenOpened, opened.with("epoch", "3000000010")},
		{"another", fenced, append([]string{"t2"}, args[1:]...), lua.RebuildOpenForeign, fenced},
		{"no fence", opened, args, lua.RebuildOpenForeign, opened},
		{"Redis restarted since", fenced.with("run", "f00"), args, lua.RebuildOpenForeign, fenced.with("run", "f00")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, stacktest.Redis(t))
			state{theItem: c.item}.write(t, client)
			mustReply(t, rebuildOpenScript.Exec(t.Context(), client, []string{theItem}, c.args), c.want)
			state{theItem: c.after}.mustBe(t, client)
		})
	}
}

// TestReserve_SeveralItems: one run decides requests of several items, each by its own account and
// buyers; what is wrong with one is no matter of the others.
func TestReserve_SeveralItems(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.Redis(t))
	open := account()
	given := state{
		theItem: open, "fs:{0}:item:8": open.with("stock", "1"), "fs:{0}:item:9": list{"x"}, "fs:{0}:item:10": open.with("state", "paused"),
	}
	given.write(t, client)
	keys := []string{theOrders, theWaiting}
	args := []string{"100", "test:several"}
	requests := map[string][]string{"7": {"101 ann 1 k", "102 bob 1"}, "8": {"103 ann 1", "104 bob 1"}, "9": {"105 ann 1"}, "10": {"106 ann 1"}}
	r := &run{}
	for _, id := range []string{"7", "8", "9", "10"} {
		keys = append(keys, "fs:{0}:item:"+id, "fs:{0}:buyers:"+id)
		args = append(args, ask(id, requests[id]...)...)
		r.sections = append(r.sections, section{requests: len(requests[id])})
	}
	reply, err := decodeReserve(reserveScript.Exec(t.Context(), client, keys, args), r)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{"AA [] 3@1", "AS [] 0@1", "not_ready", "P [] 5@1"} {
		if got := reply.decisions[n].String(); got != want {
			t.Errorf("section %d: %s, want %s", n, got, want)
		}
	}
	eight := together(entry("103", "ann", "1", "1", ""))
	eight["item"] = "8"
	given.with(state{
		theItem: open.with("stock", "3", "seq", "2"), theBuyers: hash{"ann": "101 1 k", "bob": "102 1 "},
		"fs:{0}:item:8": open.with("stock", "0", "seq", "1"), "fs:{0}:buyers:8": hash{"ann": "103 1 "},
		theOrders:  stream{together(entry("101", "ann", "1", "1", "k"), entry("102", "bob", "1", "2", "")), eight},
		theWaiting: text("3"),
	}).mustBe(t, client)
}

// TestReserve_TellsWhoTookUnitsThatCameBack: other nodes keep their rosters by it. While there is
// much to sell, or nothing has come back, nothing is told.
func TestReserve_TellsWhoTookUnitsThatCameBack(t *testing.T) {
	t.Parallel()
	url := stacktest.Redis(t)
	client := dial(t, url)
	heard := listenTo(t, url, "test:reserve")
	for n, change := range [][]string{{"epoch", "2000000000"}, {"epoch", "2000000001", "stock", "5000"}, {"epoch", "2000000001", "seq", "7"}} {
		do(t, client, "DEL", theItem, theBuyers)
		state{theItem: account(change...)}.write(t, client)
		if err := reserve(client, 100, fmt.Sprintf("%d ann 1", 101+n), fmt.Sprintf("%d bob 1", 201+n)).Error(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case got := <-heard:
		if want := "7 2000000001 2 7 ann bob"; got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	case <-time.After(wait):
		t.Error("nothing was told")
	}
}

// TestRun_Table: the run and the clock are those of the Redis that holds the partition.
func TestRun_Table(t *testing.T) {
	t.Parallel()
	client := dial(t, stacktest.Redis(t))
	parts, err := runScript.Exec(t.Context(), client, []string{theOrders}, nil).ToArray()
	if err != nil || len(parts) != 3 {
		t.Fatal(parts, err)
	}
	if run, _ := parts[1].ToString(); run != runID(t, client) {
		t.Errorf("run %q", run)
	}
	if ms, err := parts[2].AsInt64(); err != nil || time.Since(time.UnixMilli(ms)).Abs() > time.Minute {
		t.Errorf("now %d, %v", ms, err)
	}
}
