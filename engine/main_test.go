package engine

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

func TestMain(m *testing.M) {
	// rueidis sleeps out a pause of a second before it looks for a cluster again, also when
	// it was closed meanwhile.
	goleak.VerifyTestMain(stacktest.Suite(m), goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

// wait is how long a test polls for what gives no signal, on a busy machine.
const wait = 20 * time.Second

// start runs an engine on the URL until the test ends.
func start(t testing.TB, config Config) *Engine {
	t.Helper()
	if config.Registry == nil {
		config.Registry = registryOf(config.RedisURL)
	}
	e, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// registries are those of the engines of this process, one a Redis.
var registries sync.Map

func registryOf(url string) Registry {
	registry, _ := registries.LoadOrStore(url, NewMemoryRegistry())
	return registry.(Registry)
}

// dial opens a client of the test's own, beside the engine's.
func dial(t testing.TB, url string) rueidis.Client {
	t.Helper()
	option, err := rueidis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache, option.PipelineMultiplex = true, 0
	client, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// do sends a command that must not fail.
func do(t testing.TB, client rueidis.Client, words ...string) rueidis.RedisResult {
	t.Helper()
	result := client.Do(context.Background(), client.B().Arbitrary(words...).Build())
	if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) {
		t.Fatalf("%s: %v", words[0], err)
	}
	return result
}

// calls is how often the server has run a command.
func calls(t testing.TB, client rueidis.Client, command string) int {
	t.Helper()
	text, err := do(t, client, "INFO", "commandstats").ToString()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(text, "cmdstat_"+command+":calls=")
	if !ok {
		return 0
	}
	number, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var lastItem atomic.Int64

// newItem describes an item that is open, with an id that no other test of the process uses:
// the channel of cleared flags is one for the whole server.
func newItem(stock int64, limit int) flashsale.Item {
	return flashsale.Item{
		ID: flashsale.ItemID(1_000_000 + lastItem.Add(1)), Stock: stock, Limit: limit, Generation: 1,
		OpensAt: time.Now().Add(-time.Hour), ClosesAt: time.Now().Add(time.Hour),
	}
}

// load preheats an open item.
func load(t testing.TB, e *Engine, stock int64, limit int) flashsale.ItemID {
	t.Helper()
	item := newItem(stock, limit)
	if err := e.Preheat(t.Context(), item); err != nil {
		t.Fatal(err)
	}
	return item.ID
}

// buy asks for one unit and fails the test on a fault.
func buy(t testing.TB, e *Engine, item flashsale.ItemID, user string) Reply {
	t.Helper()
	reply, err := e.Reserve(context.Background(), Request{Item: item, User: user, Quantity: 1})
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	return reply
}

// becomes polls until the user's request has the outcome.
func becomes(t testing.TB, e *Engine, item flashsale.ItemID, user string, want flashsale.Outcome) Reply {
	t.Helper()
	var reply Reply
	stacktest.Eventually(t, wait, func() error {
		var err error
		reply, err = e.Reserve(context.Background(), Request{Item: item, User: user, Quantity: 1})
		if err == nil && reply.Outcome != want {
			err = fmt.Errorf("%s, want %s", reply.Outcome, want)
		}
		return err
	})
	return reply
}

// thisRun stands for the run id of the Redis under test.
const thisRun = "this run"

// runID is the run id of a Redis.
func runID(t testing.TB, client rueidis.Client) string {
	t.Helper()
	info, err := readInfo(context.Background(), client)
	if err != nil {
		t.Fatal(err)
	}
	return info["run_id"]
}

// state is all that a logical database holds: key to hash, stream, text or list.
type state map[string]any

type (
	hash   map[string]string
	stream []hash // the fields of each entry; ids are Redis' own
	text   string
	list   []string
)

// write puts the state into an empty database.
func (s state) write(t testing.TB, client rueidis.Client) {
	t.Helper()
	for key, value := range s {
		switch value := value.(type) {
		case hash:
			if value["run"] == thisRun {
				value = value.with("run", runID(t, client))
			}
			do(t, client, append([]string{"HSET", key}, flat(value)...)...)
		case stream:
			for _, entry := range value {
				do(t, client, append([]string{"XADD", key, "*"}, flat(entry)...)...)
			}
		case text:
			do(t, client, "SET", key, string(value))
		case list:
			do(t, client, append([]string{"RPUSH", key}, value...)...)
		}
	}
}

// with is a copy in which some keys differ; a nil value takes the key away.
func (s state) with(changes state) state {
	after := maps.Clone(s)
	for key, value := range changes {
		if value == nil {
			delete(after, key)
		} else {
			after[key] = value
		}
	}
	return after
}

// mustBe compares every key of the database. The time of an entry, when it is about now, reads
// "now".
func (s state) mustBe(t testing.TB, client rueidis.Client) {
	t.Helper()
	got := dump(t, client)
	for _, key := range slices.Sorted(maps.Keys(s.with(got))) {
		if !reflect.DeepEqual(got[key], s[key]) {
			t.Errorf("%s is\n  %v, want\n  %v", key, got[key], s[key])
		}
	}
}

func dump(t testing.TB, client rueidis.Client) state {
	t.Helper()
	keys, err := do(t, client, "KEYS", "*").AsStrSlice()
	if err != nil {
		t.Fatal(err)
	}
	got := state{}
	for _, key := range keys {
		kind, err := do(t, client, "TYPE", key).ToString()
		if err != nil {
			t.Fatal(err)
		}
		switch kind {
		case "hash":
			fields, err := do(t, client, "HGETALL", key).AsStrMap()
			if err != nil {
				t.Fatal(err)
			}
			if fields["run"] == runID(t, client) {
				fields["run"] = thisRun
			}
			got[key] = hash(fields)
		case "stream":
			entries, err := do(t, client, "XRANGE", key, "-", "+").AsXRange()
			if err != nil {
				t.Fatal(err)
			}
			all := stream{}
			for _, entry := range entries {
				ms, err := strconv.ParseInt(entry.FieldValues["at_ms"], 10, 64)
				if err == nil && time.Since(time.UnixMilli(ms)).Abs() < time.Minute {
					entry.FieldValues["at_ms"] = "now"
				}
				all = append(all, hash(entry.FieldValues))
			}
			got[key] = all
		case "list":
			words, err := do(t, client, "LRANGE", key, "0", "-1").AsStrSlice()
			if err != nil {
				t.Fatal(err)
			}
			got[key] = list(words)
		default:
			value, err := do(t, client, "GET", key).ToString()
			if err != nil {
				t.Fatal(err)
			}
			got[key] = text(value)
		}
	}
	return got
}

func flat(fields hash) []string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		words = append(words, name, fields[name])
	}
	return words
}

// infoNumber reads a number of INFO.
func infoNumber(t testing.TB, info, name string) int64 {
	t.Helper()
	_, rest, _ := strings.Cut(info, "\n"+name+":")
	text, _, _ := strings.Cut(rest, "\r")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("INFO has no %s: %v", name, err)
	}
	return n
}
