package engine

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/redis/rueidis"

	"flashsale"
)

// tokenLenMax bounds what is hashed and remembered for a token.
const tokenLenMax = 256

// sessions keeps the users of warm tokens in memory. Redis tracks the keys that were read and
// says when one changes, so a logout counts at once; a TTL bounds it should a message be lost.
// It stands beside rueidis' own cache because that keeps replies, which would have to be found
// by the token's hash and decoded on every request (see BenchmarkSession).
//
// A crowd's sessions are spread over far more memory than a processor caches, so what a look-up
// costs is the number of places it touches: one bucket, and the session with its text inside.
// They are read without a lock, which all processors would fight over.
type sessions struct {
	ttl   time.Duration
	max   int
	clock func() int64
	seed  maphash.Seed
	table atomic.Pointer[[]bucket] // a power of two of them

	asking chan struct{} // slots of look-ups in Redis

	mu    sync.Mutex // guards what follows, and who writes to the table
	byKey map[string]*session

	// What was warm when the connection was lost, since when, and until when Redis need not be asked
	// again: who is logged in stays so while Redis is away.
	lost    map[string]*session
	lostAt  int64
	restsTo int64
}

const (
	// lookUpsMax is how many sessions are asked for at once; more wait. Made-up tokens so take their
	// turn like all others, and never the whole pipeline to Redis.
	lookUpsMax = 1024
	// lostGrace is for how long sessions outlive the connection on which Redis would have told of
	// their end.
	lostGrace = int64(30 * time.Second)
	// lostRest is for how long Redis is not asked again after it has not answered.
	lostRest = int64(500 * time.Millisecond)
)

// session is what a token stands for. It is put into byKey before Redis is asked, and its
// removal while the answer is on its way says that the answer may be stale. It never changes
// once it is in the table.
type session struct {
	until int64 // engine clock; 0: announced only
	token string
	user  flashsale.User
	text  [72]byte // what token and user point to, where it has room: two cache lines in all
}

// newSession makes a session that is warm.
func newSession(token string, user flashsale.User, until int64) *session {
	s := &session{until: until}
	text := token + user.ID + user.Name
	if len(text) <= len(s.text) {
		copy(s.text[:], text)
		text = unsafe.String(&s.text[0], len(text)) //nolint:gosec // written above, never again
	}
	id := len(token)
	name := id + len(user.ID)
	s.token, s.user = text[:id], flashsale.User{ID: text[id:name], Name: text[name:]}
	return s
}

// bucket is one cache line of seven sessions. Each tag is a byte of the hash of the session in
// the same place, and spares a look at those that are not it.
type bucket struct {
	tags     atomic.Uint64
	sessions [bucketSize]atomic.Pointer[session]
}

const (
	bucketSize = 7
	// bucketLoad is how many sessions a bucket holds on average before the table grows. One in a
	// thousand would hold more than it has room for then, and forgets a session instead, which
	// costs its user one round trip.
	bucketLoad = 2
	bucketsMin = 64
)

func newSessions(config Config, clock func() int64) *sessions {
	s := &sessions{
		ttl: config.SessionTTL, max: config.SessionsMax, clock: clock,
		seed: maphash.MakeSeed(), byKey: make(map[string]*session), asking: make(chan struct{}, lookUpsMax),
	}
	s.resize(bucketsMin)
	return s
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
	if !e.signed(token) {
		return flashsale.User{}, fmt.Errorf("session: %w", flashsale.ErrNotFound)
	}
	token = strings.Clone(token)
	if user, ok := e.sessions.rely(token); ok {
		return user, nil
	}
	user, err := e.lookUp(ctx, token)
	switch {
	case errors.Is(err, flashsale.ErrNotFound):
		e.sessions.drop(token)
	case err != nil:
		if user, ok := e.sessions.relyUnanswered(token); ok {
			return user, nil
		}
	}
	return user, err
}

// lookUp asks Redis. Only a session that is there is then read so that Redis tracks it: made-up
// tokens would fill the memory of Redis, and push the good ones out of what it tracks.
func (e *Engine) lookUp(ctx context.Context, token string) (flashsale.User, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	select {
	case e.sessions.asking <- struct{}{}:
		defer func() { <-e.sessions.asking }()
	case <-ctx.Done():
		return flashsale.User{}, fmt.Errorf("session: too many are looked up: %w", ctx.Err())
	}
	result := e.client.Do(ctx, e.client.B().Get().Key(SessionKey(token)).Build())
	if isNil(result) {
		return flashsale.User{}, fmt.Errorf("session: %w", flashsale.ErrNotFound)
	}
	if err := result.Error(); err != nil {
		return flashsale.User{}, fmt.Errorf("session: %w", err)
	}
	loading := e.sessions.expect(token)
	get := e.client.B().Get().Key(SessionKey(token)).Cache()
	result = e.client.DoCache(ctx, get, e.config.SessionTTL)
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

// signed reports whether a token carries the checksum that it needs where there is a key.
func (e *Engine) signed(token string) bool {
	if e.config.SessionKey == "" {
		return true
	}
	random, sum, ok := strings.Cut(token, ".")
	return ok && hmac.Equal([]byte(sum), []byte(e.checksum(random)))
}

// checksum is what follows the dot of a token: the first 16 bytes of HMAC-SHA256, in hex.
func (e *Engine) checksum(random string) string {
	mac := hmac.New(sha256.New, []byte(e.config.SessionKey))
	mac.Write([]byte(random))
	return hex.EncodeToString(mac.Sum(nil)[:16])
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
	if e.config.SessionKey != "" {
		token += "." + e.checksum(token)
	}
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	set := e.client.B().Set().Key(SessionKey(token)).Value(string(text)).Px(ttl).Build()
	if err := e.client.Do(ctx, set).Error(); err != nil {
		return "", fmt.Errorf("create session: %w", err)
	}
	return token, nil
}

// DeleteSession logs a token out. This node knows at once, others when Redis tells them.
func (e *Engine) DeleteSession(ctx context.Context, token string) error {
	key := SessionKey(token)
	ctx, cancel := context.WithTimeout(ctx, e.config.ScriptTimeout)
	defer cancel()
	if err := e.client.Do(ctx, e.client.B().Del().Key(key).Build()).Error(); err != nil {
		return fmt.Errorf("delete session: %w", err)
	}
	e.sessions.mu.Lock()
	defer e.sessions.mu.Unlock()
	delete(e.sessions.lost, key)
	if found := e.sessions.byKey[key]; found != nil {
		e.sessions.remove(key, found)
	}
	return nil
}

// get answers from memory.
func (s *sessions) get(token string) (flashsale.User, bool) {
	b, tag := s.place(*s.table.Load(), token)
	tags := b.tags.Load()
	for n := range b.sessions {
		if byte(tags>>(8*n)) != tag {
			continue
		}
		if found := b.sessions[n].Load(); found != nil && found.token == token {
			return found.user, s.clock() < found.until
		}
	}
	return flashsale.User{}, false
}

// place returns the bucket of a token and its tag there.
func (s *sessions) place(table []bucket, token string) (*bucket, byte) {
	hash := maphash.String(s.seed, token)
	return &table[hash&uint64(len(table)-1)], byte(hash >> 56)
}

// expect announces that a session is being read.
func (s *sessions) expect(token string) *session {
	loading, key := &session{token: token}, SessionKey(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byKey) >= s.max {
		s.clear() // warm tokens come back with one round trip each
	}
	if old := s.byKey[key]; old != nil {
		s.remove(key, old)
	}
	s.byKey[key] = loading
	return loading
}

// put makes a session warm, unless it was invalidated while it was read.
func (s *sessions) put(loading *session, user flashsale.User, ttl time.Duration) {
	if ttl <= 0 || ttl > s.ttl {
		ttl = s.ttl
	}
	warm := newSession(loading.token, user, s.clock()+int64(ttl))
	s.mu.Lock()
	defer s.mu.Unlock()
	key := SessionKey(loading.token)
	if s.byKey[key] != loading {
		return
	}
	s.byKey[key] = warm
	table := *s.table.Load()
	if len(s.byKey) > bucketLoad*len(table) {
		s.resize(2 * len(table)) // and puts this one in, too
		return
	}
	s.insert(table, warm)
}

// insert puts a session into the table; where its bucket is full, another is forgotten.
func (s *sessions) insert(table []bucket, warm *session) {
	b, tag := s.place(table, warm.token)
	at := 0
	for at < bucketSize && b.sessions[at].Load() != nil {
		at++
	}
	if at == bucketSize {
		at = int(tag) % bucketSize
		delete(s.byKey, SessionKey(b.sessions[at].Load().token))
	}
	shift := 8 * at
	b.sessions[at].Store(warm)
	b.tags.Store(b.tags.Load()&^(0xff<<shift) | uint64(tag)<<shift)
}

// remove takes a session back, whether it is warm or announced.
func (s *sessions) remove(key string, old *session) {
	delete(s.byKey, key)
	b, _ := s.place(*s.table.Load(), old.token)
	for n := range b.sessions {
		if b.sessions[n].Load() == old {
			b.sessions[n].Store(nil)
		}
	}
}

// resize makes a table of so many buckets of what is warm.
func (s *sessions) resize(buckets int) {
	table := make([]bucket, buckets)
	for _, known := range s.byKey {
		if known.until > 0 {
			s.insert(table, known)
		}
	}
	s.table.Store(&table)
}

// clear forgets everything.
func (s *sessions) clear() {
	clear(s.byKey)
	s.resize(bucketsMin)
}

// forget takes an announcement back.
func (s *sessions) forget(loading *session) {
	key := SessionKey(loading.token)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[key] == loading {
		delete(s.byKey, key)
	}
}

// invalidate drops the sessions whose keys have changed; nil stands for all, which is also
// what a lost connection means.
func (s *sessions) invalidate(keys []rueidis.RedisMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if keys == nil {
		s.lose()
		return
	}
	for _, message := range keys {
		key, err := message.ToString()
		if err != nil {
			continue
		}
		delete(s.lost, key)
		if found := s.byKey[key]; found != nil {
			s.remove(key, found)
		}
	}
}

// lose keeps what is warm for as long as Redis may not answer.
func (s *sessions) lose() {
	now := s.clock()
	if s.lost == nil || now >= s.lostAt+lostGrace {
		s.lost, s.lostAt, s.restsTo = make(map[string]*session, len(s.byKey)), now, 0
	}
	for key, known := range s.byKey {
		if known.until > now {
			s.lost[key] = known
		}
	}
	s.clear()
}

// rely returns a session that was warm when the connection was lost, if Redis has been asked a
// moment ago and has not answered.
func (s *sessions) rely(token string) (flashsale.User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clock() >= s.restsTo {
		return flashsale.User{}, false
	}
	return s.graced(token)
}

// relyUnanswered is rely for who has just asked in vain.
func (s *sessions) relyUnanswered(token string) (flashsale.User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, ok := s.graced(token)
	if ok {
		s.restsTo = s.clock() + lostRest
	}
	return user, ok
}

func (s *sessions) graced(token string) (flashsale.User, bool) {
	now := s.clock()
	if s.lost == nil || now >= s.lostAt+lostGrace {
		s.lost = nil
		return flashsale.User{}, false
	}
	found := s.lost[SessionKey(token)]
	if found == nil || found.until <= now {
		return flashsale.User{}, false
	}
	return found.user, true
}

// drop forgets a session that Redis does not have.
func (s *sessions) drop(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lost, SessionKey(token))
}
