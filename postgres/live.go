package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// LiveAfter is how long after its close an item stays live: Redis holds it for a day, and an hour
// makes up for clocks.
const LiveAfter = 25 * time.Hour

// LiveItems returns the ids of all items that Redis may hold orders of which the ledger does not:
// everything that has not been closed for [LiveAfter], by PostgreSQL's clock.
func (l *Ledger) LiveItems(ctx context.Context) ([]flashsale.ItemID, error) {
	const liveSQL = `SELECT id FROM items WHERE closes_at > now() - make_interval(secs => $1)`
	rows, _ := l.pool.Query(ctx, liveSQL, LiveAfter.Seconds())
	items, err := pgx.CollectRows(rows, pgx.RowTo[flashsale.ItemID])
	return items, classify("list live items", err)
}
