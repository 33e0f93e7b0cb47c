package baseline

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	triesMax   = 10
	retryPause = 2 * time.Millisecond // at most; the pause is random
)

// optimistic reads stock and version without a lock, decides, and writes only if the version is
// still the one it read; or else it tries again.
//
// It is what object-relational mappers offer, and is right on any number of nodes: every order
// raises the version, so a second order of the same user conflicts as well. It is made for
// rows over which people seldom meet. At a flash sale all meet over one row: of those who read
// the same version one wins, the others have waited for its commit to learn that they lost,
// and who loses too often is sent away although units are left.
type optimistic struct{ table }

func openOptimistic(s Stores) (Strategy, error) { return &optimistic{newTable(s)}, nil }

// Buy implements [Strategy].
func (o *optimistic) Buy(ctx context.Context, user string, number int64) (Outcome, error) {
	for range triesMax {
		outcome, err := o.try(ctx, user, number)
		if err != nil || outcome != conflict {
			return outcome, err
		}
		timer := time.NewTimer(rand.N(retryPause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return 0, ctx.Err()
		case <-timer.C:
		}
	}
	return Overloaded, nil
}

// conflict is the outcome of a try that others have overtaken.
const conflict Outcome = 0

// try reads and writes on one connection: to wait for a second one in between would make the
// version old.
func (o *optimistic) try(ctx context.Context, user string, number int64) (outcome Outcome, err error) {
	err = o.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var version int64
		if outcome, version, err = o.look(ctx, tx, user); err != nil {
			return err
		}
		if outcome != Accepted {
			return errRefused
		}
		tag, err := tx.Exec(ctx, `UPDATE baseline.stock SET stock = stock - 1, version = version + 1
			WHERE item = $1 AND version = $2`, o.item, version)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			outcome = conflict
			return errRefused
		}
		return o.insert(ctx, tx, user, number)
	})
	return outcome, err
}

// look decides from one snapshot of stock, version and orders.
func (o *optimistic) look(ctx context.Context, tx pgx.Tx, user string) (Outcome, int64, error) {
	var (
		stock, version int64
		holds          bool
	)
	err := tx.QueryRow(ctx, `
		SELECT stock, version, EXISTS (SELECT FROM baseline.orders WHERE item = $1 AND "user" = $2)
		FROM baseline.stock WHERE item = $1`, o.item, user).Scan(&stock, &version, &holds)
	switch {
	case err != nil:
		return 0, 0, err
	case holds:
		return Duplicate, version, nil
	case stock < 1:
		return SoldOut, version, nil
	}
	return Accepted, version, nil
}
