package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

// leaseTries is how often an id is drawn: another process may take the one that was drawn.
const leaseTries = 16

// staleAfter is how long a holder must have been silent before its id is given to another
// although its span has not ended. That happens only when no other id is left, and harms nobody
// (the next span lies above), but its numbers are then ahead of the time.
const staleAfter = time.Minute

// clock_timestamp, not now: what is read must not be older than the rows.
const registryNow = `floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint`

// The span of an id starts above all that its holders before may have used. The guard of the
// update says the same again about the newest version of the row.
const leaseNodeSQL = `
WITH clock AS MATERIALIZED (SELECT ` + registryNow + ` AS now_ms), drawn AS (
    SELECT s.id, greatest(c.now_ms, coalesce(n.until_ms, 0) + 1) AS from_ms
    FROM generate_series(0, $4 - 1) AS s (id) CROSS JOIN clock c LEFT JOIN nodes n ON n.id = s.id
    WHERE n.owner IS NULL OR n.until_ms < c.now_ms
        OR n.renewed_at < clock_timestamp() - make_interval(secs => $5)
    ORDER BY n.owner IS NOT NULL AND n.until_ms >= c.now_ms, from_ms, random() LIMIT 1
)
INSERT INTO nodes AS n (id, owner, name, until_ms)
SELECT id, $1, $2, from_ms + $3 FROM drawn
ON CONFLICT (id) DO UPDATE
    SET owner = excluded.owner, name = excluded.name, until_ms = excluded.until_ms,
        leased_at = clock_timestamp(), renewed_at = clock_timestamp()
    WHERE n.until_ms < excluded.until_ms - $3
RETURNING id, until_ms - $3, until_ms`

const renewNodeSQL = `
UPDATE nodes SET until_ms = greatest(until_ms, greatest(` + registryNow + `, $2) + $3),
    renewed_at = clock_timestamp()
WHERE owner = $1 RETURNING id, ` + registryNow + `, until_ms`

const endNodeSQL = `UPDATE nodes SET owner = NULL, until_ms = $2 WHERE owner = $1`

// LeaseNode gives the owner, an unguessable token, a node id for the term. The name says to
// people whose it is. No number of the returned span was or will be made by anybody else: not by
// a holder before, whose span ends below, nor by one after, who starts above the end of this one,
// or above what [Ledger.EndNode] says was used of it.
func (l *Ledger) LeaseNode(ctx context.Context, owner, name string, term time.Duration) (flashsale.NodeLease, error) {
	for range leaseTries {
		lease, err := l.nodeLease(ctx, leaseNodeSQL, owner, name, term.Milliseconds(), flashsale.NodesMax, staleAfter.Seconds())
		if !errors.Is(err, pgx.ErrNoRows) {
			return lease, classify("lease node id", err)
		}
	}
	return flashsale.NodeLease{}, fmt.Errorf("lease node id: all %d are held", flashsale.NodesMax)
}

// RenewNode extends the owner's lease to the term from now, or from usedMS, the last millisecond
// it may have used, where that is later. [flashsale.ErrNotFound] when the id is another's by now.
func (l *Ledger) RenewNode(ctx context.Context, owner string, usedMS int64, term time.Duration) (flashsale.NodeLease, error) {
	lease, err := l.nodeLease(ctx, renewNodeSQL, owner, usedMS, term.Milliseconds())
	return lease, classify("renew node id", err)
}

// EndNode gives the owner's id back. Of its span nothing after usedMS was used.
func (l *Ledger) EndNode(ctx context.Context, owner string, usedMS int64) error {
	_, err := l.pool.Exec(ctx, endNodeSQL, owner, usedMS)
	return classify("give node id back", err)
}

func (l *Ledger) nodeLease(ctx context.Context, sql string, args ...any) (lease flashsale.NodeLease, err error) {
	err = l.pool.QueryRow(ctx, sql, args...).Scan(&lease.ID, &lease.NowMS, &lease.UntilMS)
	return lease, err
}

// Partitions returns over how many partitions the items are spread. Where none is stored yet,
// first is stored.
func (l *Ledger) Partitions(ctx context.Context, first int) (partitions int, err error) {
	const storedSQL = `SELECT partitions FROM installation`
	const storeSQL = `
INSERT INTO installation (partitions) VALUES ($1)
ON CONFLICT (one) DO UPDATE SET partitions = installation.partitions RETURNING partitions`
	err = l.pool.QueryRow(ctx, storedSQL).Scan(&partitions)
	if errors.Is(err, pgx.ErrNoRows) {
		err = l.pool.QueryRow(ctx, storeSQL, first).Scan(&partitions)
	}
	return partitions, classify("number of partitions", err)
}
