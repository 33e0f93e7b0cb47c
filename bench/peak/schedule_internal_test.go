package peak

import (
	"net/url"
	"testing"
	"time"

	"flashsale/bench/target"
)

// The schedule is the measure of every latency: as many requests as were asked for, each phase
// beginning where it should and evenly filled.
func TestSchedule(t *testing.T) {
	t.Parallel()
	s := newSchedule([]Phase{{10, time.Second}, {1000, 1500 * time.Millisecond}, {3, 500 * time.Millisecond}})
	if want := int64(10 + 1500 + 2); s.total != want || s.length != 3*time.Second || s.closed {
		t.Fatalf("got %+v, want %d requests", s, want)
	}
	for n, want := range map[int64]time.Duration{
		0: 0, 1: 100 * time.Millisecond, 9: 900 * time.Millisecond,
		10: time.Second, 11: time.Second + time.Millisecond, 1509: time.Second + 1499*time.Millisecond,
		1510: 2500 * time.Millisecond, 1511: 2500*time.Millisecond + time.Second/3,
	} {
		if got, ok := s.due(n); !ok || got != want {
			t.Errorf("request %d: due after %s (%t), want %s", n, got, ok, want)
		}
	}
	if _, ok := s.due(s.total); ok {
		t.Error("there is a request behind the last one")
	}
	for n := range s.total {
		due, _ := s.due(n)
		if by := s.dueBy(due + time.Microsecond); by != n+1 {
			t.Fatalf("%d requests are due by %s, want %d", by, due, n+1)
		}
	}
}

// A token that differs from the one that the session was written for would measure refusals.
func TestAppendToken(t *testing.T) {
	t.Parallel()
	for _, user := range []int{0, 7, 1_234_567} {
		if got, want := string(appendToken(nil, int64(user))), target.Token(user); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// What cannot be played must be said before anything is started.
func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	second := []Phase{{100, time.Second}}
	if err := (Config{Phases: second}).Validate(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]Config{
		"no phases":         {},
		"negative rate":     {Phases: []Phase{{-1, time.Second}}},
		"rate too high":     {Phases: []Phase{{RateMax + 1, time.Second}}},
		"mixed closed loop": {Phases: []Phase{{0, time.Second}, {1, time.Second}}},
		"no time":           {Phases: []Phase{{1, 0}}},
		"too long":          {Phases: []Phase{{1, LengthMax}, {1, 1}}},
		"bucket":            {Phases: second, Bucket: time.Millisecond},
		"connections":       {Phases: second, Connections: ConnectionsMax + 1},
		"users":             {Phases: second, Users: -1},
		"timeout":           {Phases: second, Timeout: -1},
	} {
		if err := c.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Each request must be of the user whose turn it is, whole, whatever the length of the tokens
// before: a rest of another one would be somebody else's session.
func TestRequest_Tokens(t *testing.T) {
	t.Parallel()
	c := Config{
		URLs: []string{"http://shop:81/base/"}, Item: "7", Phases: []Phase{{100, time.Second}},
		Tokens: []string{"a-long-token", "short"},
	}.withDefaults()
	server, err := url.Parse(c.URLs[0])
	if err != nil {
		t.Fatal(err)
	}
	r := newRequest(c, server)
	for n, token := range []string{"a-long-token", "short", "a-long-token"} {
		want := "POST /base/v1/items/7/orders HTTP/1.1\r\nHost: shop:81\r\nContent-Length: 0\r\n" +
			"Authorization: Bearer " + token + "\r\n\r\n"
		if got := string(r.of(int64(n))); got != want {
			t.Errorf("request %d: got %q, want %q", n, got, want)
		}
	}
}
