package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"flashsale/pay/alipay/internal/wire"
)

// The states of a trade, in Alipay's words.
const (
	WaitBuyerPay = "WAIT_BUYER_PAY"
	TradeSuccess = "TRADE_SUCCESS"
	TradeClosed  = "TRADE_CLOSED"
)

// ErrNoTrade tells that no pay page was opened for the order.
var ErrNoTrade = errors.New("no such trade")

// Trade is one payment.
type Trade struct {
	OrderNo   string    `json:"order_no"` // out_trade_no
	TradeNo   string    `json:"trade_no"`
	Subject   string    `json:"subject"`
	AmountFen int64     `json:"amount_fen"`
	Status    string    `json:"status"`
	ExpiresAt time.Time `json:"expires_at"` // zero: never
	CreatedAt time.Time `json:"created_at"`
	PaidAt    time.Time `json:"paid_at"`   // zero: never
	ClosedAt  time.Time `json:"closed_at"` // zero: never
	LateAt    time.Time `json:"late_at"`   // when late money arrives; zero: none on its way
	NotifyURL string    `json:"notify_url"`
	ReturnURL string    `json:"return_url"`
	Refunds   []Refund  `json:"refunds"`
}

// Refund is one request for money back.
type Refund struct {
	RequestNo string    `json:"request_no"`
	AmountFen int64     `json:"amount_fen"`
	Done      bool      `json:"done"`
	At        time.Time `json:"at"`
}

// RefundedFen is what has been given back so far.
func (t *Trade) RefundedFen() int64 {
	var sum int64
	for _, refund := range t.Refunds {
		if refund.Done {
			sum += refund.AmountFen
		}
	}
	return sum
}

func (t *Trade) clone() Trade {
	c := *t
	c.Refunds = slices.Clone(t.Refunds)
	return c
}

// Trade returns the trade of an order.
func (s *Sandbox) Trade(orderNo string) (Trade, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	trade, err := s.find(orderNo)
	if err != nil {
		return Trade{}, err
	}
	return trade.clone(), nil
}

// Trades returns all trades, oldest first.
func (s *Sandbox) Trades() []Trade {
	s.mu.Lock()
	defer s.mu.Unlock()
	trades := make([]Trade, 0, len(s.trades))
	for _, trade := range s.trades {
		s.expire(trade)
		trades = append(trades, trade.clone())
	}
	slices.SortFunc(trades, func(a, b Trade) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return trades
}

// Pay is the shopper's payment. Only a trade that waits for it can be paid.
func (s *Sandbox) Pay(orderNo string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	trade, err := s.find(orderNo)
	if err != nil {
		return err
	}
	if trade.Status != WaitBuyerPay {
		return fmt.Errorf("trade of order %s is %s", orderNo, trade.Status)
	}
	s.pay(trade)
	return nil
}

// PayLate brings the money whatever became of the trade meanwhile: expired or closed. Only a
// trade that was paid before takes none.
func (s *Sandbox) PayLate(orderNo string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	trade, err := s.find(orderNo)
	if err != nil {
		return err
	}
	if !trade.PaidAt.IsZero() {
		return fmt.Errorf("trade of order %s is paid", orderNo)
	}
	s.pay(trade)
	return nil
}

// Decline is the shopper's refusal: it closes the trade.
func (s *Sandbox) Decline(orderNo string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	trade, err := s.find(orderNo)
	if err != nil {
		return err
	}
	if trade.Status != WaitBuyerPay {
		return fmt.Errorf("trade of order %s is %s", orderNo, trade.Status)
	}
	s.close(trade)
	return nil
}

// RefundByHand is a refund that somebody makes in the console, without the application. Alipay
// numbers it as it likes; "" tells the application no number.
func (s *Sandbox) RefundByHand(orderNo, number string, fen int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	trade, err := s.find(orderNo)
	if err != nil {
		return err
	}
	if fen < 1 {
		return fmt.Errorf("refund order %s: the amount must be positive", orderNo)
	}
	switch changed, refused := s.refund(trade, number, fen); {
	case refused != nil:
		return fmt.Errorf("refund order %s: %s", orderNo, refused.subCode)
	case !changed:
		return fmt.Errorf("refund order %s: number %q was used", orderNo, number)
	}
	return nil
}

// What follows expects s.mu to be held.

func (s *Sandbox) find(orderNo string) (*Trade, error) {
	trade, ok := s.trades[orderNo]
	if !ok {
		return nil, fmt.Errorf("order %s: %w", orderNo, ErrNoTrade)
	}
	s.expire(trade)
	return trade, nil
}

// expire closes a trade whose time is over. It happens when somebody looks, which is when it
// matters.
func (s *Sandbox) expire(trade *Trade) {
	now := s.config.Now()
	if trade.Status == WaitBuyerPay && !trade.ExpiresAt.IsZero() && !now.Before(trade.ExpiresAt) {
		trade.Status, trade.ClosedAt = TradeClosed, trade.ExpiresAt
	}
}

// open makes the trade, or finds the one that the same request made before.
func (s *Sandbox) open(request Trade) (*Trade, *refusal) {
	trade, err := s.find(request.OrderNo)
	switch {
	case err != nil:
		request.Status, request.CreatedAt = WaitBuyerPay, s.config.Now()
		request.TradeNo = newTradeNo(request.CreatedAt)
		trade = &request
		s.expire(trade)
		s.trades[trade.OrderNo] = trade
		s.changedLocked()
		return trade, nil
	case trade.AmountFen != request.AmountFen:
		return nil, &refusal{"ACQ.CONTEXT_INCONSISTENT", "交易信息被篡改"}
	default:
		return trade, nil
	}
}

func (s *Sandbox) pay(trade *Trade) {
	trade.Status, trade.PaidAt, trade.LateAt = TradeSuccess, s.config.Now(), time.Time{}
	trade.ClosedAt = time.Time{}
	s.notify(trade, nil)
}

func (s *Sandbox) close(trade *Trade) {
	trade.Status, trade.ClosedAt = TradeClosed, s.config.Now()
	s.notify(trade, nil)
}

// refund finds or makes the refund of a number, and reports whether this call moved money.
func (s *Sandbox) refund(trade *Trade, requestNo string, fen int64) (changed bool, _ *refusal) {
	for i := range trade.Refunds {
		refund := &trade.Refunds[i]
		switch {
		case refund.RequestNo != requestNo:
			continue
		case refund.AmountFen != fen:
			return false, &refusal{"ACQ.DISCORDANT_REPEAT_REQUEST", "不一致的请求"}
		}
		return s.settle(trade, refund), nil
	}
	switch {
	case trade.Status != TradeSuccess:
		return false, &refusal{"ACQ.TRADE_STATUS_ERROR", "交易状态不合法"}
	case trade.RefundedFen()+fen > trade.AmountFen:
		return false, &refusal{"ACQ.REFUND_AMT_NOT_EQUAL_TOTAL", "退款金额超限"}
	}
	trade.Refunds = append(trade.Refunds, Refund{RequestNo: requestNo, AmountFen: fen})
	s.changedLocked()
	return s.settle(trade, &trade.Refunds[len(trade.Refunds)-1]), nil
}

// settle carries a refund out, unless it is done or [Faults.RefundPending] holds it back.
func (s *Sandbox) settle(trade *Trade, refund *Refund) (changed bool) {
	if refund.Done || s.faults.RefundPending || trade.RefundedFen()+refund.AmountFen > trade.AmountFen {
		return false
	}
	refund.Done, refund.At = true, s.config.Now()
	if trade.RefundedFen() == trade.AmountFen {
		trade.Status, trade.ClosedAt = TradeClosed, refund.At
	}
	s.notify(trade, refund)
	return true
}

// newTradeNo looks like Alipay's: the day, then digits that nobody guesses.
func newTradeNo(now time.Time) string {
	const randomDigits = 16
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(randomDigits), nil)
	n, _ := rand.Int(rand.Reader, limit) // never fails
	return fmt.Sprintf("%s2200%0*d", now.In(wire.Beijing).Format("20060102"), randomDigits, n)
}
