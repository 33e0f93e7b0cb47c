package pay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"flashsale"
	"flashsale/pay/alipay"
)

// ErrUnavailable is returned for a call of a provider that is not configured. It is an
// [errors.ErrUnsupported].
var ErrUnavailable = fmt.Errorf("payment method not configured: %w", errors.ErrUnsupported)

// Desk coordinates the payments of orders. It is safe for concurrent use.
type Desk struct {
	config  Config
	gate    *gate
	metrics *metrics
	pace    *pace
}

// New checks the configuration and registers the metrics.
func New(config Config) (*Desk, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	metrics, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, fmt.Errorf("pay: register metrics: %w", err)
	}
	return &Desk{config: config, gate: newGate(config.NoticesMax), metrics: metrics, pace: newPace(config.AtOnce)}, nil
}

// Start begins to pay an order of a user. With Alipay the shopper then pays at the address that
// comes with [flashsale.PayStarted]; with points the order is paid at once. Asking again is safe,
// also after an error, which leaves the outcome unknown. An order that is not the user's, or not
// in the ledger yet, is [flashsale.ErrNotFound].
func (d *Desk) Start(
	ctx context.Context, number flashsale.OrderNo, user string, method flashsale.Method,
) (flashsale.Settlement, error) {
	settlement, err := d.start(ctx, number, user, method)
	if err != nil {
		return flashsale.Settlement{}, fmt.Errorf("pay order %s with %s: %w", number, method, err)
	}
	d.metrics.payments.WithLabelValues(string(method), settlement.Outcome.String()).Inc()
	return settlement, nil
}

func (d *Desk) start(
	ctx context.Context, number flashsale.OrderNo, user string, method flashsale.Method,
) (flashsale.Settlement, error) {
	order, err := d.orderOf(ctx, number, user)
	if err != nil {
		return flashsale.Settlement{}, err
	}
	settlement := flashsale.Settlement{Order: order}
	switch {
	case order.Status == flashsale.Paid:
		settlement.Outcome = flashsale.PayDone
	case order.Status != flashsale.Unpaid:
		settlement.Outcome = flashsale.NotPayable
	case method == flashsale.Alipay && d.config.Alipay != nil:
		return d.startAlipay(ctx, order)
	case method == flashsale.Points && d.config.Points != nil && order.AmountPoints > 0:
		return d.startPoints(ctx, order)
	default:
		settlement.Outcome = flashsale.MethodUnavailable
	}
	return settlement, nil
}

// startAlipay notes that there may be a trade before anybody can start one.
func (d *Desk) startAlipay(ctx context.Context, order flashsale.Order) (flashsale.Settlement, error) {
	settlement := flashsale.Settlement{Order: order}
	item, err := d.config.Ledger.Item(ctx, order.ItemID)
	if err != nil {
		return settlement, err
	}
	page, err := d.config.Alipay.PageURL(ctx, alipay.Charge{
		OrderNo: order.OrderNo, Subject: item.Product, AmountFen: order.AmountFen, Expire: order.PayDeadline,
	})
	switch {
	case errors.Is(err, alipay.ErrTooLate):
		settlement.Outcome = flashsale.TooLate
		return settlement, nil
	case errors.Is(err, alipay.ErrRefused):
		d.mismatch(ctx, mismatchRefused, order.OrderNo, err)
		settlement.Outcome = flashsale.PaymentRefused
		return settlement, nil
	case err != nil:
		return settlement, err
	}
	open, err := d.config.Ledger.StartCharge(ctx, order.OrderNo, order.User)
	switch {
	case err != nil:
		return settlement, err
	case open:
		settlement.Outcome, settlement.PayURL = flashsale.PayStarted, page
		return settlement, nil
	}
	return d.stands(ctx, order, flashsale.PaymentClosed)
}

// stands answers by the state that an order has come to meanwhile, or else as told.
func (d *Desk) stands(
	ctx context.Context, order flashsale.Order, otherwise flashsale.PayOutcome,
) (flashsale.Settlement, error) {
	order, err := d.orderOf(ctx, order.OrderNo, order.User)
	settlement := flashsale.Settlement{Order: order, Outcome: otherwise}
	switch order.Status {
	case flashsale.Paid:
		settlement.Outcome = flashsale.PayDone
	case flashsale.Unpaid:
	default:
		settlement.Outcome = flashsale.NotPayable
	}
	return settlement, err
}

// Return verifies the query with which Alipay has sent a shopper back to an address, and returns his
// order as it stands, once Alipay was asked about it. The query itself makes nothing paid.
func (d *Desk) Return(ctx context.Context, from netip.Prefix, rawQuery []byte) (flashsale.Order, error) {
	if d.config.Alipay == nil {
		return flashsale.Order{}, ErrUnavailable
	}
	admission := d.admission(ctx, from)
	number, err := d.config.Alipay.ParseReturn(ctx, rawQuery, admission.admit)
	admission.done(err)
	if errors.Is(err, alipay.ErrForged) {
		return flashsale.Order{}, fmt.Errorf("%w: %w", flashsale.ErrNotFound, err)
	}
	if err != nil {
		return flashsale.Order{}, err
	}
	if err := d.Look(ctx, number); err != nil {
		d.config.Logger.WarnContext(ctx, "the notice has to tell", "error", err)
	}
	return d.config.Ledger.Order(ctx, number)
}

// History returns what is known of an order's money, or [flashsale.ErrNotFound].
func (d *Desk) History(ctx context.Context, number flashsale.OrderNo) (flashsale.PaymentHistory, error) {
	return d.config.Ledger.History(ctx, number)
}

// orderOf returns an order of a user. Everybody else's is [flashsale.ErrNotFound].
func (d *Desk) orderOf(ctx context.Context, number flashsale.OrderNo, user string) (flashsale.Order, error) {
	order, err := d.config.Ledger.Order(ctx, number)
	if err == nil && order.User != user {
		return flashsale.Order{}, fmt.Errorf("order %s of another user: %w", number, flashsale.ErrNotFound)
	}
	return order, err
}

// lasting lets the steps that follow from a request outlive it, within a bound.
func (d *Desk) lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), d.config.StepTimeout)
}

// tell publishes the state that an order has come to.
func (d *Desk) tell(ctx context.Context, order flashsale.Order) {
	d.config.Tell(ctx, []flashsale.Result{{
		OrderNo: order.OrderNo, User: order.User, Status: order.Status, Reason: order.Reason,
	}})
}

// mismatch raises the alarm about what must never be: somebody has to look at it.
func (d *Desk) mismatch(ctx context.Context, kind string, number flashsale.OrderNo, detail any) {
	d.metrics.mismatches.WithLabelValues(kind).Inc()
	d.config.Logger.ErrorContext(ctx, "payment does not fit", "kind", kind, "order_no", number, "detail", detail)
}
