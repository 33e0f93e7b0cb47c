package flashsale

import (
	"context"
	"time"
)

// AttemptKept is for how long an idempotency key of a change names the request that it came with.
const AttemptKept = 24 * time.Hour

// Attempt is a request to change something under an idempotency key. What it changes happens once,
// and whoever sends it again gets the first answer.
type Attempt struct {
	Scope       string // whose keys these are: admin, or user: and the user
	Key         string
	Fingerprint []byte // of the request: another one may not have the key

	// Replayed is set by the ledger when the change had been made before, by a process that did not
	// live to answer.
	Replayed bool
}

// Reply is the answer to an attempt.
type Reply struct {
	Status int // of HTTP; 0: it was not answered yet
	Body   []byte
}

type attemptKey struct{}

// WithAttempt says that what is changed under the context is changed for an attempt.
func WithAttempt(ctx context.Context, attempt *Attempt) context.Context {
	return context.WithValue(ctx, attemptKey{}, attempt)
}

// AttemptOf returns the attempt of [WithAttempt], or nil.
func AttemptOf(ctx context.Context) *Attempt {
	attempt, _ := ctx.Value(attemptKey{}).(*Attempt)
	return attempt
}

// Bounds, in characters, of what the log of actions keeps of a text.
const (
	ActionNameMax   = 100
	ActionTextMax   = 1_000
	OperatorNameMax = 64
)

// Action is something that an operator did, or tried to do.
type Action struct {
	ID        int64 // ascending
	At        time.Time
	Who       string // the name of the session, of the token, or of the user of the command line
	Action    string // such as POST /v1/admin/items/{item}/pause, or sale change
	Target    string // what it was done to
	Detail    string // what was asked for
	Outcome   string // a status with a code, or done; "": nobody knows
	RequestID string
}
