package pay

import (
	"context"

	"flashsale"
	"flashsale/pay/points"
)

// Points returns what a user has, with a page of at most limit entries, older than the sequence
// before (0: from the newest on). [ErrUnavailable] without a points service.
func (d *Desk) Points(
	ctx context.Context, user string, before int64, limit int,
) (statement flashsale.PointsStatement, err error) {
	if d.config.Points == nil {
		return statement, ErrUnavailable
	}
	account, err := d.config.Points.Account(ctx, user)
	if err != nil {
		return statement, err
	}
	entries, err := d.config.Points.Entries(ctx, user, before, limit)
	if err != nil {
		return statement, err
	}
	statement = flashsale.PointsStatement{
		Balance: account.Balance, Frozen: account.Frozen, Entries: make([]flashsale.PointsEntry, len(entries)),
	}
	for i, entry := range entries {
		statement.Entries[i] = flashsale.PointsEntry{
			Sequence: entry.Sequence, Type: string(entry.Type), OrderNo: entry.OrderNo, Ref: entry.Ref,
			Points: entry.Points, Balance: entry.Balance, At: entry.At,
		}
	}
	return statement, nil
}

// Grant gives points to a user, once for each reference. It reports false when the user would
// have been given more than one may ever be; a reference that stands for another grant is
// [flashsale.ErrConflict].
func (d *Desk) Grant(ctx context.Context, user string, amount int64, ref string) (granted bool, err error) {
	if d.config.Points == nil {
		return false, ErrUnavailable
	}
	outcome, err := d.config.Points.Grant(ctx, user, amount, ref)
	return err == nil && outcome != points.LimitReached, err
}
