package engine

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"flashsale"
)

// Errors of the engine. Compare with [errors.Is].
var (
	// ErrUnknown: the request may or may not have been carried out. Asking again with the
	// same idempotency key, or as the same user, tells which.
	ErrUnknown = errors.New("outcome unknown")
	// ErrUnavailable: Redis refused; nothing was done.
	ErrUnavailable = errors.New("redis unavailable")
	// ErrNotReady: the item is not loaded, or is being rebuilt; nothing was done.
	ErrNotReady = errors.New("item not loaded in redis")
	// ErrExists: the item is loaded already; nothing was done.
	ErrExists = errors.New("item is loaded already")
	// ErrUnreadable: Redis holds of the item what our scripts never write.
	ErrUnreadable = errors.New("unreadable in redis")
	// ErrInvalid: the request can never be right.
	ErrInvalid = errors.New("invalid request")
)

// unknownError wraps a fault after which the request may have been carried out.
func unknownError(operation string, item flashsale.ItemID, err error) error {
	return fmt.Errorf("%s item %d: %w: %w", operation, item, ErrUnknown, err)
}

// faultError sorts a fault of a script call: an error reply that Redis gives before it runs a
// script, or no connection to send it on, means nothing was done; everything else is unknown.
func faultError(operation string, item flashsale.ItemID, err error) error {
	reply, refused := rueidis.IsRedisErr(err)
	if refused = refused && refusedUpFront(reply.Error()); refused || notConnected(err) {
		return fmt.Errorf("%s item %d: %w: %w", operation, item, ErrUnavailable, err)
	}
	return unknownError(operation, item, err)
}

// notConnected reports whether a command was surely not sent: there was no connection to send it on,
// or nobody to send it to.
func notConnected(err error) bool {
	var fault *net.OpError
	return errors.As(err, &fault) && fault.Op == "dial" ||
		errors.Is(err, rueidis.ErrNoSlot) || errors.Is(err, rueidis.ErrNoAddr) || errors.Is(err, rueidis.ErrClosing) ||
		errors.Is(err, errAway)
}

// upFront are the codes with which Redis refuses a command or a script before it runs.
// (Source: the error table of Redis 7.0, server.c and script.c.)
var upFront = []string{
	"OOM", "MISCONF", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN",
	"MOVED", "ASK", "CROSSSLOT", "NOREPLICAS", "BUSY", "NOAUTH", "NOPERM", "NOSCRIPT", "WRONGTYPE",
}

// refusedUpFront also takes WRONGTYPE: our scripts read every key before they write.
func refusedUpFront(message string) bool { return hasCode(message, upFront) }

func hasCode(message string, codes []string) bool {
	code, _, _ := strings.Cut(message, " ")
	return slices.Contains(codes, code)
}
