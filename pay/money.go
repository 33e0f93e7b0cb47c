package pay

import (
	"context"
	"fmt"

	"flashsale"
	"flashsale/pay/points"
)

// moneyPage is how many payments are compared at once.
const moneyPage = 1_000

// Money reports how the money stands, for the audit: what the order database holds, what the
// points database holds, and whether the two say the same of every order. The two cannot be
// read in one instant, so a payment that is under way may look like a contradiction: what is
// seen in two reports in a row is one. It looks at orders from a number on, and at all for 0; of
// the points' own books it always adds up all.
func (d *Desk) Money(ctx context.Context, since flashsale.OrderNo) (flashsale.MoneyReport, error) {
	report, err := d.config.Ledger.Money(ctx, since)
	if err != nil || d.config.Points == nil {
		return report, err
	}
	figures, err := d.config.Points.Figures(ctx)
	if err != nil {
		return report, err
	}
	if figures.Granted+figures.Refunded != figures.Debited+figures.Balance {
		report.Broken = append(report.Broken, fmt.Sprintf("points: granted %d + refunded %d is not debited %d + balances %d",
			figures.Granted, figures.Refunded, figures.Debited, figures.Balance))
	}
	if figures.Held != figures.Frozen {
		report.Broken = append(report.Broken, fmt.Sprintf("points: %d are held, %d are frozen", figures.Held, figures.Frozen))
	}
	for _, mismatch := range figures.Mismatches {
		report.Broken = append(report.Broken, "points: "+mismatch.String())
	}
	if err := d.comparePoints(ctx, since, &report); err != nil {
		return report, err
	}
	return report, nil
}

// comparePoints walks both databases in the order of the order numbers.
func (d *Desk) comparePoints(ctx context.Context, since flashsale.OrderNo, report *flashsale.MoneyReport) error {
	before := max(since-1, 0)
	ours := pager[flashsale.PointsPayment]{
		read: d.config.Ledger.PointsPayments,
		key:  func(p flashsale.PointsPayment) flashsale.OrderNo { return p.OrderNo }, after: before,
	}
	theirs := pager[points.OrderFigures]{
		read: d.config.Points.Orders,
		key:  func(f points.OrderFigures) flashsale.OrderNo { return f.OrderNo }, after: before,
	}
	for {
		payment, paying, err := ours.peek(ctx)
		if err != nil {
			return err
		}
		hold, holding, err := theirs.peek(ctx)
		if err != nil {
			return err
		}
		var line string
		switch {
		case !paying && !holding:
			return nil
		case paying && (!holding || payment.OrderNo < hold.OrderNo):
			line = comparePayment(payment, points.OrderFigures{})
			ours.next()
		case !paying || hold.OrderNo < payment.OrderNo:
			line = fmt.Sprintf("points of order %s are %s, and no payment was begun", hold.OrderNo, hold.State)
			theirs.next()
		default:
			line = comparePayment(payment, hold)
			ours.next()
			theirs.next()
		}
		if line != "" {
			report.Broken = append(report.Broken, line)
		}
	}
}

// comparePayment tells how the two databases contradict each other about one order.
func comparePayment(p flashsale.PointsPayment, h points.OrderFigures) string {
	debited := h.State == points.StateConfirmed || h.State == points.StateRefunded
	over := p.State == flashsale.IntentDone || p.State == flashsale.IntentShort
	switch {
	case p.Paid && over && !debited:
		return fmt.Sprintf("order %s is paid with points that were never taken", p.OrderNo)
	case p.Paid && !debited && h.State != points.StateHeld:
		return fmt.Sprintf("order %s is paid with points that are not frozen", p.OrderNo)
	case debited && !p.Paid:
		return fmt.Sprintf("points of order %s were taken, and it is not paid with them", p.OrderNo)
	case h.State == points.StateHeld && p.State == flashsale.IntentDone:
		return fmt.Sprintf("points of order %s are frozen for nothing", p.OrderNo)
	case h.State != "" && (h.Points != p.Points || h.TradeNo != p.TradeNo || h.User != p.User):
		return fmt.Sprintf("order %s: %d points of %s by trade %d, but the points database has %d of %s by %d",
			p.OrderNo, p.Points, p.User, p.TradeNo, h.Points, h.User, h.TradeNo)
	case debited && h.Debit != p.Points, h.State == points.StateRefunded && h.Refund != h.Debit:
		return fmt.Sprintf("order %s: %d points were paid, %d taken and %d put back", p.OrderNo, p.Points, h.Debit, h.Refund)
	case h.State == points.StateRefunded && p.Refund == "":
		return fmt.Sprintf("points of order %s were put back, and no refund was begun", p.OrderNo)
	case p.Refund == flashsale.RefundDone && h.State != points.StateRefunded:
		return fmt.Sprintf("order %s is refunded, and its points were not put back", p.OrderNo)
	}
	return ""
}

// pager reads rows one by one, a page at a time.
type pager[T any] struct {
	read  func(ctx context.Context, after flashsale.OrderNo, limit int) ([]T, error)
	key   func(T) flashsale.OrderNo
	page  []T
	after flashsale.OrderNo
	ended bool
}

func (p *pager[T]) peek(ctx context.Context) (row T, ok bool, err error) {
	if len(p.page) == 0 && !p.ended {
		if p.page, err = p.read(ctx, p.after, moneyPage); err != nil {
			return row, false, err
		}
		p.ended = len(p.page) < moneyPage
	}
	if len(p.page) == 0 {
		return row, false, nil
	}
	return p.page[0], true, nil
}

func (p *pager[T]) next() {
	p.after, p.page = p.key(p.page[0]), p.page[1:]
}
