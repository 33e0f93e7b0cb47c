package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

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
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byKey)
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
			key, err := e.client.Do(t.Context(), e.client.B().Echo().Message(SessionKey("token")).Build()).ToMessage()
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
	var clock int64
	s := newSessions(Config{SessionsMax: 10, SessionTTL: time.Hour}, func() int64 { return clock })
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
	s.put(s.expect("short"), flashsale.User{ID: "ann"}, time.Second)
	clock += int64(time.Second)
	if _, ok := s.get("short"); ok {
		t.Error("a session outlives its time")
	}
	before := remembered(s)
	s.forget(s.expect("short"))
	if n := remembered(s); n != before-1 {
		t.Error("what has run out is remembered")
	}
}

// TestSessions_Table: however the table grows and forgets, a token answers its own user or
// nobody, what is in it is what can be invalidated, and few are forgotten for want of room.
func TestSessions_Table(t *testing.T) {
	t.Parallel()
	const many = 100_000
	s := newSessions(Config{SessionsMax: many, SessionTTL: time.Hour}, func() int64 { return 1 })
	name := func(n int) string { return fmt.Sprint("user", n) }
	for n := range many {
		s.put(s.expect(fmt.Sprint("token", n)), flashsale.User{ID: name(n), Name: "N. " + name(n)}, 0)
	}
	warm := 0
	for n := range many {
		token := fmt.Sprint("token", n)
		user, ok := s.get(token)
		if ok && (user.ID != name(n) || user.Name != "N. "+name(n)) {
			t.Fatalf("%s is %+v", token, user)
		}
		if known := s.byKey[SessionKey(token)]; ok != (known != nil) {
			t.Fatalf("%s: warm %t, known %t", token, ok, known != nil)
		}
		if ok {
			warm++
		}
	}
	if warm < many*995/1000 {
		t.Errorf("only %d of %d are warm", warm, many)
	}
	for n := range many {
		key := SessionKey(fmt.Sprint("token", n))
		if known := s.byKey[key]; known != nil {
			s.remove(key, known)
		}
		if _, ok := s.get(fmt.Sprint("token", n)); ok {
			t.Fatalf("token%d is removed and answers", n)
		}
	}
}

// TestSessions_ReadWhileWritten: who reads without a lock never sees another's user, whatever is
// written meanwhile.
func TestSessions_ReadWhileWritten(t *testing.T) {
	t.Parallel()
	const tokens = 2000
	s := newSessions(Config{SessionsMax: tokens / 2, SessionTTL: time.Hour}, func() int64 { return 1 })
	var writing, reading sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		reading.Go(func() {
			for n := 0; ; n = (n + 1) % tokens {
				select {
				case <-stop:
					return
				default:
				}
				if user, ok := s.get(strconv.Itoa(n)); ok && user.ID != fmt.Sprint("u", n) {
					t.Errorf("token %d is %s", n, user.ID)
					return
				}
			}
		})
		writing.Go(func() {
			for range 5 {
				for n := range tokens {
					s.put(s.expect(strconv.Itoa(n)), flashsale.User{ID: fmt.Sprint("u", n)}, 0)
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
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

// BenchmarkSession_Crowd reads the sessions of a crowd that is larger than the processor's
// caches, and the same from a plain map behind a lock.
func BenchmarkSession_Crowd(b *testing.B) {
	const crowd = 300_000
	s := newSessions(Config{SessionsMax: crowd, SessionTTL: time.Hour}, func() int64 { return 1 })
	tokens := make([]string, crowd)
	plain := make(map[string]*session, crowd)
	var mu sync.RWMutex
	for n := range tokens {
		tokens[n] = fmt.Sprintf("bench-%020d", n)
		loading, user := s.expect(tokens[n]), flashsale.User{ID: fmt.Sprintf("user%07d", n)}
		s.put(loading, user, 0)
		user.ID = strings.Clone(user.ID)
		plain[tokens[n]] = &session{token: tokens[n], user: user, until: 2}
	}
	run := func(name string, read func(token string) (flashsale.User, bool)) {
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				random := rand.New(rand.NewPCG(1, 2))
				token := []byte(tokens[0]) // as from a request: not the bytes that are kept
				for pb.Next() {
					for n, digit := random.IntN(crowd), len(token)-1; digit > 19; digit-- {
						token[digit] = '0' + byte(n%10)
						n /= 10
					}
					if user, ok := read(unsafe.String(&token[0], len(token))); ok && len(user.ID) != 11 {
						b.Error(user)
						return
					}
				}
			})
		})
	}
	run("own", s.get)
	run("map", func(token string) (flashsale.User, bool) {
		mu.RLock()
		found := plain[token]
		mu.RUnlock()
		return found.user, time.Now().UnixNano() > found.until
	})
}

// TestSession_MadeUpTokens: tokens that nobody holds leave nothing in Redis, which would track each
// key that was asked for, and push no good session out of what it tracks; where there is a key they
// do not even get there.
func TestSession_MadeUpTokens(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t, "--tracking-table-max-keys", "50").URL()
	client := dial(t, url)
	plain := start(t, Config{RedisURL: url})
	keyed := start(t, Config{RedisURL: url, SessionKey: "a key of the installation"})
	good, signed := login(t, plain), login(t, keyed)
	whoIs(t, plain, good)
	random, sum, _ := strings.Cut(signed, ".")
	if whoIs(t, keyed, signed).ID != "ann" || len(sum) != 32 {
		t.Fatalf("token %q", signed)
	}
	before := calls(t, client, "get")
	var asking sync.WaitGroup
	for worker := range 4 {
		asking.Go(func() {
			for n := range 250 {
				token := fmt.Sprintf("made-up-%d-%d", worker, n)
				if _, err := plain.Session(t.Context(), token); !errors.Is(err, flashsale.ErrNotFound) {
					t.Errorf("%s: %v", token, err)
				}
			}
		})
	}
	asking.Wait()
	between := calls(t, client, "get")
	for _, token := range []string{good, random, random + ".", random + "." + sum[1:], "x" + signed, signed + "0", "." + sum, strings.ToUpper(signed)} {
		if _, err := keyed.Session(t.Context(), token); !errors.Is(err, flashsale.ErrNotFound) {
			t.Errorf("forged %q: %v", token, err)
		}
	}
	if n := calls(t, client, "get") - between; n != 0 {
		t.Errorf("%d forged tokens reached redis", n)
	}
	whoIs(t, plain, good)
	if n := calls(t, client, "get") - between; n != 0 || between-before != 1000 {
		t.Errorf("the good session is cold again: %d reads, %d of made-up tokens", n, between-before)
	}
	stats, err := do(t, client, "INFO", "stats").ToString()
	if err != nil || !strings.Contains(stats, "tracking_total_keys:2\r\n") {
		t.Errorf("redis tracks other keys than those of 2 sessions: %v\n%s", err, stats)
	}
}

// TestSession_RedisAway: who is logged in stays so while Redis does not answer, for as long as the
// grace is, and nobody else comes in; an end of a session that was missed meanwhile counts as soon as
// Redis is back.
func TestSession_RedisAway(t *testing.T) {
	t.Parallel()
	redis := stacktest.NewRedis(t, "--appendfsync", "always")
	e := start(t, Config{RedisURL: redis.URL()})
	token, cold := login(t, e), login(t, e)
	whoIs(t, e, token)
	redis.Kill()
	stacktest.Eventually(t, wait, func() error {
		if _, ok := e.sessions.get(token); ok {
			return errors.New("the loss is not noticed")
		}
		return nil
	})
	for range 100 {
		if user := whoIs(t, e, token); user.ID != "ann" {
			t.Fatal(user)
		}
	}
	if _, err := e.Session(t.Context(), cold); err == nil || errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("a cold session: %v, want a fault", err)
	}
	if err := redis.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	do(t, dial(t, redis.URL()), "DEL", SessionKey(token))
	stacktest.Eventually(t, wait, func() error {
		if _, err := e.Session(t.Context(), token); !errors.Is(err, flashsale.ErrNotFound) {
			return fmt.Errorf("ended, but: %w", err)
		}
		return nil
	})
	whoIs(t, e, cold)
}

// TestSessions_Grace: the grace ends.
func TestSessions_Grace(t *testing.T) {
	t.Parallel()
	var clock int64
	s := newSessions(Config{SessionTTL: time.Hour, SessionsMax: 100}, func() int64 { return clock })
	s.put(s.expect("warm"), flashsale.User{ID: "ann"}, time.Hour)
	s.put(s.expect("short"), flashsale.User{ID: "bob"}, 10*time.Second)
	s.invalidate(nil)
	for _, c := range []struct {
		at          time.Duration
		warm, short bool
	}{{0, true, true}, {9 * time.Second, true, true}, {11 * time.Second, true, false}, {29 * time.Second, true, false}, {31 * time.Second, false, false}} {
		clock = int64(c.at)
		for token, want := range map[string]bool{"warm": c.warm, "short": c.short} {
			if _, ok := s.relyUnanswered(token); ok != want {
				t.Errorf("%s after %s: %t", token, c.at, ok)
			}
		}
	}
}

// TestSession_Untracked: an ACL that forbids client-side caching costs the promptness of a log-out,
// nothing else.
func TestSession_Untracked(t *testing.T) {
	t.Parallel()
	url := stacktest.NewRedis(t, "--user", "shop", "on", ">p", "~*", "&*", "+@all", "-client|tracking").URL()
	e := start(t, Config{RedisURL: strings.Replace(url, "redis://", "redis://shop:p@", 1), SessionTTL: time.Hour})
	token := login(t, e)
	if user := whoIs(t, e, token); user.ID != "ann" {
		t.Fatal(user)
	}
	client := dial(t, url)
	before := calls(t, client, "get")
	whoIs(t, e, token)
	if n := calls(t, client, "get") - before; n != 0 {
		t.Errorf("%d reads of a warm session", n)
	}
	if e.sessions.ttl != SessionTTLUntracked {
		t.Errorf("a session that ended may be served for %s", e.sessions.ttl)
	}
}
