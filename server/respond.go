package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
)

const (
	typeJSON    = "application/json"
	typeProblem = "application/problem+json"
)

// problem is an answer that is not a success: RFC 9457, with a stable code.
type problem struct {
	status     int
	retryAfter []byte // seconds; nil: no such header
	body       []byte // an object without its end: further members, and the request's id, follow
}

// The table of everything that can be refused. Codes are stable; texts are not.
var (
	problemMalformedRequest = refusal(400, "malformed_request", "The request is not well-formed HTTP.")
	problemMalformedJSON    = refusal(400, "malformed_json", "The body is not one JSON value in UTF-8.")
	problemItemID           = refusal(400, "invalid_item_id", "An item id is 1 to 19 digits.")
	problemSaleID           = refusal(400, "invalid_sale_id", "A sale id is 1 to 19 digits.")
	problemOrderNo          = refusal(400, "invalid_order_no", "An order_no is 1 to 19 digits.")
	problemKeyReused        = refusal(422, "idempotency_key_reused", "This Idempotency-Key was used for another quantity. A new attempt takes a new key.")
	problemIdempotencyKey   = refusal(400, "invalid_idempotency_key", "An Idempotency-Key is 1 to 128 characters of [A-Za-z0-9_.:@+/=-].")
	problemLookUp           = refusal(400, "invalid_look_up", "Give one of user and trade: a user's id, or the number of a trade or refund.")
	problemFull             = refusal(400, "invalid_full", "full is 1 or left out.")
	problemWait             = refusal(400, "invalid_wait", "wait is a duration such as 5s, at most 30s.")
	problemStatus           = refusal(400, "invalid_status", "status is a state of an order, such as pending.")
	problemSaleState        = refusal(400, "invalid_state", "state is a state of a sale: upcoming, open or ended.")
	problemLimit            = refusal(400, "invalid_limit", "limit is a number from 1 to 100.")
	problemFormat           = refusal(400, "invalid_format", "format is csv or ndjson.")
	problemCursor           = refusal(400, "invalid_cursor", "before is the next_cursor of the previous page.")
	problemParameter        = refusal(400, "unknown_parameter", "The query has a parameter that is not known here.")
	problemParameterTwice   = refusal(400, "repeated_parameter", "A parameter of the query was given more than once.")
	problemNoWebsocket      = refusal(400, "websocket_required", "This address speaks websocket, version 13, only.")
	problemMissingToken     = refusal(401, "missing_token", "A token is required: Authorization: Bearer <token>.")
	problemInvalidToken     = refusal(401, "invalid_token", "The token is unknown or has expired.")
	problemAdminDisabled    = refusal(403, "admin_disabled", "No admin token is configured.")
	problemReadOnly         = refusal(403, "read_only", "This token sees everything and changes nothing.")
	problemOrigin           = refusal(403, "origin_not_allowed", "Pages of this origin may not do this.")
	problemNotFound         = refusal(404, "not_found", "There is nothing at this address.")
	problemItemNotFound     = refusal(404, "item_not_found", "There is no such item.")
	problemSaleNotFound     = refusal(404, "sale_not_found", "There is no such sale.")
	problemOrderNotFound    = refusal(404, "order_not_found", "You have no such order.")
	problemRefundNotFound   = refusal(404, "refund_not_found", "There is no such refund.")
	problemNotCancelling    = refusal(404, "sale_not_cancelled", "The sale was not cancelled.")
	problemMethod           = refusal(405, "method_not_allowed", "The address does not take this method.")
	problemTimeout          = refusal(408, "request_timeout", "The request did not arrive in time.")
	problemSoldOut          = refusal(409, "sold_out", "Not enough units are left.")
	problemDuplicateOrder   = refusal(409, "duplicate_order", "You hold an order of this item.")
	problemLimitReached     = refusal(409, "limit_reached", "That would exceed what one user may hold of this item.")
	problemNotStarted       = refusal(409, "not_started", "The sale has not opened.")
	problemEnded            = refusal(409, "ended", "The sale is over.")
	problemPaused           = refusal(409, "paused", "The item is paused.")
	problemNotCancellable   = refusal(409, "not_cancellable", "Only an unpaid order can be cancelled.")
	problemOrderPending     = later(409, "order_pending", "The order is on its way to the ledger: ask again in a moment.", 1)
	problemNotPayable       = refusal(409, "not_payable", "Only an unpaid order can be paid.")
	problemNotRefundable    = refusal(409, "not_refundable", "Only a paid order can be refunded.")
	problemMethodMissing    = refusal(409, "method_unavailable", "The order cannot be paid in this way.")
	problemPoints           = refusal(409, "insufficient_points", "You have too few points.")
	problemPaymentClosed    = refusal(409, "payment_closed", "The payment was ended: the order cannot be paid in this way any more.")
	problemPaymentRefused   = refusal(409, "payment_refused", "The payment provider does not take this payment.")
	problemTooLate          = refusal(409, "too_late", "Too little time is left to pay.")
	problemSaleSold         = refusal(409, "sale_has_orders", "Somebody has bought from the sale: it stays.")
	problemSaleCancelled    = refusal(409, "sale_cancelled", "The sale was cancelled as a whole.")
	problemNotChangeable    = refusal(409, "not_changeable", "The item is in a state that does not allow this change.")
	problemRefundState      = refusal(409, "refund_not_open", "The refund is in a state in which there is nothing to do about it.")
	problemRefTaken         = refusal(409, "ref_taken", "The ref stands for another grant.")
	problemPointsLimit      = refusal(409, "points_limit_reached", "That would exceed what one user may be given.")
	problemBodyTooLarge     = refusal(413, "body_too_large", "The body is too large.")
	problemMediaType        = refusal(415, "unsupported_media_type", "The body must be application/json.")
	problemMisdirected      = refusal(421, "misdirected_request", "This listener does not answer under that host name.")
	problemRequestKeyReused = refusal(422, "idempotency_key_reused", "This Idempotency-Key was used for another request. A new attempt takes a new key.")
	problemBody             = refusal(422, "invalid_body", "The body must be a JSON object.")
	problemUnknownField     = refusal(422, "unknown_field", "The body has a member that is not known.")
	problemInvalidField     = refusal(422, "invalid_field", "A member of the body is not acceptable.")
	problemFieldTwice       = refusal(400, "repeated_field", "A member of the body was given more than once.")
	problemFieldCase        = refusal(400, "misspelt_field", "A member of the body is known in another case only.")
	problemVersion          = refusal(505, "http_version_not_supported", "This is neither HTTP/1.1 nor HTTP/1.0.")
	problemQuantity         = refusal(422, "invalid_quantity", "quantity is a whole number from 1 to 10000.")
	problemHeadersTooLarge  = refusal(431, "headers_too_large", "The request line and headers are too large.")
	problemInternal         = refusal(500, "internal", "This is a fault of the server.")

	problemTooManyRequests = later(429, "too_many_requests", "That is more than anybody needs: wait.", 1)
	problemTooManyWaiters  = later(429, "too_many_waiters", "Too many of your requests are waiting.", 1)
	problemTooManyConns    = later(429, "too_many_connections", "Your address holds too many connections.", 5)
	problemTooManySockets  = later(429, "too_many_sockets", "You hold too many open sockets.", 5)
	problemOverloaded      = later(503, "overloaded", "Too many requests are waiting: ask again.", 1)
	problemNotReady        = later(503, "not_ready", "The item is being prepared: ask again.", 1)
	problemUnavailable     = later(503, "unavailable", "The service cannot answer now: ask again.", 1)
	problemOutcomeUnknown  = later(503, "outcome_unknown",
		"The order may have been accepted. Ask again with the same Idempotency-Key to learn what happened.", 1)
	problemPaymentUnknown = later(503, "outcome_unknown",
		"The payment may have been made. Ask again: nothing is paid twice.", 1)
	problemChangeUnknown = later(503, "outcome_unknown",
		"The change may have been made. Ask again with the same Idempotency-Key, or look before you ask again.", 1)
)

// outcomeProblems are the answers to requests for units that gain none. Accepted and Replayed
// have no entry.
var outcomeProblems = [...]*problem{
	flashsale.SoldOut:        problemSoldOut,
	flashsale.DuplicateOrder: problemDuplicateOrder,
	flashsale.LimitReached:   problemLimitReached,
	flashsale.NotStarted:     problemNotStarted,
	flashsale.Ended:          problemEnded,
	flashsale.Paused:         problemPaused,
	flashsale.KeyReused:      problemKeyReused,
	flashsale.ItemNotFound:   problemItemNotFound,
	flashsale.NotReady:       problemNotReady,
	flashsale.Overloaded:     problemOverloaded,
}

// paymentProblems are the answers to requests to pay or to refund that do neither. The other
// outcomes have no entry.
var paymentProblems = [...]*problem{
	flashsale.NotPayable:         problemNotPayable,
	flashsale.NotRefundable:      problemNotRefundable,
	flashsale.MethodUnavailable:  problemMethodMissing,
	flashsale.InsufficientPoints: problemPoints,
	flashsale.PaymentClosed:      problemPaymentClosed,
	flashsale.TooLate:            problemTooLate,
	flashsale.PaymentRefused:     problemPaymentRefused,
}

// typePage is where the type of a problem leads: the page that tells of its code.
const typePage = "/docs/api.md#"

func refusal(status int, code, title string) *problem {
	body := append([]byte(`{"type":"`+typePage), code...)
	body = append(append(body, `","status":`...), strconv.Itoa(status)...)
	body = append(body, `,"code":"`...)
	body = append(body, code...)
	body = append(body, `","title":`...)
	return &problem{status: status, body: appendString(body, title)}
}

func later(status int, code, title string, seconds int) *problem {
	p := refusal(status, code, title)
	p.retryAfter = strconv.AppendInt(nil, int64(seconds), 10)
	return p
}

// with returns a copy of the problem with one further member.
func (p *problem) with(name, value string) *problem {
	more := *p
	more.body = appendString(p.open(nil, name), value)
	return &more
}

// at returns a copy of the problem that says which member of the body it is about, and why if that
// is known.
func (p *problem) at(field string, path []string, why string) *problem {
	more := p.with("field", shorten(field))
	if why != "" {
		more = more.with("detail", why)
	}
	more.body = appendString(append(more.open(nil, "errors"), `[{"pointer":`...), pointer(path))
	if why != "" {
		more.body = appendString(append(more.body, `,"detail":`...), why)
	}
	more.body = append(more.body, `}]`...)
	return more
}

// instance is the member that names this one occurrence; the log names it alike.
const instance = `,"instance":"urn:flashsale:request:`

// complete returns the body of an answer to a request.
func (p *problem) complete(id []byte) []byte {
	return append(append(append(bytes.Clone(p.body), instance...), id...), `"}`...)
}

// open appends the problem up to the value of one further member.
func (p *problem) open(dst []byte, name string) []byte {
	dst = append(dst, p.body...)
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	return append(dst, `":`...)
}

// Header names in the form in which they are sent, for the setters that do not normalize.
var (
	headerLocation     = []byte(fasthttp.HeaderLocation)
	headerRetryAfter   = []byte(fasthttp.HeaderRetryAfter)
	headerAuthenticate = []byte("Www-Authenticate")
	headerCacheControl = []byte(fasthttp.HeaderCacheControl)
	headerRateLimit    = []byte("Ratelimit")
	headerRatePolicy   = []byte("Ratelimit-Policy")
	headerReplayed     = []byte("Idempotent-Replayed")
	headerVary         = []byte(fasthttp.HeaderVary)
	headerETag         = []byte("Etag")
	schemeBearer       = []byte("Bearer")
	valueTrue          = []byte("true")
	cacheNothing       = []byte("no-store")
	cacheBriefly       = []byte("public, max-age=1")
	varyByEncoding     = []byte(fasthttp.HeaderAcceptEncoding)
)

// beginAnswer sets what every answer says: the id of its request, and that nobody may keep it,
// unless a handler says otherwise.
func beginAnswer(ctx *fasthttp.RequestCtx) {
	nameRequest(ctx)
	ctx.Response.Header.SetCanonical(headerCacheControl, cacheNothing)
}

// refuse answers with the problem as it stands in the table.
func refuse(ctx *fasthttp.RequestCtx, p *problem) {
	refuseHeader(ctx, p)
	ctx.Response.SetBody(p.body)
	endProblem(ctx)
}

// endProblem ends the body of a problem.
func endProblem(ctx *fasthttp.RequestCtx) {
	ctx.Response.AppendBodyString(instance)
	ctx.Response.AppendBody(requestID(ctx))
	ctx.Response.AppendBodyString(`"}`)
}

// refuseOrder answers with the problem and the order that it is about, if known.
func refuseOrder(ctx *fasthttp.RequestCtx, p *problem, no flashsale.OrderNo) {
	if no == 0 {
		refuse(ctx, p)
		return
	}
	refuseHeader(ctx, p)
	var buf [256]byte
	body := append(p.open(buf[:0], "order_no"), '"')
	body = strconv.AppendInt(body, int64(no), 10)
	ctx.Response.SetBody(append(body, '"'))
	endProblem(ctx)
}

// refuseUntil answers with the problem and the moment at which the item opens.
func refuseUntil(ctx *fasthttp.RequestCtx, p *problem, opensAt time.Time) {
	if opensAt.IsZero() {
		refuse(ctx, p)
		return
	}
	refuseHeader(ctx, p)
	var buf [256]byte
	body := strconv.AppendInt(p.open(buf[:0], "opens_at_ms"), opensAt.UnixMilli(), 10)
	ctx.Response.SetBody(body)
	endProblem(ctx)
}

func refuseHeader(ctx *fasthttp.RequestCtx, p *problem) {
	header := &ctx.Response.Header
	header.SetStatusCode(p.status)
	header.SetContentType(typeProblem)
	if p.retryAfter != nil {
		header.SetCanonical(headerRetryAfter, p.retryAfter)
	}
	if p.status == fasthttp.StatusUnauthorized {
		header.SetCanonical(headerAuthenticate, schemeBearer)
	}
}

// answer sends a body that the caller has built as JSON.
func answer(ctx *fasthttp.RequestCtx, status int, body []byte) {
	ctx.Response.Header.SetStatusCode(status)
	ctx.Response.Header.SetContentType(typeJSON)
	ctx.Response.SetBody(body)
}

func (s *Server) answerValue(ctx *fasthttp.RequestCtx, status int, value any) {
	answerValue(ctx, s.faults, status, value)
}

// answerValue sends what operators read; the hot path appends instead.
func answerValue(ctx *fasthttp.RequestCtx, faults *faultLog, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		faults.of(ctx, "encode answer", "path", string(ctx.Path()), "error", err)
		refuse(ctx, problemInternal)
		return
	}
	answer(ctx, status, body)
}

// fault logs what went wrong and answers without telling.
func (s *Server) fault(ctx *fasthttp.RequestCtx, operation string, err error) {
	s.faults.of(ctx, operation, "error", err)
	refuse(ctx, problemUnavailable)
}

// changeFault is fault for a change of the ledger: a commit whose reply is lost may stand.
func (s *Server) changeFault(ctx *fasthttp.RequestCtx, operation string, err error) {
	s.faults.of(ctx, operation, "error", err)
	refuse(ctx, problemChangeUnknown)
}

// answerUnreadable answers what fasthttp could not read as a request.
func answerUnreadable(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	var network net.Error
	ctx.Response.Reset()
	beginAnswer(ctx)
	switch {
	case errors.As(err, &small):
		refuse(ctx, problemHeadersTooLarge)
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		refuse(ctx, problemBodyTooLarge)
	case errors.As(err, &network) && network.Timeout():
		refuse(ctx, problemTimeout)
	default:
		refuse(ctx, problemMalformedRequest)
	}
}
