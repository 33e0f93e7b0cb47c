package alipay

import (
	"errors"
	"fmt"
	"strings"
)

// The classes of errors. See the package documentation.
var (
	// ErrForged: the message is not an intact one of Alipay's for us.
	ErrForged = errors.New("not a message of Alipay for this application")
	// ErrUnknownTrade: Alipay has no trade for the order, so far.
	ErrUnknownTrade = errors.New("Alipay knows no such trade")
	// ErrUnavailable: no answer that proves anything. What was asked for may have happened.
	ErrUnavailable = errors.New("Alipay gave no usable answer")
	// ErrRefused: Alipay will never do this.
	ErrRefused = errors.New("refused by Alipay")
	// ErrTooLate: too little time is left before the deadline for a shopper to pay.
	ErrTooLate = errors.New("too late to start a payment")
)

// Codes of Alipay's answers.
const (
	codeSuccess        = "10000"
	codeBusinessFailed = "40004"

	subCodeUnknownTrade   = "ACQ.TRADE_NOT_EXIST"
	subCodeBalance        = "ACQ.SELLER_BALANCE_NOT_ENOUGH"
	subCodeSystemErrorEnd = "SYSTEM_ERROR" // ACQ.SYSTEM_ERROR, aop.ACQ.SYSTEM_ERROR
)

// APIError is an answer of Alipay other than success. It wraps the class that it belongs to.
type APIError struct {
	Method  string // such as alipay.trade.query
	Code    string // such as 40004
	SubCode string // such as ACQ.TRADE_NOT_EXIST
	SubMsg  string // for people, in Chinese
	Signed  bool   // an unsigned answer proves nothing and is always ErrUnavailable
}

// Error names method and codes.
func (e *APIError) Error() string {
	return fmt.Sprintf("%s answered %s %s %q: %v", e.Method, e.Code, e.SubCode, e.SubMsg, e.Unwrap())
}

// Unwrap returns the class. Only a business refusal is final: whatever is wrong with our
// configuration, our call rate or their servers says nothing about the trade. A balance of
// ours that is too small for a refund is mended by whoever fills it up.
func (e *APIError) Unwrap() error {
	switch {
	case !e.Signed || e.Code != codeBusinessFailed:
		return ErrUnavailable
	case e.SubCode == subCodeUnknownTrade:
		return ErrUnknownTrade
	case e.SubCode == subCodeBalance, strings.HasSuffix(e.SubCode, subCodeSystemErrorEnd):
		return ErrUnavailable
	default:
		return ErrRefused
	}
}

// forgery says which check a message failed: the reason is also the metric's label. It does
// not repeat what the message said, which nobody vouches for.
type forgery struct{ reason, detail string }

func (f *forgery) Error() string { return f.reason + ": " + f.detail }

func (f *forgery) Unwrap() error { return ErrForged }
