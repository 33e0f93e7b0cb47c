package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/internal/devstack/stacktest"
)

// login writes a session for ann.
func login(t testing.TB, e *Engine) string {
	t.Helper()
	token, err := e.CreateSession(context.Background(), flashsale.User{ID: "ann", Name: "Ann"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// whoIs resolves a token that must be good.
func whoIs(t testing.TB, e *Engine, token string) flashsale.User {
	t.Helper()
	user, err := e.Session(context.Background(), token)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

// remembered is how many sessions take up memory.
func remembered(s *sessions) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return max(len(s.byHash), len(s.warm))
}

// TestSession_WarmIsFree: a request of a warm session costs Redis nothing.
func TestSession_WarmIsFree(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t).URL()
	client := dial(t, url)
	e := start(t, Config{RedisURL: url})
	token := login(t, e)
	whoIs(t, e, token)
	before := calls(t, client, "get")
	for range 1000 {
		if user := whoIs(t, e, token); user.ID != "ann" || user.Name != "Ann" {
			t.Fatal(user)
		}
	}
	if n := calls(t, client, "get") - before; n != 0 {
		t.Errorf("%d reads of a warm session", n)
	}
}

// TestSession_Change: a logout counts at once on a node that has the session warm, and so does
// a token that now means somebody else.
func TestSession_Change(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t).URL() // a FLUSHDB of another test would invalidate everything
	client := dial(t, url)
	e := start(t, Config{RedisURL: url, SessionTTL: time.Hour})
	token := login(t, e)
	whoIs(t, e, token)
	do(t, client, "SET", SessionKey(token), `{"user":"bob"}`)
	stacktest.Eventually(t, wait, func() error {
		if user := whoIs(t, e, token); user.ID != "bob" {
			return fmt.Errorf("still %s", user.ID)
		}
		return nil
	})
	do(t, client, "DEL", SessionKey(token))
	stacktest.Eventually(t, wait, func() error {
		if user, err := e.Session(t.Context(), token); !errors.Is(err, flashsale.ErrNotFound) {
			return fmt.Errorf("still logged in as %s: %w", user.ID, err)
		}
		return nil
	})
	do(t, client, "SET", SessionKey(token), `{"user":"cat"}`)
	stacktest.Eventually(t, wait, func() error { // a token is not unknown for ever
		if user, err := e.Session(t.Context(), token); err != nil || user.ID != "cat" {
			return fmt.Errorf("%s %w", user.ID, err)
		}
		return nil
	})
	if n := remembered(e.sessions); n > 1 {
		t.Errorf("%d sessions are remembered for one token", n)
	}
}

// TestSession_Refused: what names no user is nobody, and leaves nothing in memory.
func TestSession_Refused(t *testing.T) {
	t.Parallel()
	url := stacktest.Redis(t)
	client := dial(t, url)
	e := start(t, Config{RedisURL: url})
	for token, value := range map[string]string{
		"": `{"user":"ann"}`, "broken": `{"user":`, "no user": `{}`, "bad user": `{"user":"a n"}`,
		"wrong kind": `["ann"]`, strings.Repeat("x", tokenLenMax+1): `{"user":"ann"}`, "absent": "",
	} {
		if value != "" {
			do(t, client, "SET", SessionKey(token), value)
		}
		for range 2 {
			if user, err := e.Session(t.Context(), token); !errors.Is(err, flashsale.ErrNotFound) {
				t.Errorf("token %.20q is %s: %v", token, user.ID, err)
			}
		}
	}
	if n := remembered(e.sessions); n != 0 {
		t.Errorf("%d sessions are remembered", n)
	}
	if _, err := e.CreateSession(t.Context(), flashsale.User{ID: "a n"}, time.Hour); !errors.Is(err, ErrInvalid) {
		t.Errorf("a session for an invalid user: %v", err)
	}
}

// TestSession_Fault: Redis away is a fault, not a logout.
func TestSession_Fault(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t)
	e := start(t, Config{RedisURL: server.URL(), ScriptTimeout: 200 * time.Millisecond})
	token := login(t, e)
	server.Kill()
	stacktest.Eventually(t, wait, func() error {
		if _, err := e.Session(t.Context(), token); err == nil || errors.Is(err, flashsale.ErrNotFound) {
			return fmt.Errorf("answer %w", err)
		}
		return nil
	})
}

// TestSessions_InvalidatedWhileRead: a change while the answer is on its way means that the
// answer may be old: it is not kept.
func TestSessions_InvalidatedWhileRead(t *testing.T) {
	t.Parallel()
	for _, all := range []bool{true, false} {
		e := start(t, Config{RedisURL: stacktest.Redis(t)})
		s := e.sessions
		loading := s.expect("token")
		if all {
			s.invalidate(nil) // a lost connection
		} else {
			key, err := e.client.Do(t.Context(), e.client.B().Echo().Message(loading.key).Build()).ToMessage()
			if err != nil {
				t.Fatal(err)
			}
			s.invalidate([]rueidis.RedisMessage{key})
		}
		s.put(loading, flashsale.User{ID: "ann"}, time.Hour)
		if user, ok := s.get("token"); ok {
			t.Errorf("%s is kept", user.ID)
		}
	}
}

// TestSessions_Bounded: tokens that are made up cannot use up the memory, and what has run out
// is not answered.
func TestSessions_Bounded(t *testing.T) {
	t.Parallel()
	s := newSessions(Config{SessionsMax: 10, SessionTTL: time.Hour})
	for n := range 1000 {
		token := fmt.Sprint("token", n)
		s.put(s.expect(token), flashsale.User{ID: "ann"}, 0)
		if _, ok := s.get(token); !ok {
			t.Fatal("the newest is not kept")
		}
		if n := remembered(s); n > 10 {
			t.Fatalf("%d sessions are remembered", n)
		}
	}
	s.put(s.expect("short"), flashsale.User{ID: "ann"}, time.Nanosecond)
	for !time.Now().After(s.warm["short"].until) {
	}
	if _, ok := s.get("short"); ok {
		t.Error("a session outlives its time")
	}
	s.forget(s.expect("short"))
	if s.warm["short"] != nil {
		t.Error("what has run out is remembered")
	}
}

// BenchmarkSession compares our own memory of warm sessions with the client's cache, which
// needs the token's hash and the decoding of its JSON each time.
func BenchmarkSession(b *testing.B) {
	e := start(b, Config{RedisURL: stacktest.Redis(b)})
	token := login(b, e)
	run := func(name string, read func() (flashsale.User, error)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if user, err := read(); err != nil || user.ID != "ann" {
						b.Error(user, err)
						return
					}
				}
			})
		})
	}
	run("own", func() (flashsale.User, error) { return e.Session(context.Background(), token) })
	run("client", func() (user flashsale.User, err error) {
		get := e.client.B().Get().Key(SessionKey(token)).Cache()
		text, err := e.client.DoCache(context.Background(), get, time.Minute).AsBytes()
		if err != nil {
			return user, err
		}
		err = json.Unmarshal(text, &user)
		return user, err
	})
}
