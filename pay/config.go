package pay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flashsale"
	"flashsale/pay/alipay"
	"flashsale/pay/points"
)

// Defaults and bounds of Config.
const (
	DefaultAtOnce       = 64
	DefaultNoticesMax   = 2_000
	DefaultRecoverEvery = time.Second
	DefaultStepTimeout  = 15 * time.Second

	AtOnceMax       = 1_000
	NoticesMaxMax   = 1_000_000
	RecoverEveryMin = 10 * time.Millisecond
)

// Ledger is the order database. What it returns is committed.
type Ledger interface {
	Orders
	Charges
	Refunds
	Intents
	Cancellations
	MoneyLedger
}

// Orders reads orders and records their payments.
type Orders interface {
	// Order and Item return [flashsale.ErrNotFound] for what does not exist.
	Order(ctx context.Context, number flashsale.OrderNo) (flashsale.Order, error)
	Item(ctx context.Context, id flashsale.ItemID) (flashsale.Item, error)
	// Pay records money that has arrived: the order becomes paid, or the refund is owed. A trade
	// number or an amount that does not fit the order is [flashsale.ErrConflict].
	Pay(ctx context.Context, payment flashsale.Payment) (flashsale.Receipt, error)
	History(ctx context.Context, number flashsale.OrderNo) (flashsale.PaymentHistory, error)
}

// Charges keeps the payments with Alipay that were started.
type Charges interface {
	// StartCharge reports whether a pay page may be handed out.
	StartCharge(ctx context.Context, number flashsale.OrderNo, user string) (open bool, err error)
	// ChargeOpen reports whether there may be a trade that can be paid.
	ChargeOpen(ctx context.Context, number flashsale.OrderNo) (bool, error)
	EndCharge(ctx context.Context, number flashsale.OrderNo) error
	// DueCharges takes up those whose trade is to be closed.
	DueCharges(ctx context.Context, limit int) ([]flashsale.Charge, error)
}

// Refunds keeps what is given back.
type Refunds interface {
	// StartRefund takes a paid order of the user to refunding; [flashsale.ErrConflict] with the
	// order when it is neither paid nor refunded.
	StartRefund(ctx context.Context, number flashsale.OrderNo, user, reason string) (flashsale.Receipt, error)
	FinishRefund(ctx context.Context, refundNo string) (flashsale.Receipt, error)
	RefuseRefund(ctx context.Context, refund flashsale.Refund, fault string) error
	RetryRefund(ctx context.Context, refundNo string) error
	// RecordForeignRefund notes money of a trade that went back without us, and how much of the
	// whole that makes in total.
	RecordForeignRefund(ctx context.Context, f flashsale.ForeignRefund, total, whole int64) (news bool, err error)
	SettleForeignRefund(ctx context.Context, number string) (flashsale.Receipt, error)
	Refund(ctx context.Context, refundNo string) (flashsale.Refund, error)
	// DueRefunds takes up those that are to be asked for again.
	DueRefunds(ctx context.Context, limit int) ([]flashsale.Refund, error)
}

// Intents keeps the payments with points that were begun.
type Intents interface {
	BeginIntent(ctx context.Context, number flashsale.OrderNo, user string, tradeNo int64) (flashsale.Order, flashsale.Intent, error)
	// PayWithPoints decides an intent whose points are frozen.
	PayWithPoints(ctx context.Context, number flashsale.OrderNo) (flashsale.Receipt, flashsale.Intent, error)
	// AbandonIntent decides against an intent whose order cannot become paid any more.
	AbandonIntent(ctx context.Context, number flashsale.OrderNo) (flashsale.Intent, error)
	MoveIntent(ctx context.Context, number flashsale.OrderNo, from, to flashsale.IntentState) (flashsale.Intent, error)
	// DueIntents takes up those that are to be finished.
	DueIntents(ctx context.Context, limit int) ([]flashsale.Intent, error)
}

// Cancellations end orders on an operator's word.
type Cancellations interface {
	// CancelOrder cancels an unpaid order; [flashsale.ErrConflict] with the order in any other state.
	CancelOrder(ctx context.Context, number flashsale.OrderNo) (flashsale.Order, error)
	CancelSale(ctx context.Context, sale flashsale.SaleID, reason string) (started bool, err error)
	SaleCancellation(ctx context.Context, sale flashsale.SaleID) (flashsale.SaleCancellation, error)
	// CancelSaleOrders goes on with the sales that are being cancelled.
	CancelSaleOrders(ctx context.Context, limit int) (results []flashsale.Result, more bool, err error)
}

// MoneyLedger is what the audit asks of the order database.
type MoneyLedger interface {
	Money(ctx context.Context, since flashsale.OrderNo) (flashsale.MoneyReport, error)
	OpenMoney(ctx context.Context, limit int) ([]flashsale.OpenMoney, error)
	PointsPayments(ctx context.Context, after flashsale.OrderNo, limit int) ([]flashsale.PointsPayment, error)
}

// Alipay is what the desk asks of Alipay.
type Alipay interface {
	PageURL(ctx context.Context, charge alipay.Charge) (string, error)
	ParseNotify(ctx context.Context, body []byte, admit alipay.Admit) (alipay.Notice, error)
	ParseReturn(ctx context.Context, rawQuery []byte, admit alipay.Admit) (flashsale.OrderNo, error)
	Query(ctx context.Context, no flashsale.OrderNo) (alipay.Trade, error)
	Close(ctx context.Context, no flashsale.OrderNo) (closed bool, err error)
	Refund(ctx context.Context, no flashsale.OrderNo, refundNo string, amountFen int64, reason string) (done bool, err error)
	RefundQuery(ctx context.Context, no flashsale.OrderNo, refundNo string) (alipay.Refund, error)
}

// Points is what the desk asks of the points service.
type Points interface {
	Try(ctx context.Context, hold points.Hold) (points.Outcome, error)
	Confirm(ctx context.Context, no flashsale.OrderNo) (points.Outcome, error)
	Cancel(ctx context.Context, no flashsale.OrderNo) (points.Outcome, error)
	Refund(ctx context.Context, no flashsale.OrderNo, refundNo string) (points.Outcome, error)
	Grant(ctx context.Context, user string, amount int64, ref string) (points.Outcome, error)
	Account(ctx context.Context, user string) (points.Account, error)
	Entries(ctx context.Context, user string, before int64, limit int) ([]points.Entry, error)
	Figures(ctx context.Context) (points.Figures, error)
	Orders(ctx context.Context, after flashsale.OrderNo, limit int) ([]points.OrderFigures, error)
}

// Way is a way to pay, or the configuration of one, that states its bounds.
type Way interface{ Terms() flashsale.Terms }

var (
	_ Way    = alipay.Config{}
	_ Way    = points.Config{}
	_ Alipay = (*alipay.Client)(nil)
	_ Points = (*points.Ledger)(nil)
)

// Config configures a [Desk]. Ledger is required; what is left nil of the providers is answered
// with [flashsale.MethodUnavailable].
type Config struct {
	// Alipay takes and gives back money. nil: orders cannot be paid with it.
	Alipay Alipay
	// AtOnce is how many trades recovery ends, or refunds it asks for, at the same time, while
	// Alipay takes that many. An answer takes some 150 ms: with the default of 64 a worker ends 400
	// trades a second.
	AtOnce int
	// Ledger is the order database. Required.
	Ledger Ledger
	// Logger receives what an operator should know. Default: discarded.
	Logger *slog.Logger
	// NextTradeNo makes the trade numbers of payments with points: positive, and unique for
	// ever across all processes. Required with Points.
	NextTradeNo func() (int64, error)
	// NoticesMax is how many questions in one second Alipay is asked because of its notices and of
	// shoppers who wait. What is beyond is told to come again. Default 2,000.
	NoticesMax int
	// Points takes and gives back points. nil: orders cannot be paid with them.
	Points Points
	// RecoverEvery is how often what a crash has left is looked for. Default 1 s.
	RecoverEvery time.Duration
	// Registerer receives the metrics. Default: none.
	Registerer prometheus.Registerer
	// StepTimeout bounds the steps that follow a request, and each recovery. They do not end
	// with the request: a shopper who goes away should not leave work for a recovery.
	// Default 15 s.
	StepTimeout time.Duration
	// Tell hears of every order that changes its state, after the commit: what websockets show.
	// Default: nobody.
	Tell func(ctx context.Context, results []flashsale.Result)
	// Wake is called after units were given back, so that the relay looks at once. Default: it
	// looks a moment later.
	Wake func()
}

func (c Config) withDefaults() Config {
	c.AtOnce = cmp.Or(c.AtOnce, DefaultAtOnce)
	c.NoticesMax = cmp.Or(c.NoticesMax, DefaultNoticesMax)
	c.RecoverEvery = cmp.Or(c.RecoverEvery, DefaultRecoverEvery)
	c.StepTimeout = cmp.Or(c.StepTimeout, DefaultStepTimeout)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Tell == nil {
		c.Tell = func(context.Context, []flashsale.Result) {}
	}
	if c.Wake == nil {
		c.Wake = func() {}
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Ledger == nil:
		return errors.New("pay: Ledger is required")
	case c.Points != nil && c.NextTradeNo == nil:
		return errors.New("pay: NextTradeNo is required with Points")
	case c.AtOnce < 1 || c.AtOnce > AtOnceMax:
		return fmt.Errorf("pay: AtOnce must be from 1 to %d, not %d", AtOnceMax, c.AtOnce)
	case c.NoticesMax < 1 || c.NoticesMax > NoticesMaxMax:
		return fmt.Errorf("pay: NoticesMax must be from 1 to %d, not %d", NoticesMaxMax, c.NoticesMax)
	case c.RecoverEvery < RecoverEveryMin:
		return fmt.Errorf("pay: RecoverEvery must be at least %s, not %s", RecoverEveryMin, c.RecoverEvery)
	case c.StepTimeout < 0:
		return fmt.Errorf("pay: StepTimeout must be positive, not %s", c.StepTimeout)
	}
	return nil
}
