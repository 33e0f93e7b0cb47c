package server

import (
	"hash/maphash"
	"math"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// Rates are how many requests a second are answered of one user, or of one client's address, which is
// an IPv4 address or a /64 of IPv6. Four seconds' worth may come at once. 0 is the default, negative
// is no limit. docs/limits.md tells what each is for.
type Rates struct {
	AddrLogins  int // POST and DELETE of sessions. Default 100.
	AddrOrders  int // requests for units. Default 10,000: many shoppers share an address.
	AddrReads   int // what everybody may see, and browsers coming back from Alipay. Default 10,000.
	AdminGuess  int // wrong admin tokens. Default 50.
	UserOrders  int // requests for units. Default 1,000.
	UserPays    int // payments, refunds and cancellations. Default 50.
	UserReads   int // orders, points and sockets. Default 1,000.
	UserUnknown int // requests for units of items that do not exist. Default 25.
}

const (
	rateBurst = 4 // seconds' worth that may come at once
	rateSlots = 1 << 18
)

// rate is one limit: the generic cell rate algorithm, which needs one number a key, the moment at
// which its past requests will have been worked off.
//
// The numbers lie in a table of a fixed size, so that made-up keys cost no memory. Each key has two
// places in it, and the less loaded one counts: an honest key is only held up by others who are over
// the limit in both, which is one in seventeen thousand even while a thousand of them are. No lock is
// taken, and a request that races with another of its key may be left uncounted.
type rate struct {
	name      string
	interval  time.Duration // between requests at the limit; 0: no limit
	window    time.Duration // by how much requests may be ahead of it
	neighbour bool          // requests of this very host count too
	quiet     bool          // it is told only to who is over it
	policy    []byte        // of the header
	clock     func() time.Duration
	seed      maphash.Seed
	due       []atomic.Int64 // of each slot, by the clock
}

// newRateClock starts a clock.
func newRateClock() func() time.Duration {
	started := time.Now()
	return func() time.Duration { return time.Since(started) }
}

func newRate(name string, given, normal int, clock func() time.Duration) *rate {
	r := &rate{name: name, neighbour: given != 0, clock: clock, seed: maphash.MakeSeed()}
	if given == 0 {
		given = normal
	}
	if given < 0 {
		return r
	}
	r.interval = time.Second / time.Duration(given)
	r.window = rateBurst * time.Second
	r.policy = []byte(`"` + name + `";q=` + strconv.Itoa(rateBurst*given) + `;w=` + strconv.Itoa(rateBurst))
	r.due = make([]atomic.Int64, rateSlots)
	return r
}

// take counts a request and returns how many more may follow at once, or, of one too many, how long
// to wait.
func (r *rate) take(hash uint64, now time.Duration) (left int, wait time.Duration) {
	one, other := &r.due[hash%rateSlots], &r.due[hash>>32%rateSlots]
	due := max(min(time.Duration(one.Load()), time.Duration(other.Load())), now) + r.interval
	if ahead := due - now; ahead > r.window {
		return 0, ahead - r.window
	}
	for _, slot := range [...]*atomic.Int64{one, other} {
		if slot.Load() < int64(due) {
			slot.Store(int64(due))
		}
	}
	return int((r.window - (due - now)) / r.interval), 0
}

// byUser reports whether one more request of a user is within the limit, says how many are left, and
// answers if it is not.
func (r *rate) byUser(ctx *fasthttp.RequestCtx, user string) bool {
	return r.interval == 0 || r.count(ctx, maphash.String(r.seed, user))
}

// byAddr does so for the address of the client. Unless the limit was set by hand, this very host is
// no client: it is a proxy that nobody told us of, or a test.
func (r *rate) byAddr(ctx *fasthttp.RequestCtx) bool {
	if r.interval == 0 {
		return true
	}
	from := clientAddr(ctx)
	if !from.IsValid() || !r.neighbour && from.Addr().IsLoopback() {
		return true
	}
	return r.count(ctx, maphash.Comparable[netip.Prefix](r.seed, from))
}

func (r *rate) count(ctx *fasthttp.RequestCtx, hash uint64) bool {
	left, wait := r.take(hash, r.clock())
	if r.quiet && wait == 0 {
		return true
	}
	header := &ctx.Response.Header
	var buf [64]byte
	text := append(append(append(buf[:0], '"'), r.name...), `";r=`...)
	text = strconv.AppendInt(text, int64(left), 10)
	if seconds := int64(math.Ceil(wait.Seconds())); seconds > 0 {
		text = strconv.AppendInt(append(text, `;t=`...), seconds, 10)
		refuse(ctx, problemTooManyRequests)
		header.SetCanonical(headerRetryAfter, strconv.AppendInt(nil, seconds, 10))
	}
	header.SetCanonical(headerRateLimit, text)
	header.SetCanonical(headerRatePolicy, r.policy)
	return wait == 0
}

// rates are the limits of a server.
type rates struct {
	addrLogins, addrOrders, addrReads         *rate
	userOrders, userPays, userReads, unknowns *rate
}

func newRates(given Rates, clock func() time.Duration) *rates {
	r := &rates{
		addrLogins: newRate("logins", given.AddrLogins, 100, clock),
		addrOrders: newRate("address-orders", given.AddrOrders, 10_000, clock),
		addrReads:  newRate("address-reads", given.AddrReads, 10_000, clock),
		userOrders: newRate("orders", given.UserOrders, 1000, clock),
		userPays:   newRate("payments", given.UserPays, 50, clock),
		userReads:  newRate("reads", given.UserReads, 1000, clock),
		unknowns:   newRate("unknown-items", given.UserUnknown, 25, clock),
	}
	r.addrOrders.quiet, r.unknowns.quiet = true, true // the limit of a user's purchases is the one to tell
	return r
}

// fromAddr lets requests through whose client's address is within a limit.
func fromAddr(r *rate, next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if r.byAddr(ctx) {
			next(ctx)
		}
	}
}

// ofUser lets requests through whose user is within a limit.
func ofUser(r *rate, next userHandler) userHandler {
	return func(ctx *fasthttp.RequestCtx, user flashsale.User) {
		if r.byUser(ctx, user.ID) {
			next(ctx, user)
		}
	}
}

// shares bounds what one user holds of something that all share.
type shares struct {
	max int

	mu     sync.Mutex // guards what follows
	byUser map[string]int
}

func newShares(most int) *shares { return &shares{max: most, byUser: make(map[string]int)} }

func (s *shares) take(user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byUser[user] >= s.max {
		return false
	}
	s.byUser[user]++
	return true
}

func (s *shares) give(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byUser[user]--; s.byUser[user] == 0 {
		delete(s.byUser, user)
	}
}
