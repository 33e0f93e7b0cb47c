package worker

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"flashsale"
)

// bulk writes texts as Redis would reply them.
func bulk(texts ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(texts))
	for _, text := range texts {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(text), text)
	}
	return b.String()
}

func entry(id string, fields ...string) string {
	return fmt.Sprintf("*2\r\n$%d\r\n%s\r\n%s", len(id), id, bulk(fields...))
}

// Whatever reserve.lua does not write is not taken for an order, and says why; the entries
// around it are read all the same.
func TestReadOrder_Bad(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func([]string) []string {
		return func(fields []string) []string {
			for i := 0; i < len(fields); i += 2 {
				if fields[i] == name {
					fields[i+1] = value
				}
			}
			return fields
		}
	}
	for _, test := range []struct {
		name   string
		change func([]string) []string
		want   string
	}{
		{"missing", func(f []string) []string { return f[2:] }, "missing"},
		{"empty", func([]string) []string { return nil }, "missing"},
		{"unknown", func(f []string) []string { return append(f, "color", "red") }, `"color" is unknown`},
		{"twice", func(f []string) []string { return append(f, "qty", "2") }, "comes twice"},
		{"order text", set("order", "x"), "order"},
		{"order zero", set("order", "0"), "order"},
		{"order huge", set("order", "9999999999999999999"), "exceeds"},
		{"order long", set("order", "12345678901234567890"), "order"},
		{"item signed", set("item", "+1"), "item"},
		{"item padded", set("item", "007"), "item"},
		{"user NUL", set("user", "a\x00b"), `user "a\x00b"`},
		{"user space", set("user", "a b"), "user"},
		{"user long", set("user", strings.Repeat("u", 65)), "user"},
		{"qty zero", set("qty", "0"), "qty"},
		{"qty huge", set("qty", "10001"), "exceeds"},
		{"gen empty", set("gen", ""), "gen"},
		{"at_ms far", set("at_ms", "999999999999999"), "exceeds"},
		{"key comma", set("key", "a,b"), "key"},
		{"key empty", set("key", ""), "key"},
	} {
		raw := "*3\r\n" + entry("1-1", entryFields(1)...) +
			entry("1-2", test.change(entryFields(2))...) + entry("1-3", entryFields(3)...)
		var b batch
		if err := b.readEntries(&reply{rest: []byte(raw)}); err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if len(b.bad) != 1 || b.bad[0].id != "1-2" || !strings.Contains(b.bad[0].reason.Error(), test.want) {
			t.Errorf("%s: bad entries %v, want 1-2 for %q", test.name, b.bad, test.want)
		}
		if len(b.orders) != 2 || b.orders[1].OrderNo != 3 || b.first != "1-1" || b.last != "1-3" {
			t.Errorf("%s: neighbours read as %+v", test.name, b.orders)
		}
	}
}

// Entries of the own pending list that are gone from the stream have no fields.
func TestReadStreams_Shapes(t *testing.T) {
	t.Parallel()
	var b batch
	for _, raw := range []string{"*-1\r\n", "*0\r\n"} {
		if err := b.readStreams(reply{rest: []byte(raw)}); err != nil || b.entries() != 0 {
			t.Errorf("%q: %v", raw, err)
		}
	}
	raw := "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-1\r\n*-1\r\n" + entry("1-2", entryFields(2)...)
	if err := b.readStreams(reply{rest: []byte(raw)}); err != nil || len(b.lost) != 1 || len(b.orders) != 1 {
		t.Errorf("%+v, %v", b, err)
	}
}

// No reply, however broken, may crash the consumer.
func FuzzReadStreams(f *testing.F) {
	f.Add([]byte("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n" + entry("1-2", entryFields(2)...)))
	f.Add([]byte("*-1\r\n"))
	f.Add([]byte("*1\r\n*2\r\n$1000000000\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b batch
		_ = b.readStreams(reply{rest: raw}) // an error or entries: anything but a panic
		if len(b.ids) != len(b.orders) {
			t.Errorf("%d ids for %d orders", len(b.ids), len(b.orders))
		}
	})
}

// Results are written by hand for speed, and must read as json.Marshal writes them.
func TestAppendResult(t *testing.T) {
	t.Parallel()
	for _, r := range []flashsale.Result{
		{OrderNo: 1<<63 - 1, User: "a.b@c+d-_", Status: flashsale.Unpaid},
		{OrderNo: 7, User: "ann", Status: flashsale.Rejected, Reason: "sold \"out\"\n\x01 & <gone>"},
		{OrderNo: 7, User: "not \"valid\"", Status: flashsale.Cancelled},
	} {
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendResult(nil, r)); got != string(want) {
			t.Errorf("appendResult = %s, want %s", got, want)
		}
	}
}

// Reasons go to a stream that people read in a terminal.
func TestPrintable(t *testing.T) {
	t.Parallel()
	if got := printable("a\x1b[2J\xff\n世界", 100); got != "a [2J? 世界" {
		t.Errorf("printable = %q", got)
	}
	if got := printable("世界", 4); got != "世" {
		t.Errorf("printable cuts to %q", got)
	}
}

// What decoding costs an order.
func BenchmarkReadStreams(b *testing.B) {
	var raw strings.Builder
	raw.WriteString("*1\r\n*2\r\n$1\r\ns\r\n*1000\r\n")
	for n := range 1000 {
		raw.WriteString(entry(fmt.Sprintf("1790000000000-%d", n), entryFields(n+1)...))
	}
	bytes := []byte(raw.String())
	var batch batch
	b.ReportAllocs()
	for b.Loop() {
		batch.reset()
		if err := batch.readStreams(reply{rest: bytes}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/order")
}
