package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// AdminTokenLenMin is how long the tokens of operators must be: nobody guesses one that is made at
// random.
const AdminTokenLenMin = 24

const (
	opsCookie     = "flashsale_ops"
	opsSessionTTL = 12 * time.Hour
)

// role is what an operator may do.
type role string

const (
	roleAdmin  role = "admin"
	roleViewer role = "viewer" // sees everything that an admin sees, and changes nothing
)

// operator is who sends a request to the ops listener.
type operator struct {
	name string
	role role
}

// operators knows who may do what operators do: whoever brings a token, or the cookie that a browser
// gets for one.
type operators struct {
	tokens  map[role][sha256.Size]byte // of the tokens there are
	key     []byte                     // under which sessions are signed: a new token ends them
	guesses *rate
	faults  *faultLog
	now     func() time.Time
}

func newOperators(admin, viewer string, perSecond int, faults *faultLog) *operators {
	guesses := newRate("admin-guesses", perSecond, 50, newRateClock())
	guesses.neighbour = true // operators are at home here, and so is whoever guesses
	o := &operators{tokens: make(map[role][sha256.Size]byte), guesses: guesses, faults: faults, now: time.Now}
	for role, token := range map[role]string{roleAdmin: admin, roleViewer: viewer} {
		if token != "" {
			o.tokens[role] = sha256.Sum256([]byte(token))
		}
	}
	key := sha256.Sum256([]byte("session\n" + admin + "\n" + viewer))
	o.key = key[:]
	return o
}

// checkAdminTokens refuses tokens that could be guessed or mistaken for each other.
func checkAdminTokens(admin, viewer string) error {
	for name, token := range map[string]string{"AdminToken": admin, "ViewerToken": viewer} {
		if token != "" && len(token) < AdminTokenLenMin {
			return fmt.Errorf("server: %s has %d characters; make one of at least %d, such as with: openssl rand -hex 24",
				name, len(token), AdminTokenLenMin)
		}
	}
	if admin != "" && admin == viewer {
		return fmt.Errorf("server: AdminToken and ViewerToken must differ")
	}
	return nil
}

// bearerOf says whose a token is. Hashes of equal length are compared, so that the time taken tells
// nothing, not even the token's length.
func (o *operators) bearerOf(token []byte) (operator, bool) {
	got := sha256.Sum256(token)
	found, ok := operator{}, false
	for role, want := range o.tokens {
		if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			found, ok = operator{string(role), role}, true
		}
	}
	return found, ok
}

// seal writes a session: who it is, until when, and that we say so.
func (o *operators) seal(who operator, until time.Time) string {
	text := string(who.role) + ":" + who.name + ":" + strconv.FormatInt(until.UnixMilli(), 10)
	mac := hmac.New(sha256.New, o.key)
	mac.Write([]byte(text))
	return text + ":" + hex.EncodeToString(mac.Sum(nil))
}

// open reads a session.
func (o *operators) open(session string) (operator, bool) {
	parts := strings.Split(session, ":")
	if len(session) > 4*tokenLenMax || len(parts) != 4 {
		return operator{}, false
	}
	who := operator{name: parts[1], role: role(parts[0])}
	ms, err := strconv.ParseInt(parts[2], 10, 64)
	until := time.UnixMilli(ms)
	if err != nil || !hmac.Equal([]byte(o.seal(who, until)), []byte(session)) || !o.now().Before(until) {
		return operator{}, false
	}
	_, exists := o.tokens[who.role]
	return who, exists
}

// whoIs says who sends a request, or answers why nobody knows.
func (o *operators) whoIs(ctx *fasthttp.RequestCtx) (who operator, ok bool) {
	if len(o.tokens) == 0 {
		refuse(ctx, problemAdminDisabled)
		return operator{}, false
	}
	token := headerToken(&ctx.Request.Header)
	if len(token) == 0 {
		token = protocolToken(&ctx.Request.Header)
	}
	if len(token) > 0 {
		who, ok = o.bearerOf(token)
	} else if session := ctx.Request.Header.Cookie(opsCookie); len(session) > 0 {
		if who, ok = o.open(string(session)); ok && !meant(ctx) {
			refuse(ctx, problemOrigin)
			return operator{}, false
		}
		if !ok { // it has ended: no guess
			refuse(ctx, problemInvalidToken)
			return operator{}, false
		}
	} else {
		refuse(ctx, problemMissingToken)
		return operator{}, false
	}
	if !ok {
		o.refuseGuess(ctx)
	}
	return who, ok
}

func (o *operators) refuseGuess(ctx *fasthttp.RequestCtx) {
	o.faults.of(ctx, "wrong admin token", "from", clientAddr(ctx).String(), "path", string(ctx.Path()))
	if o.guesses.byAddr(ctx) {
		refuse(ctx, problemInvalidToken)
	}
}

// operatorKey is under which a request keeps who sends it.
type operatorKey struct{}

// read lets operators through, viewers too.
func (o *operators) read(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if who, ok := o.whoIs(ctx); ok {
			ctx.SetUserValue(operatorKey{}, who)
			next(ctx)
		}
	}
}

// change lets those through who may change something.
func (o *operators) change(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return o.read(func(ctx *fasthttp.RequestCtx) {
		if operatorOf(ctx).role != roleAdmin {
			refuse(ctx, problemReadOnly)
			return
		}
		next(ctx)
	})
}

func operatorOf(ctx *fasthttp.RequestCtx) operator {
	who, _ := ctx.UserValue(operatorKey{}).(operator)
	return who
}

// logIn gives a browser the session of a token, under the name by which the log of actions shall
// know who sits there.
func (o *operators) logIn(ctx *fasthttp.RequestCtx) {
	var request struct {
		Token string `json:"token"`
		Name  string `json:"name"`
	}
	if p := decodeStrict(ctx, &request); p != nil {
		refuse(ctx, p)
		return
	}
	if len(o.tokens) == 0 {
		refuse(ctx, problemAdminDisabled)
		return
	}
	if !meant(ctx) && ctx.Request.Header.Peek(fasthttp.HeaderOrigin) != nil {
		refuse(ctx, problemOrigin)
		return
	}
	who, ok := o.bearerOf([]byte(request.Token))
	if !ok {
		o.refuseGuess(ctx)
		return
	}
	if request.Name != "" {
		if !flashsale.ValidUser(request.Name) {
			refuse(ctx, problemInvalidField.at("name", []string{"name"}, "1 to 64 characters of A-Z a-z 0-9 _ . @ + -"))
			return
		}
		who.name = request.Name
	}
	setCookie(ctx, opsCookie, o.seal(who, o.now().Add(opsSessionTTL)), fasthttp.CookieSameSiteStrictMode, int(opsSessionTTL.Seconds()))
	answerOperator(ctx, fasthttp.StatusCreated, who)
}

// logOut takes a browser's session away.
func (o *operators) logOut(ctx *fasthttp.RequestCtx) {
	setCookie(ctx, opsCookie, "", fasthttp.CookieSameSiteStrictMode, 0)
	ctx.Response.Header.SetStatusCode(fasthttp.StatusNoContent)
}

func (o *operators) getSession(ctx *fasthttp.RequestCtx) {
	answerOperator(ctx, fasthttp.StatusOK, operatorOf(ctx))
}

func answerOperator(ctx *fasthttp.RequestCtx, status int, who operator) {
	body := appendString([]byte(`{"name":`), who.name)
	body = appendString(append(body, `,"role":`...), string(who.role))
	answer(ctx, status, append(body, '}'))
}
