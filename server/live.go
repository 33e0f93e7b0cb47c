package server

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"flashsale"
)

const (
	framesMax    = 600             // ten minutes of one frame a second
	goneAfter    = 4 * time.Second // without a sign of life
	goneShown    = 10 * time.Minute
	itemsEvery   = 5 * time.Second // while no board is open
	boardItems   = 200
	latencyTurns = 5 // seconds over which quantiles are taken
	boardsMax    = 64
	boardWrite   = 2 * time.Second
)

// frame is one second of the whole installation.
type frame struct {
	AtMS   int64              `json:"at_ms"`
	Values map[string]float64 `json:"v"`
}

// processJSON is a process on the board.
type processJSON struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Version    string `json:"version"`
	Node       int    `json:"node"`
	LeaseMS    int64  `json:"lease_ms"`
	StartedMS  int64  `json:"started_ms"`
	SeenMS     int64  `json:"seen_ms"` // ago
	Gone       bool   `json:"gone"`
	Partitions int    `json:"partitions,omitempty"`
}

// alarmJSON is something that needs a look; its code is explained on the board and in the runbook.
type alarmJSON struct {
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// boardItem is an item on the board.
type boardItem struct {
	ID         flashsale.ItemID `json:"id"`
	SaleID     flashsale.SaleID `json:"sale_id"`
	Product    string           `json:"product"`
	OpensAtMS  int64            `json:"opens_at_ms"`
	ClosesAtMS int64            `json:"closes_at_ms"`
	Total      int64            `json:"total"`
	Held       int64            `json:"held"`  // units in live orders of the ledger
	Stock      int64            `json:"stock"` // in Redis
	State      string           `json:"state"` // in Redis: open, paused, rebuilding; missing
	Limit      int              `json:"limit"`
	PriceFen   int64            `json:"price_fen"`
	Unpaid     int64            `json:"unpaid,omitempty"`
	NextMS     int64            `json:"next_ms,omitempty"` // when the first of them come back
	LastMS     int64            `json:"last_ms,omitempty"`
	History    []int64          `json:"history"` // of the stock, one every five seconds
}

// boardJSON is what every open board is told once a second.
type boardJSON struct {
	Frame      frame             `json:"frame"`
	Processes  []processJSON     `json:"processes"`
	Alarms     []alarmJSON       `json:"alarms"`
	Items      []boardItem       `json:"items"`
	Checks     map[string]string `json:"checks"`
	Durability string            `json:"durability,omitempty"`
}

// seenProcess is what the others said when they were last heard.
type seenProcess struct {
	last, before figures
	heard        time.Time // by our own clock, when it last said something new
	left         bool      // it said goodbye
}

// live merges what all processes publish. It works whether a board is open or not, so that one that
// is opened late has its history.
type live struct {
	config  Config
	client  redis.UniversalClient // nil: nothing is published
	leaving <-chan struct{}

	seen      map[string]*seenProcess // only the loop's
	latencies []map[string]map[float64]float64
	stocks    map[flashsale.ItemID][]int64
	items     []boardItem
	itemsAt   time.Time

	mu     sync.Mutex // guards what follows
	frames []frame
	now    []byte        // the newest board, encoded
	turn   chan struct{} // closed with the next one
	open   int
	boards sync.WaitGroup
}

func newLive(config Config, leaving <-chan struct{}) (l *live, err error) {
	l = &live{
		config: config, leaving: leaving, seen: make(map[string]*seenProcess), stocks: make(map[flashsale.ItemID][]int64),
		turn: make(chan struct{}),
	}
	if config.RedisURL != "" {
		l.client, err = newFiguresClient(config.RedisURL)
	}
	return l, err
}

func (l *live) run(ctx context.Context) {
	if l.client != nil {
		defer func() { _ = l.client.Close() }()
	}
	tick := time.NewTicker(figuresEvery)
	defer tick.Stop()
	for {
		l.step(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			l.boards.Wait()
			return
		}
	}
}

// step makes the frame of one second.
func (l *live) step(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, figuresCall)
	defer cancel()
	now := time.Now()
	if l.client != nil {
		if told, err := l.client.HGetAll(call, FiguresKey).Result(); err == nil {
			l.hear(told, now)
			l.forget(call, now)
		}
	}
	board := boardJSON{
		Frame: l.merge(now), Processes: l.processes(now), Checks: l.probe(call), Items: l.look(ctx, now),
	}
	if l.config.Durability != nil {
		board.Durability, _ = l.config.Durability(call)
	}
	board.Alarms = alarmsOf(board)
	text, err := json.Marshal(board)
	if err != nil {
		l.config.Logger.Error("encode the board", "error", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frames = append(l.frames, board.Frame)
	if over := len(l.frames) - framesMax; over > 0 {
		l.frames = slices.Delete(l.frames, 0, over)
	}
	l.now = text
	close(l.turn)
	l.turn = make(chan struct{})
}

// hear takes in what the processes have published.
func (l *live) hear(told map[string]string, now time.Time) {
	for id, text := range told {
		var f figures
		if json.Unmarshal([]byte(text), &f) != nil {
			continue // of another version
		}
		p := l.seen[id]
		switch {
		case p == nil:
			p = &seenProcess{before: f}
			l.seen[id] = p
		case f.AtMS == p.last.AtMS:
			p.before = p.last // nothing new: no rates
			continue
		default:
			p.before = p.last
		}
		p.last, p.heard, p.left = f, now, false
	}
	for id, p := range l.seen {
		if _, ok := told[id]; !ok {
			p.left = true
		}
	}
}

// forget drops processes that ended long ago.
func (l *live) forget(ctx context.Context, now time.Time) {
	for id, p := range l.seen {
		if p.left && now.Sub(p.heard) > goneAfter || now.Sub(p.heard) > goneShown {
			_ = l.client.HDel(ctx, FiguresKey, id).Err() // tried again
			delete(l.seen, id)
		}
	}
}

func (p *seenProcess) gone(now time.Time) bool { return p.left || now.Sub(p.heard) > goneAfter }

func (l *live) processes(now time.Time) []processJSON {
	list := make([]processJSON, 0, len(l.seen))
	for _, p := range l.seen {
		list = append(list, processJSON{
			Kind: p.last.Kind, Name: p.last.Name, Version: p.last.Version, Node: p.last.Node, LeaseMS: p.last.LeaseMS,
			StartedMS: p.last.StartedMS, SeenMS: now.Sub(p.heard).Milliseconds(), Gone: p.gone(now), Partitions: p.last.Partitions,
		})
	}
	slices.SortFunc(list, func(a, b processJSON) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.StartedMS, b.StartedMS), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// summed are gauges of which every process has a part; of the others each says the whole.
var summed = map[string]bool{"lane_depth": true, "sockets": true, "waiters": true, "outbox_waiting": true}

// merge adds the processes up.
func (l *live) merge(now time.Time) frame {
	values := make(map[string]float64)
	quantiles := make(map[string]map[float64]float64)
	for _, p := range l.seen {
		if p.gone(now) {
			continue
		}
		seconds := float64(p.last.AtMS-p.before.AtMS) / 1000
		own := make(map[string]float64)
		for key, value := range p.last.Values {
			name, _, _ := strings.Cut(key, "/")
			base, counter := strings.CutSuffix(name, "_total")
			if !counter {
				switch name {
				case "stream_oldest_seconds", "consumer_stands", "audit_timestamp_seconds":
					own[name] = max(own[name], value)
				case "conservation_gap":
					own[name] += math.Abs(value)
				default:
					own[name] += value
				}
				continue
			}
			values[name] += value
			if rise := value - p.before.Values[key]; seconds > 0 && rise > 0 {
				values[base] += rise / seconds
				if key != name {
					values[base+key[len(name):]] += rise / seconds
				}
			}
		}
		for name, value := range own {
			if summed[name] {
				values[name] += value
			} else {
				values[name] = max(values[name], value)
			}
		}
		addBuckets(quantiles, p)
	}
	l.latencies = append(l.latencies, quantiles)
	if len(l.latencies) > latencyTurns {
		l.latencies = slices.Delete(l.latencies, 0, 1)
	}
	window := make(map[string]map[float64]float64)
	for _, turn := range l.latencies {
		for name, buckets := range turn {
			for bound, count := range buckets {
				if window[name] == nil {
					window[name] = make(map[float64]float64)
				}
				window[name][bound] += count
			}
		}
	}
	for name, buckets := range window {
		for suffix, q := range map[string]float64{"/p50": 0.5, "/p99": 0.99} {
			if at, ok := quantile(buckets, q); ok {
				values[name+suffix] = at
			}
		}
	}
	for name, value := range values {
		values[name] = math.Round(value*1e6) / 1e6
	}
	return frame{now.UnixMilli(), values}
}

// addBuckets adds how many observations a process has made since it was last heard.
func addBuckets(into map[string]map[float64]float64, p *seenProcess) {
	for name, buckets := range p.last.Buckets {
		if into[name] == nil {
			into[name] = make(map[float64]float64)
		}
		for bound, count := range buckets {
			at, err := strconv.ParseFloat(bound, 64)
			if before := p.before.Buckets[name][bound]; err == nil && count >= before {
				into[name][at] += float64(count - before)
			}
		}
	}
}

// quantile is below which bound a share of the observations lies.
func quantile(cumulated map[float64]float64, q float64) (float64, bool) {
	bounds := slices.Sorted(maps.Keys(cumulated))
	if len(bounds) == 0 || cumulated[bounds[len(bounds)-1]] == 0 {
		return 0, false
	}
	rank, below, from := q*cumulated[bounds[len(bounds)-1]], 0.0, 0.0
	for _, bound := range bounds {
		if count := cumulated[bound]; count >= rank {
			if math.IsInf(bound, 1) || count == below {
				return from, true
			}
			return from + (bound-from)*(rank-below)/(count-below), true
		}
		below, from = cumulated[bound], bound
	}
	return from, true
}

func (l *live) probe(ctx context.Context) map[string]string {
	found := make(map[string]string, len(l.config.Checks))
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, check := range l.config.Checks {
		all.Go(func() {
			state := "ok"
			if check.Probe(ctx) != nil {
				state = "unreachable"
			}
			mu.Lock()
			defer mu.Unlock()
			found[check.Name] = state
		})
	}
	all.Wait()
	return found
}

// look reads the items that are on sale or will be: every second while a board is open.
func (l *live) look(ctx context.Context, now time.Time) []boardItem {
	l.mu.Lock()
	open := l.open > 0
	l.mu.Unlock()
	sample := now.Sub(l.itemsAt) >= itemsEvery
	if !open && !sample {
		return l.items
	}
	call, cancel := context.WithTimeout(ctx, figuresCall)
	defer cancel()
	found, err := l.config.Ledger.OnSale(call, now.Add(-time.Hour), boardItems)
	if err != nil {
		return l.items // as they were
	}
	ids := make([]flashsale.ItemID, len(found))
	for n, item := range found {
		ids[n] = item.ID
	}
	accounts, _ := l.config.Live.Items(call, ids) // with an error, what could be read
	var unpaid map[flashsale.ItemID]flashsale.UnpaidUnits
	if l.config.Unpaid != nil && open {
		unpaid, _ = l.config.Unpaid(call) // for people: left out when it cannot be read
	}
	l.items = make([]boardItem, 0, len(found))
	for _, item := range found {
		shown := boardItem{
			ID: item.ID, SaleID: item.SaleID, Product: item.Product, OpensAtMS: item.OpensAt.UnixMilli(),
			ClosesAtMS: item.ClosesAt.UnixMilli(), Total: item.Total, Held: item.Total - item.Stock, State: "missing",
			Limit: item.Limit, PriceFen: item.PriceFen,
		}
		if account, ok := accounts[item.ID]; ok {
			shown.Stock, shown.State = account.Stock, account.State
		}
		if u, ok := unpaid[item.ID]; ok {
			shown.Unpaid, shown.NextMS, shown.LastMS = u.Units, u.First.UnixMilli(), u.Last.UnixMilli()
		}
		if sample {
			l.stocks[item.ID] = append(l.stocks[item.ID], shown.Stock)
			l.stocks[item.ID] = l.stocks[item.ID][max(0, len(l.stocks[item.ID])-int(goneShown/itemsEvery)):]
		}
		shown.History = slices.Clone(l.stocks[item.ID])
		l.items = append(l.items, shown)
	}
	if sample {
		l.itemsAt = now
	}
	return l.items
}

// backlogOld is from when on the oldest order in the stream is an alarm, in seconds.
const backlogOld = 5

// alarmsOf says what needs a look.
func alarmsOf(b boardJSON) []alarmJSON {
	alarms := []alarmJSON{}
	raise := func(when bool, code, detail string) {
		if when {
			alarms = append(alarms, alarmJSON{code, detail})
		}
	}
	v, number := b.Frame.Values, func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	raise(b.Checks["redis"] == "unreachable", "redis_away", "")
	raise(b.Checks["postgres"] == "unreachable", "postgres_away", "")
	raise(v["lost_entries_total"] > 0, "lost_entries", number(v["lost_entries_total"]))
	raise(v["invariant_broken"] > 0, "invariant_broken", number(v["invariant_broken"]))
	raise(v["conservation_gap"] > 0, "conservation_gap", number(v["conservation_gap"]))
	raise(!slices.ContainsFunc(b.Processes, func(p processJSON) bool { return strings.HasSuffix(p.Kind, "work") && !p.Gone }) &&
		b.Checks["redis"] == "ok", "no_worker", "")
	for _, p := range b.Processes {
		raise(p.Gone, "process_gone", p.Kind+" "+p.Name)
		raise(!p.Gone && p.Node >= 0 && p.LeaseMS <= 0, "lease_lost", p.Name)
	}
	raise(v["consumer_stands"] > 0, "consumer_stands", "")
	raise(v["dead_length"] > 0, "dead_letters", number(v["dead_length"]))
	raise(v["stream_oldest_seconds"] > backlogOld, "backlog_old", number(math.Round(v["stream_oldest_seconds"])))
	raise(v["suspect_items"] > 0, "suspect_items", number(v["suspect_items"]))
	raise(v["outbox_waiting"] > 0, "outbox_waiting", number(v["outbox_waiting"]))
	raise(v["misplaced_keys_total"] > 0, "misplaced_keys", number(v["misplaced_keys_total"]))
	for _, item := range b.Items {
		raise(item.State == "rebuilding", "rebuilding", item.ID.String()+" "+item.Product)
	}
	return alarms
}

// latest returns the history with the newest board, the newest board, and what is closed with the next.
func (l *live) latest() (history []frame, now []byte, turn <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.frames), l.now, l.turn
}

// enter counts a board that is opened.
func (l *live) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= boardsMax {
		return false
	}
	l.open++
	l.boards.Add(1)
	return true
}

func (l *live) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	l.boards.Done()
}

// openLive is the feed of the board: its history, then a frame a second.
func (s *Server) openLive(ctx *fasthttp.RequestCtx) {
	if !wellFormed(&ctx.Request.Header) {
		refuse(ctx, problemNoWebsocket)
		return
	}
	if origin := string(ctx.Request.Header.Peek(fasthttp.HeaderOrigin)); origin != "" && !sameOrigin(origin, string(ctx.Host())) {
		refuse(ctx, problemOrigin)
		return
	}
	if s.left() || !s.live.enter() {
		refuse(ctx, problemOverloaded)
		return
	}
	upgrader := websocket.FastHTTPUpgrader{
		Subprotocols: []string{socketProtocol}, CheckOrigin: func(*fasthttp.RequestCtx) bool { return true },
		Error: func(ctx *fasthttp.RequestCtx, _ int, _ error) { refuse(ctx, problemNoWebsocket) },
	}
	if err := upgrader.Upgrade(ctx, s.serveLive); err != nil {
		s.live.leave()
	}
}

// serveLive runs on a goroutine of its own. A second one reads, to notice the end.
func (s *Server) serveLive(conn *websocket.Conn) {
	defer s.live.leave()
	gone := make(chan struct{})
	var reading sync.WaitGroup
	defer reading.Wait()
	defer func() { _ = conn.Close() }()
	reading.Go(func() {
		defer close(gone)
		conn.SetReadLimit(socketReadMax)
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	})
	history, now, turn := s.live.latest()
	send := func(text []byte) bool {
		_ = conn.SetWriteDeadline(time.Now().Add(boardWrite))
		return conn.WriteMessage(websocket.TextMessage, text) == nil
	}
	first, err := json.Marshal(map[string]any{"history": history})
	if err != nil || !send(first) {
		return
	}
	for len(now) == 0 || send(now) {
		select {
		case <-turn:
			_, now, turn = s.live.latest()
		case <-gone:
			return
		case <-s.leaving:
			_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, ""), time.Now().Add(boardWrite))
			return
		}
	}
}
