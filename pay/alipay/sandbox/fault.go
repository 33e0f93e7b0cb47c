package sandbox

import (
	"errors"
	"fmt"
	"time"

	"flashsale/pay/alipay/internal/wire"
)

const duplicateMax = 100

// Faults are what the sandbox does wrong, from the moment they are set until they are set
// again. The zero value is a well-behaved Alipay.
type Faults struct {
	// AmountDeltaFen is added to the amounts of notices, which are well signed.
	AmountDeltaFen int64 `json:"amount_delta_fen"`
	// AppID replaces that of notices, which are well signed.
	AppID string `json:"app_id"`
	// CallDelayMS is how long each answer to a call takes.
	CallDelayMS int64 `json:"call_delay_ms"`
	// CallsMax refuses calls beyond so many at the same time, as Alipay does; 0 takes all.
	CallsMax int `json:"calls_max"`
	// DelayMS holds back the first delivery of new notices, so many milliseconds.
	DelayMS int64 `json:"delay_ms"`
	// Duplicate delivers each notice so many times more.
	Duplicate int `json:"duplicate"`
	// FailCalls answers the next so many calls with 502, after they were carried out: the
	// caller does not know.
	FailCalls int `json:"fail_calls"`
	// Forge signs notices with another key.
	Forge bool `json:"forge"`
	// ForgeAnswers signs the answers to calls with another key.
	ForgeAnswers bool `json:"forge_answers"`
	// Lose drops the next so many deliveries on their way; -1 all of them. They are sent again
	// by the schedule.
	Lose int `json:"lose"`
	// RefundPending accepts refunds without carrying them out. They are carried out, when this
	// is over, at the next refund or query with their number.
	RefundPending bool `json:"refund_pending"`
	// Reorder holds each notice back until the next one is delivered.
	Reorder bool `json:"reorder"`
	// SellerID replaces that of notices, which are well signed.
	SellerID string `json:"seller_id"`
}

func (f Faults) validate() error {
	switch {
	case f.CallDelayMS < 0 || f.CallsMax < 0:
		return errors.New("call_delay_ms and calls_max must not be negative")
	case f.DelayMS < 0 || f.FailCalls < 0 || f.Duplicate < 0 || f.Duplicate > duplicateMax || f.Lose < -1:
		return fmt.Errorf("delay_ms and fail_calls must not be negative, duplicate from 0 to %d, lose at least -1", duplicateMax)
	case f.AmountDeltaFen < -wire.FenMax || f.AmountDeltaFen > wire.FenMax:
		return fmt.Errorf("amount_delta_fen must be within %d", int64(wire.FenMax))
	}
	return nil
}

// SetFaults replaces what the sandbox does wrong. Notices that were held back to be reordered
// are delivered when that ends.
func (s *Sandbox) SetFaults(faults Faults) error {
	if err := faults.validate(); err != nil {
		return fmt.Errorf("sandbox: faults: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = faults
	if !faults.Reorder {
		for _, d := range s.deliveries {
			d.Held, d.After = false, ""
		}
	}
	s.changedLocked()
	return nil
}

// Faults returns what the sandbox does wrong, with the counts that are left.
func (s *Sandbox) Faults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// falsify applies the faults of contents to the fields of a notice, before it is signed.
func (f Faults) falsify(fields map[string]string) {
	if f.AppID != "" {
		fields["app_id"] = f.AppID
	}
	if f.SellerID != "" {
		fields["seller_id"] = f.SellerID
	}
	if f.AmountDeltaFen == 0 {
		return
	}
	for _, name := range []string{"total_amount", "receipt_amount", "buyer_pay_amount"} {
		if fen, err := wire.ParseFen(fields[name]); err == nil {
			fields[name] = wire.FormatFen(min(max(fen+f.AmountDeltaFen, 0), wire.FenMax))
		}
	}
}

func (f Faults) delay() time.Duration { return time.Duration(f.DelayMS) * time.Millisecond }
