package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flashsale"
)

const (
	socketReadMax    = 1 << 10 // bytes of a message from a shopper; none has a meaning
	socketBuffer     = 256     // a state is shorter
	socketCloseGrace = time.Second
	sessionsEvery    = 5 * time.Second // how often the sessions of open sockets are looked at
)

// sockets is the registry of open websockets: fasthttp forgets a connection that was upgraded.
type sockets struct {
	max, maxPerUser int
	closing         chan struct{} // closed at shutdown

	mu      sync.Mutex // guards what follows
	open    int
	byUser  map[string]int
	byToken map[string]map[*socket]struct{}
	closed  bool
	empty   chan struct{} // closed when none is left after the shutdown began
}

func newSockets(config Config) *sockets {
	return &sockets{
		max: config.SocketsMax, maxPerUser: config.SocketsPerUserMax,
		closing: make(chan struct{}), empty: make(chan struct{}), byUser: make(map[string]int),
		byToken: make(map[string]map[*socket]struct{}),
	}
}

// room returns why a user may not open one more socket, or nil.
func (k *sockets) room(user string) *problem {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.roomLocked(user)
}

func (k *sockets) roomLocked(user string) *problem {
	switch {
	case k.closed || k.open >= k.max:
		return problemOverloaded
	case k.byUser[user] >= k.maxPerUser:
		return problemTooManySockets
	}
	return nil
}

func (k *sockets) add(user string, s *socket) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.roomLocked(user) != nil {
		return false
	}
	k.open++
	k.byUser[user]++
	if k.byToken[s.token] == nil {
		k.byToken[s.token] = make(map[*socket]struct{})
	}
	k.byToken[s.token][s] = struct{}{}
	return true
}

func (k *sockets) remove(user string, s *socket) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if delete(k.byToken[s.token], s); len(k.byToken[s.token]) == 0 {
		delete(k.byToken, s.token)
	}
	k.open--
	if k.byUser[user]--; k.byUser[user] == 0 {
		delete(k.byUser, user)
	}
	if k.closed && k.open == 0 {
		close(k.empty)
	}
}

// endSession closes the sockets of a session that is over.
func (k *sockets) endSession(token string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for s := range k.byToken[token] {
		select {
		case s.ended <- struct{}{}:
		default: // it was told before
		}
	}
}

func (k *sockets) tokens() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Keys(k.byToken))
}

func (k *sockets) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.open
}

// shutdown closes all sockets and waits until they are gone. It is called once.
func (k *sockets) shutdown(ctx context.Context) error {
	k.mu.Lock()
	k.closed = true
	if k.open == 0 {
		close(k.empty)
	}
	k.mu.Unlock()
	close(k.closing)
	select {
	case <-k.empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close %d websockets: %w", k.count(), context.Cause(ctx))
	}
}

// newUpgrader checks origins: a browser lets every page open a socket, and adds its cookie.
func newUpgrader(origins *origins) *websocket.FastHTTPUpgrader {
	return &websocket.FastHTTPUpgrader{
		ReadBufferSize: socketBuffer, WriteBufferSize: socketBuffer,
		WriteBufferPool: new(sync.Pool), // an idle socket holds no write buffer
		Subprotocols:    []string{socketProtocol},
		Error: func(ctx *fasthttp.RequestCtx, status int, _ error) {
			if status == fasthttp.StatusForbidden {
				refuse(ctx, problemOrigin)
				return
			}
			refuseHandshake(ctx)
		},
		CheckOrigin: func(ctx *fasthttp.RequestCtx) bool {
			header := &ctx.Request.Header
			return origins.mayOpen(string(header.Peek(fasthttp.HeaderOrigin)), string(ctx.Host()), requestLogin(header).cookie)
		},
	}
}

// wellFormed checks what the upgrader does not: the key is 16 bytes, the version is one and ours,
// and the page is of one origin at most.
func wellFormed(header *fasthttp.RequestHeader) bool {
	keys := header.PeekAll(fasthttp.HeaderSecWebSocketKey)
	if len(keys) != 1 {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(string(keys[0]))
	versions := header.PeekAll(fasthttp.HeaderSecWebSocketVersion)
	return err == nil && len(key) == 16 && len(versions) == 1 && string(versions[0]) == "13" &&
		len(header.PeekAll(fasthttp.HeaderOrigin)) <= 1
}

func refuseHandshake(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.Set(fasthttp.HeaderSecWebSocketVersion, "13")
	refuse(ctx, problemNoWebsocket)
}

// orderEvents upgrades to a websocket that tells the state of an order and each change of it.
func (s *Server) orderEvents(ctx *fasthttp.RequestCtx, user flashsale.User) {
	ref, ok := requestedOrder(ctx, user)
	if !ok {
		return
	}
	order, err := s.findOrder(s.base, ref)
	if err != nil {
		s.refuseOrderFault(ctx, "order events", err)
		return
	}
	if !wellFormed(&ctx.Request.Header) {
		refuseHandshake(ctx)
		return
	}
	if p := s.sockets.room(user.ID); p != nil {
		refuse(ctx, p)
		return
	}
	token := string(requestLogin(&ctx.Request.Header).token)
	// The error has been answered by the upgrader.
	_ = s.upgrader.Upgrade(ctx, func(conn *websocket.Conn) { s.serveSocket(conn, order, token) })
}

// serveSocket runs on a goroutine of its own, outside of the recovery around requests. It
// reads; a second goroutine, which it waits for, is the only one that writes states.
func (s *Server) serveSocket(conn *websocket.Conn, order flashsale.Order, token string) {
	defer func() { s.recovered(recover(), order.OrderNo) }()
	k := &socket{server: s, conn: conn, token: token, gone: make(chan struct{}), ended: make(chan struct{}, 1)}
	if !s.sockets.add(order.User, k) {
		s.closeSocket(conn, websocket.CloseTryAgainLater, "too many sockets")
		return
	}
	defer s.sockets.remove(order.User, k)
	k.follower = s.follow(order)
	defer k.follower.stop()
	var writing sync.WaitGroup
	writing.Go(k.write)
	defer writing.Wait() // the connection is reused once this function returns
	defer close(k.gone)
	k.read()
}

// watchSessions closes the sockets of sessions that were ended elsewhere. Sessions are warm, so a
// look costs no round trip, and Redis tells what changes: an end shows after one turn.
func (s *Server) watchSessions(ctx context.Context) {
	turn := time.NewTicker(sessionsEvery)
	defer turn.Stop()
	for {
		select {
		case <-turn.C:
			s.checkSessions(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) checkSessions(ctx context.Context) {
	for _, token := range s.sockets.tokens() {
		if ctx.Err() != nil {
			return
		}
		if _, err := s.config.Sessions.Session(ctx, token); errors.Is(err, flashsale.ErrNotFound) {
			s.sockets.endSession(token)
		}
	}
}

// socket is one open websocket.
type socket struct {
	server   *Server
	conn     *websocket.Conn
	token    string // of the session that opened it
	follower *follower
	gone     chan struct{} // closed when the peer is
	ended    chan struct{} // receives once the session is over
	leaving  sync.Mutex    // guards left and the read deadline that belongs to it
	left     bool          // we have said goodbye
}

// read waits for pongs and for the end. What a shopper says has no meaning and is dropped; a
// message above the limit ends the socket.
func (k *socket) read() {
	k.conn.SetReadLimit(socketReadMax)
	k.extend()
	k.conn.SetPongHandler(func(string) error {
		k.extend()
		return nil
	})
	for {
		_, message, err := k.conn.NextReader()
		if err == nil {
			_, err = io.Copy(io.Discard, message) // so that its fragments count together
		}
		if err != nil {
			return
		}
	}
}

func (k *socket) extend() {
	k.leaving.Lock()
	defer k.leaving.Unlock()
	if !k.left {
		_ = k.conn.SetReadDeadline(time.Now().Add(2 * k.server.config.SocketPing))
	}
}

// leave says goodbye and gives the peer a moment to say it too.
func (k *socket) leave(code int, text string) {
	k.leaving.Lock()
	defer k.leaving.Unlock()
	k.left = true
	k.server.closeSocket(k.conn, code, text)
	_ = k.conn.SetReadDeadline(time.Now().Add(socketCloseGrace))
}

// write sends the state at once and then each change, until a final state.
func (k *socket) write() {
	defer func() { k.server.recovered(recover(), k.follower.order.OrderNo) }()
	ping := time.NewTicker(k.server.config.SocketPing)
	defer ping.Stop()
	f := k.follower
	for moved := true; ; {
		if moved && !k.send() {
			return
		}
		moved = false
		select {
		case event, ok := <-f.watch.events:
			if !ok {
				k.server.metrics.dropped.Inc()
				k.leave(websocket.CloseTryAgainLater, "reading too slowly")
				return
			}
			moved = f.hear(event)
		case <-f.timer.C:
			moved = f.tick()
		case <-ping.C:
			deadline := time.Now().Add(k.server.config.SocketWrite)
			if k.conn.WriteControl(websocket.PingMessage, nil, deadline) != nil {
				k.drop()
				return
			}
		case <-k.server.sockets.closing:
			k.leave(websocket.CloseGoingAway, "server is shutting down")
			return
		case <-k.ended:
			k.leave(websocket.ClosePolicyViolation, "logged out")
			return
		case <-k.gone:
			return
		}
	}
}

// send writes the state and reports whether more may follow.
func (k *socket) send() bool {
	f := k.follower
	_ = k.conn.SetWriteDeadline(time.Now().Add(k.server.config.SocketWrite))
	body := appendState(make([]byte, 0, socketBuffer), f.order.OrderNo, f.status, f.reason)
	if err := k.conn.WriteMessage(websocket.TextMessage, body); err != nil {
		k.drop()
		return false
	}
	if f.status.Final() {
		k.leave(websocket.CloseNormalClosure, "")
		return false
	}
	return true
}

// drop ends a socket whose peer takes nothing any more.
func (k *socket) drop() {
	select {
	case <-k.gone: // it was the peer who left
	default:
		k.server.metrics.dropped.Inc()
	}
	k.leaving.Lock()
	defer k.leaving.Unlock()
	k.left = true
	_ = k.conn.SetReadDeadline(time.Now()) // wakes the reader
}

func (s *Server) closeSocket(conn *websocket.Conn, code int, text string) {
	message := websocket.FormatCloseMessage(code, text)
	deadline := time.Now().Add(s.config.SocketWrite)
	err := conn.WriteControl(websocket.CloseMessage, message, deadline)
	if err != nil && !errors.Is(err, websocket.ErrCloseSent) {
		s.logger.Debug("close websocket", "error", err)
	}
}

// recovered keeps a bug in the life of one socket from ending the process.
func (s *Server) recovered(v any, order flashsale.OrderNo) {
	if v != nil {
		s.metrics.panics.Inc()
		s.faults.log("panic in websocket", "order", order, "panic", v, "stack", string(debug.Stack()))
	}
}
