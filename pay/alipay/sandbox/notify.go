package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"flashsale/pay/alipay/internal/wire"
)

const (
	deliveriesMax  = 8 // at a time
	idleTimeout    = 90 * time.Second
	replyBytesMax  = 1 << 10
	acknowledgment = "success"
	buyerID        = "2088000000000002"
)

// delivery is one notice that is not acknowledged yet. Its fields are those of the moment when
// it was caused, as Alipay's are: a notice that is late tells of the past.
type delivery struct {
	NotifyID string            `json:"notify_id"`
	OrderNo  string            `json:"order_no"`
	URL      string            `json:"url"`
	Fields   map[string]string `json:"fields"`
	Attempts int               `json:"attempts"`
	Due      time.Time         `json:"due"`
	Held     bool              `json:"held"`  // until another notice comes
	After    string            `json:"after"` // that other notice, until it was delivered

	sending bool
}

// Notice tells of one delivery, for tests and people that watch.
type Notice struct {
	NotifyID     string            `json:"notify_id"`
	OrderNo      string            `json:"order_no"`
	Fields       map[string]string `json:"fields"`
	Acknowledged bool              `json:"acknowledged"`
}

const historyMax = 1000

// notify expects s.mu to be held.
func (s *Sandbox) notify(trade *Trade, refund *Refund) {
	defer s.changedLocked()
	if trade.NotifyURL == "" {
		return
	}
	now := s.config.Now()
	d := &delivery{
		NotifyID: rand.Text(), OrderNo: trade.OrderNo, URL: trade.NotifyURL,
		Fields: s.noticeFields(trade, refund), Due: now.Add(s.faults.delay()),
	}
	if s.faults.Reorder {
		d.Held = true
		for _, other := range s.deliveries {
			if other.Held {
				other.Held, other.After, d.Held = false, d.NotifyID, false
				break
			}
		}
	}
	s.deliveries = append(s.deliveries, d)
}

func (s *Sandbox) noticeFields(trade *Trade, refund *Refund) map[string]string {
	total := wire.FormatFen(trade.AmountFen)
	fields := map[string]string{
		"app_id": s.config.AppID, "auth_app_id": s.config.AppID, "seller_id": s.config.SellerID,
		"buyer_id": buyerID, "charset": charset, "version": apiVersion,
		"notify_type": "trade_status_sync", "out_trade_no": trade.OrderNo, "trade_no": trade.TradeNo,
		"trade_status": trade.Status, "subject": trade.Subject, "total_amount": total,
		"gmt_create": wire.FormatTime(trade.CreatedAt),
	}
	if !trade.PaidAt.IsZero() {
		fields["gmt_payment"] = wire.FormatTime(trade.PaidAt)
		fields["receipt_amount"], fields["buyer_pay_amount"], fields["invoice_amount"] = total, total, total
		fields["point_amount"] = "0.00"
		fields["fund_bill_list"] = `[{"amount":"` + total + `","fundChannel":"ALIPAYACCOUNT"}]`
	}
	if trade.Status == TradeClosed {
		fields["gmt_close"] = wire.FormatTime(trade.ClosedAt)
	}
	if refund != nil {
		if refund.RequestNo != "" {
			fields["out_biz_no"] = refund.RequestNo
		}
		fields["refund_fee"] = wire.FormatFen(trade.RefundedFen())
		fields["gmt_refund"] = wire.FormatTime(refund.At) + ".000"
	}
	return fields
}

// deliver sends what is due until ctx ends, then waits for what is on its way.
func (s *Sandbox) deliver(ctx context.Context) {
	var sending sync.WaitGroup
	defer sending.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		s.mu.Lock()
		changed := s.changed
		due, wait := s.due()
		s.mu.Unlock()
		for _, d := range due {
			sending.Go(func() { s.attempt(ctx, d) })
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
	}
}

// due marks what is to be sent now, brings late money, and returns how long nothing else is due.
// It expects s.mu to be held.
func (s *Sandbox) due() (due []*delivery, wait time.Duration) {
	const forever = time.Hour
	now := s.config.Now()
	wait = forever
	for _, trade := range s.trades {
		switch {
		case trade.LateAt.IsZero():
		case trade.LateAt.After(now):
			wait = min(wait, trade.LateAt.Sub(now))
		case trade.PaidAt.IsZero():
			s.pay(trade)
		default:
			trade.LateAt = time.Time{}
		}
	}
	sending := 0
	for _, d := range s.deliveries {
		if d.sending {
			sending++
		}
	}
	for _, d := range s.deliveries {
		switch {
		case d.sending, d.Held, d.After != "":
		case d.Due.After(now):
			wait = min(wait, d.Due.Sub(now))
		case sending < deliveriesMax:
			d.sending = true
			sending++
			due = append(due, d)
		}
	}
	return due, wait
}

// attempt delivers a notice once, or as often as the faults say, and decides what comes next.
func (s *Sandbox) attempt(ctx context.Context, d *delivery) {
	s.mu.Lock()
	faults := s.faults
	lost := faults.Lose != 0
	if faults.Lose > 0 {
		s.faults.Lose--
	}
	s.mu.Unlock()

	fields := maps.Clone(d.Fields)
	fields["notify_id"] = d.NotifyID
	fields["notify_time"] = wire.FormatTime(s.config.Now())
	faults.falsify(fields)
	key := s.keys.own
	if faults.Forge {
		key = s.keys.app // any key but the right one
	}
	err := errors.New("lost on the way")
	if !lost {
		if err = s.signMessage(key, fields); err == nil {
			err = s.post(ctx, d.URL, fields)
			for range faults.Duplicate {
				err = errors.Join(err, s.post(ctx, d.URL, fields))
			}
		}
	}
	if ctx.Err() != nil {
		s.mu.Lock()
		d.sending = false // not an attempt: it is sent again after a restart
		s.mu.Unlock()
		return
	}
	s.attempted(d, fields, err)
}

func (s *Sandbox) attempted(d *delivery, fields map[string]string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.changedLocked()
	s.history = append(s.history, Notice{d.NotifyID, d.OrderNo, fields, err == nil})
	if len(s.history) > historyMax {
		s.history = slices.Delete(s.history, 0, len(s.history)-historyMax)
	}
	for _, other := range s.deliveries {
		if other.After == d.NotifyID {
			other.After = ""
		}
	}
	d.sending = false
	switch {
	case err == nil:
		s.config.Logger.Info("notice acknowledged", "order_no", d.OrderNo, "trade_status", d.Fields["trade_status"])
	case d.Attempts < len(schedule):
		wait := time.Duration(float64(schedule[d.Attempts]) * s.config.Scale)
		s.config.Logger.Warn("notice not acknowledged", "order_no", d.OrderNo, "again_in", wait, "error", err)
		d.Attempts++
		d.Due = s.config.Now().Add(wait)
		return
	default:
		s.config.Logger.Error("notice given up", "order_no", d.OrderNo, "error", err)
	}
	s.deliveries = slices.DeleteFunc(s.deliveries, func(other *delivery) bool { return other == d })
}

func (s *Sandbox) post(ctx context.Context, to string, fields map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.NotifyTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(encodeForm(fields)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset="+charset)
	response, err := s.config.Transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, replyBytesMax))
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK || string(body) != acknowledgment:
		return fmt.Errorf("answered %d %.40q", response.StatusCode, body)
	}
	return nil
}

func encodeForm(fields map[string]string) string {
	form := make(url.Values, len(fields))
	for name, value := range fields {
		form.Set(name, value)
	}
	return form.Encode()
}

// History returns the latest deliveries, oldest first, whether they arrived or not.
func (s *Sandbox) History() []Notice {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.history)
}

// Settled waits until no notice is left to deliver: each is acknowledged or given up.
func (s *Sandbox) Settled(ctx context.Context) error {
	return s.await(ctx, func() bool { return len(s.deliveries) == 0 })
}

// Attempted waits until so many deliveries were tried since the start.
func (s *Sandbox) Attempted(ctx context.Context, n int) error {
	return s.await(ctx, func() bool { return len(s.history) >= n })
}

func (s *Sandbox) await(ctx context.Context, reached func() bool) error {
	for {
		s.mu.Lock()
		changed, done := s.changed, reached()
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
