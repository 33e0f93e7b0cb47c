package engine

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"flashsale"
)

// tokenLenMax bounds what is hashed and remembered for a token.
const tokenLenMax = 256

// sessions keeps the users of warm tokens in memory. Redis tracks the keys that were read and
// says when one changes, so a logout counts at once; a TTL bounds it should a message be lost.
// It stands beside rueidis' own cache because that keeps replies, which would have to be found
// by the token's hash and decoded on every request (see BenchmarkSession).
type sessions struct {
	ttl time.Duration
	max int

	mu     sync.RWMutex // guards what follows
	byHash map[string]*session
	warm   map[string]*session // by token
}

// session is what a token stands for. It is put into the map before Redis is asked, and its
// removal while the answer is on its way says that the answer may be stale.
type session struct {
	key   string
	token string
	user  flashsale.User
	until time.Time
}

func newSessions(config Config) *sessions {
	return &sessions{
		ttl: config.SessionTTL, max: config.SessionsMax,
		byHash: make(map[string]*session), warm: make(map[string]*session),
	}
}

// Session returns the user whom a token stands for, or [flashsale.ErrNotFound]. A warm token
// costs no round trip. The token's bytes are copied before the call returns.
func (e *Engine) Session(ctx context.Context, token string) (flashsale.User, error) {
	if token == "" || len(token) > tokenLenMax {
		return flashsale.User{}, fmt.Errorf("session: %w", flashsale.ErrNotFound)
	}
	if user, ok := e.sessions.get(token); ok {
		return user, nil
	}
	token = strings.Clone(token)
	loading := e.sessions.expect(token)
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	get := e.client.B().Get().Key(loading.key).Cache()
	result := e.client.DoCache(ctx, get, e.config.SessionTTL)
	if isNil(result) {
		e.sessions.forget(loading)
		return flashsale.User{}, fmt.Errorf("session: %w", flashsale.ErrNotFound)
	}
	text, err := result.AsBytes()
	if err != nil {
		e.sessions.forget(loading)
		return flashsale.User{}, fmt.Errorf("session: %w", err)
	}
	var user flashsale.User
	if err := json.Unmarshal(text, &user); err != nil || !flashsale.ValidUser(user.ID) {
		e.sessions.forget(loading)
		return flashsale.User{}, fmt.Errorf("session holds no valid user: %w", flashsale.ErrNotFound)
	}
	e.sessions.put(loading, user, time.Duration(result.CachePTTL())*time.Millisecond)
	return user, nil
}

// CreateSession writes a session as a login system does and returns its token.
func (e *Engine) CreateSession(ctx context.Context, user flashsale.User, ttl time.Duration) (string, error) {
	if !flashsale.ValidUser(user.ID) || ttl < time.Millisecond {
		return "", fmt.Errorf("create session: %w", ErrInvalid)
	}
	text, err := json.Marshal(user)
	if err != nil {
		return "", fmt.Errorf("create session: %w", err)
	}
	token := rand.Text()
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	set := e.client.B().Set().Key(SessionKey(token)).Value(string(text)).Px(ttl).Build()
	if err := e.client.Do(ctx, set).Error(); err != nil {
		return "", fmt.Errorf("create session: %w", err)
	}
	return token, nil
}

// get answers from memory.
func (s *sessions) get(token string) (flashsale.User, bool) {
	s.mu.RLock()
	found := s.warm[token]
	s.mu.RUnlock()
	if found == nil || time.Now().After(found.until) {
		return flashsale.User{}, false
	}
	return found.user, true
}

// expect announces that a session is being read.
func (s *sessions) expect(token string) *session {
	loading := &session{key: SessionKey(token), token: token}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byHash) >= s.max {
		// Full: start again. Warm tokens come back with one round trip each.
		clear(s.byHash)
		clear(s.warm)
	}
	s.byHash[loading.key] = loading
	return loading
}

// put makes a session warm, unless it was invalidated while it was read.
func (s *sessions) put(loading *session, user flashsale.User, ttl time.Duration) {
	if ttl <= 0 || ttl > s.ttl {
		ttl = s.ttl
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byHash[loading.key] != loading {
		return
	}
	loading.user, loading.until = user, time.Now().Add(ttl)
	s.warm[loading.token] = loading
}

// forget takes an announcement back.
func (s *sessions) forget(loading *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byHash[loading.key] == loading {
		delete(s.byHash, loading.key)
		delete(s.warm, loading.token) // what had run out
	}
}

// invalidate drops the sessions whose keys have changed; nil stands for all, which is also
// what a lost connection means.
func (s *sessions) invalidate(keys []rueidis.RedisMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if keys == nil {
		clear(s.byHash)
		clear(s.warm)
		return
	}
	for _, message := range keys {
		key, err := message.ToString()
		if err != nil {
			continue
		}
		if found := s.byHash[key]; found != nil {
			delete(s.byHash, key)
			delete(s.warm, found.token)
		}
	}
}
