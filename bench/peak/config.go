package peak

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Defaults of Config.
const (
	DefaultBucket      = 100 * time.Millisecond
	DefaultConnections = 256
	DefaultGrace       = 10 * time.Second
	DefaultTimeout     = 10 * time.Second
	DefaultUsers       = 300_000 // of a closed loop, whose number of requests nobody knows
)

// Bounds of Config.
const (
	ConnectionsMax = 10_000
	LengthMax      = time.Hour
	RateMax        = 1_000_000
	BucketMin      = 10 * time.Millisecond
)

// Config says what to send, where and when.
type Config struct {
	// Bucket is the resolution of the timeline. Default 100 ms, at least 10 ms.
	Bucket time.Duration
	// Connections is how many requests can be on their way at once. All of them are open before
	// the clock starts. Default 256.
	Connections int
	// FirstUser is the number of the first user; ignored with Tokens.
	FirstUser int
	// Grace is how long after the schedule's end late requests are still sent. Default 10 s.
	Grace time.Duration
	// Item is whose orders are posted; it may be left out where there is a Path.
	Item string
	// Method of the requests. Default POST.
	Method string
	// Path of the requests. Default /v1/items/{Item}/orders.
	Path string
	// Phases follow each other without a gap. A single one with rate 0 is a closed loop: every
	// connection asks again as soon as it was answered.
	Phases []Phase
	// Progress hears once a second what was answered. Default: discarded.
	Progress io.Writer
	// Start is when the clock starts, should that be later than when all connections are open.
	// Default: at once.
	Start time.Time
	// Timeout is how long an answer may take at least before it counts as unknown; the limit is
	// renewed lazily, so it may take a quarter more. Default 10 s.
	Timeout time.Duration
	// Tokens are the users' sessions, one each. Default: those of package target.
	Tokens []string
	// URLs are the servers' addresses, such as http://127.0.0.1:8080; connections take turns.
	URLs []string
	// Users is how many distinct users there are; then the first comes again. Default: one a
	// request; 300,000 in a closed loop; as many as there are Tokens.
	Users int
}

func (c Config) withDefaults() Config {
	c.Bucket = cmp.Or(c.Bucket, DefaultBucket)
	c.Connections = cmp.Or(c.Connections, DefaultConnections)
	c.Grace = cmp.Or(c.Grace, DefaultGrace)
	c.Method = cmp.Or(c.Method, http.MethodPost)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	if c.Path == "" && c.Item != "" {
		c.Path = "/v1/items/" + c.Item + "/orders"
	}
	if len(c.Tokens) > 0 {
		c.Users = len(c.Tokens)
	}
	if c.Users == 0 {
		c.Users = DefaultUsers
		if total := newSchedule(c.Phases).total; total > 0 {
			c.Users = int(total)
		}
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

// Validate checks everything but the target, for a caller who will start that first.
func (c Config) Validate() error { return c.withDefaults().validateLoad() }

func (c Config) validate() error {
	switch {
	case len(c.URLs) == 0:
		return errors.New("peak: URLs is required")
	case c.Path == "":
		return errors.New("peak: Item or Path is required")
	}
	return c.validateLoad()
}

func (c Config) validateLoad() error {
	switch {
	case c.Bucket < BucketMin:
		return fmt.Errorf("peak: Bucket must be at least %s, not %s", BucketMin, c.Bucket)
	case c.Connections < 1 || c.Connections > ConnectionsMax:
		return fmt.Errorf("peak: Connections must be 1 to %d, not %d", ConnectionsMax, c.Connections)
	case c.Grace < 0 || c.Timeout < 0:
		return fmt.Errorf("peak: Grace and Timeout must be positive, not %s and %s", c.Grace, c.Timeout)
	case c.FirstUser < 0 || c.Users < 1:
		return fmt.Errorf("peak: FirstUser must be at least 0 and Users 1, not %d and %d", c.FirstUser, c.Users)
	}
	return validatePhases(c.Phases)
}
