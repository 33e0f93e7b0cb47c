package flashsale

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Bounds of the identifiers that come from outside.
const (
	UserLenMax           = 64  // bytes of a user id
	IdempotencyKeyLenMax = 128 // bytes of an idempotency key
	idDigitsMax          = 19  // decimal digits of an item or order number
)

// ErrMalformedID is returned for text that is not an id: anything but 1 to 19 digits.
var ErrMalformedID = errors.New("id must be 1 to 19 digits")

// OrderNo identifies an order from the script that accepts it to its refund. It is a
// snowflake number, so order numbers of one node ascend in time.
type OrderNo int64

// ItemID identifies an item of a sale.
type ItemID int64

// SaleID identifies a sale.
type SaleID int64

// A snowflake number is 41 bits of time, 10 of node and 12 of step.
const (
	NodesMax = 1 << 10 // node ids there are: from 0
	StepsMax = 1 << 12 // numbers that a node can make of one millisecond

	snowflakeEpochMS = 1288834974657 // where its milliseconds start
)

// NewOrderNo returns the number of a node and a step from 0 in a millisecond since 1970.
func NewOrderNo(ms int64, node, step int) OrderNo {
	return OrderNo(((ms-snowflakeEpochMS)*NodesMax+int64(node))*StepsMax + int64(step))
}

// Time returns when the number was made, by the clock of whoever gives node ids out: close to,
// but not the same as, the Redis time of the decision.
func (n OrderNo) Time() time.Time {
	return time.UnixMilli(int64(n)/(NodesMax*StepsMax) + snowflakeEpochMS)
}

// FirstOrderNo returns a number below those of all orders from a moment on, and above those before.
func FirstOrderNo(at time.Time) OrderNo {
	return OrderNo(max(at.UnixMilli()-snowflakeEpochMS, 0) * NodesMax * StepsMax)
}

// String returns the decimal form, the only one used outside Go.
func (n OrderNo) String() string { return strconv.FormatInt(int64(n), 10) }

// MarshalText makes the number a string in JSON.
func (n OrderNo) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(n), 10), nil }

// UnmarshalText is the inverse of MarshalText.
func (n *OrderNo) UnmarshalText(text []byte) (err error) {
	*n, err = ParseID[OrderNo](string(text))
	return err
}

// String returns the decimal form, the only one used outside Go.
func (i ItemID) String() string { return strconv.FormatInt(int64(i), 10) }

// MarshalText makes the id a string in JSON.
func (i ItemID) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(i), 10), nil }

// UnmarshalText is the inverse of MarshalText.
func (i *ItemID) UnmarshalText(text []byte) (err error) {
	*i, err = ParseID[ItemID](string(text))
	return err
}

// String returns the decimal form, the only one used outside Go.
func (s SaleID) String() string { return strconv.FormatInt(int64(s), 10) }

// MarshalText makes the id a string in JSON.
func (s SaleID) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(s), 10), nil }

// UnmarshalText is the inverse of MarshalText.
func (s *SaleID) UnmarshalText(text []byte) (err error) {
	*s, err = ParseID[SaleID](string(text))
	return err
}

// ParseID reads an id as it comes from a path, a stream entry or JSON. Text that is not
// 1 to 19 digits is [ErrMalformedID]; digits that name no possible id (zero, or beyond
// 63 bits) are [ErrNotFound], as any other id that nobody holds.
func ParseID[ID ~int64](text string) (ID, error) {
	if len(text) == 0 || len(text) > idDigitsMax {
		return 0, fmt.Errorf("parse id of %d bytes: %w", len(text), ErrMalformedID)
	}
	var n uint64
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("parse id %q: %w", text, ErrMalformedID)
		}
		n = n*10 + uint64(c-'0') // 19 digits stay below 2^64
	}
	if n == 0 || n > 1<<63-1 {
		return 0, fmt.Errorf("id %s is out of range: %w", text, ErrNotFound)
	}
	return ID(n), nil
}

// ValidUser reports whether a user id is 1 to 64 characters of [A-Za-z0-9_.@+-].
// What passes is safe in a key, a hash field, a log line and PostgreSQL.
func ValidUser(user string) bool {
	return validToken(user, UserLenMax, "_.@+-")
}

// ValidIdempotencyKey reports whether a client's key is 1 to 128 characters of
// [A-Za-z0-9_.:@+/=-]: every UUID, ULID and base64 text.
func ValidIdempotencyKey(key string) bool {
	return validToken(key, IdempotencyKeyLenMax, "_.:@+/=-")
}

func validToken(text string, lenMax int, extra string) bool {
	if len(text) == 0 || len(text) > lenMax {
		return false
	}
next:
	for i := range len(text) {
		c := text[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			continue
		}
		for j := range len(extra) {
			if c == extra[j] {
				continue next
			}
		}
		return false
	}
	return true
}
