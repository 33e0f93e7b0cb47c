package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

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

func entryText(id string, fields ...string) string {
	return fmt.Sprintf("*2\r\n$%d\r\n%s\r\n%s", len(id), id, bulk(fields...))
}

// Whatever reserve.lua does not write is not taken for an order, and says why; the orders and the
// entries around it are read all the same.
func TestReadEntries_Bad(t *testing.T) {
	t.Parallel()
	set := func(index int, value string) func([]string) []string {
		return func(fields []string) []string {
			fields[index] = value
			return fields
		}
	}
	for _, test := range []struct {
		name   string
		change func([]string) []string
		order  int // wholeEntry, or the place of the bad one
		want   string
	}{
		{"header shifted", func(f []string) []string { return f[2:] }, wholeEntry, "not of the form"},
		{"empty", func([]string) []string { return nil }, wholeEntry, "not of the form"},
		{"no order", func(f []string) []string { return f[:8] }, wholeEntry, "not of the form"},
		{"odd", func(f []string) []string { return f[:9] }, wholeEntry, "not of the form"},
		{"header renamed", set(2, "generation"), wholeEntry, "not of the form"},
		{"item signed", set(1, "+1"), wholeEntry, "item"},
		{"item padded", set(1, "007"), wholeEntry, "item"},
		{"gen empty", set(3, ""), wholeEntry, "gen"},
		{"seq huge", set(5, "9007199254740993"), wholeEntry, "exceeds"},
		{"at_ms far", set(7, "999999999999999"), wholeEntry, "exceeds"},
		{"order text", set(11, "x 1 "), 1, "order"},
		{"order zero", set(11, "0 1 "), 1, "order"},
		{"order huge", set(11, "9999999999999999999 1 "), 1, "exceeds"},
		{"order long", set(11, "12345678901234567890 1 "), 1, "order"},
		{"no quantity", set(11, "12"), 1, "is not an order number, a quantity and a key"},
		{"no place for a key", set(11, "12 1"), 1, "is not an order number, a quantity and a key"},
		{"qty zero", set(11, "12 0 "), 1, "qty"},
		{"order that is over", set(11, "12 -1 "), 1, "qty"},
		{"qty huge", set(11, "12 10001 "), 1, "exceeds"},
		{"key comma", set(11, "12 1 a,b"), 1, "key"},
		{"key with a space", set(11, "12 1 a b"), 1, "key"},
		{"user NUL", set(10, "a\x00b"), 1, `user "a\x00b"`},
		{"user space", set(10, "a b"), 1, "user"},
		{"user long", set(10, strings.Repeat("u", 65)), 1, "user"},
	} {
		raw := "*3\r\n" + entryText("1-1", entryFields(1, 2)...) +
			entryText("1-2", test.change(entryFields(3, 5))...) + entryText("1-3", entryFields(6, 6)...)
		var b batch
		if err := b.readEntries(&reply{rest: raw}, 0); err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if len(b.list) != 3 || len(b.list[1].dead) != 1 || b.list[1].dead[0].order != test.order ||
			!strings.Contains(b.list[1].dead[0].reason, test.want) {
			t.Errorf("%s: read as %+v, want %q", test.name, b.list, test.want)
			continue
		}
		want := 5
		if test.order == wholeEntry {
			want = 3
		}
		if len(b.orders) != want || b.orders[want-1].OrderNo != 6 || b.first != "1-1" || b.last != "1-3" {
			t.Errorf("%s: neighbours read as %+v", test.name, b.orders)
		}
	}
}

// Users may have the names of fields, and one user several orders of an entry: positions decide.
func TestReadEntries_Positions(t *testing.T) {
	t.Parallel()
	var b batch
	raw := "*1\r\n" + entryText("1-1", "item", "5", "gen", "2", "seq", "41", "at_ms", "1790000000000",
		"item", "101 1 ", "seq", "102 2 k:1", "ann", "103 1 ", "ann", "104 3 ")
	if err := b.readEntries(&reply{rest: raw}, 0); err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1790000000000)
	want := []flashsale.Order{
		{OrderNo: 101, User: "item", Quantity: 1, Sequence: 41},
		{OrderNo: 102, User: "seq", Quantity: 2, Sequence: 42, IdempotencyKey: "k:1"},
		{OrderNo: 103, User: "ann", Quantity: 1, Sequence: 43},
		{OrderNo: 104, User: "ann", Quantity: 3, Sequence: 44},
	}
	for i := range want {
		want[i].ItemID, want[i].Generation, want[i].ReservedAt, want[i].Status = 5, 2, at, flashsale.Pending
	}
	if !slices.Equal(b.orders, want) || b.list[0].orders != 4 || b.list[0].left != 4 {
		t.Errorf("read %+v of %+v", b.orders, b.list)
	}
}

// Entries of the own pending list that are gone from the stream have no fields.
func TestReadStreams_Shapes(t *testing.T) {
	t.Parallel()
	var b batch
	for _, raw := range []string{"*-1\r\n", "*0\r\n"} {
		if err := b.readStreams(reply{rest: raw}, 1); err != nil || !b.empty() {
			t.Errorf("%q: %v", raw, err)
		}
	}
	raw := "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-1\r\n*-1\r\n" + entryText("1-2", entryFields(2, 2)...)
	if err := b.readStreams(reply{rest: raw}, 1); err != nil || len(b.lost) != 1 || len(b.orders) != 1 {
		t.Errorf("%+v, %v", b, err)
	}
}

// No reply, however broken, may crash the consumer or upset its account of what is settled.
func FuzzReadStreams(f *testing.F) {
	f.Add("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n" + entryText("1-2", entryFields(2, 4)...))
	f.Add("*-1\r\n")
	f.Add("*1\r\n*2\r\n$1000000000\r\n")
	f.Fuzz(func(t *testing.T, raw string) {
		var b batch
		if b.readStreams(reply{rest: raw}, 1) != nil {
			return // anything but a panic
		}
		for len(b.orders) > 0 {
			b.setAside(len(b.orders)-1, "why not")
		}
		entries := b.takeSettled()
		if len(entries) != len(b.list) || len(b.places) != 0 {
			t.Errorf("%d of %d entries are settled", len(entries), len(b.list))
		}
	})
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
	raw.WriteString("*1\r\n*2\r\n$1\r\ns\r\n*10\r\n")
	for n := range 10 {
		raw.WriteString(entryText(fmt.Sprintf("1790000000000-%d", n), entryFields(100*n+1, 100*n+100)...))
	}
	text := raw.String()
	var batch batch
	b.ReportAllocs()
	for b.Loop() {
		batch.reset()
		if err := batch.readStreams(reply{rest: text}, 1); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/order")
}
